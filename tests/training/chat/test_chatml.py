import random

import pytest

from server.engines.text.chat_template import ChatTemplate
from training.chat import tool_calls
from training.chat.chatml import BEGIN, END, TEMPLATE, written
from training.chat.dialogues import Dialogue, Dialogues
from training.chat.facts import Facts
from training.chat.topics import read_topics


@pytest.fixture(scope="module")
def dialogues() -> list[Dialogue]:
    drawn = iter(Dialogues(read_topics(Facts(parameters=2.1)), [], seed=7))
    return [next(drawn) for _ in range(300)]


def test_the_template_says_what_was_trained(dialogues: list[Dialogue]) -> None:
    template = ChatTemplate(TEMPLATE, bos="", eos=END)
    assert any(dialogue.tools for dialogue in dialogues)
    for dialogue in dialogues:
        prompt = dialogue.messages[:-1]
        text = template.render(prompt, tools=dialogue.tools)
        assert text == "".join(part for part, _ in written(prompt, dialogue.tools)) + f"{BEGIN}assistant\n"


def test_a_call_is_rendered_as_it_is_said() -> None:
    asked = tool_calls.time_asked(random.Random(1), tool_calls.clock_tool(random.Random(1)))
    said = tool_calls.call_text(asked.name, asked.arguments)
    call = {"type": "function", "function": {"name": asked.name, "arguments": asked.arguments}}
    user = {"role": "user", "content": "x"}
    template = ChatTemplate(TEMPLATE, bos="", eos=END)
    by_parts = template.render([user, {"role": "assistant", "content": "", "tool_calls": [call]}])
    assert by_parts == template.render([user, {"role": "assistant", "content": said}])


def test_only_the_assistant_is_learnt(dialogues: list[Dialogue]) -> None:
    for dialogue in dialogues:
        said = [part for part, own in written(dialogue.messages, dialogue.tools) if own]
        assert said == [m["content"] + END for m in dialogue.messages if m["role"] == "assistant"]
