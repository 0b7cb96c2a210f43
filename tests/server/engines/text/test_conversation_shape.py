import json
from typing import Any

import pytest

pytest.importorskip("llguidance")

from server.engines.text.chat_template import ChatTemplate, Json
from server.engines.text.conversation_shape import ConversationShaper, joined_turns, with_system
from server.engines.text.tool_formats.base import Call, ToolFormat
from server.engines.text.tool_formats.generic import GENERIC
from server.engines.text.tool_formats.python_calls import LFM2

HEAD = "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}[{{ m.role }}]"
TAIL = "{% endfor %}"
RESULT = "{% if m.role == 'tool' %}{{ m.tool_call_id }}={% endif %}{{ m.content }}"
CALLS = "{% for c in m.tool_calls or [] %}"

TAKES_VALUES = (
    f"{HEAD}{RESULT}{CALLS}{{{{ c.id }}}}:{{{{ c.function.name }}}}{{{{ c.function.arguments | tojson }}}}"
    + ("{% endfor %}" + TAIL)
)
TAKES_TEXT = (
    f"{HEAD}{RESULT}{CALLS}{{{{ c.id + ':' + c.function.name + c.function.arguments }}}}" + "{% endfor %}" + TAIL
)
WANTS_NONE = (
    f"{HEAD}{{% if m.content is none %}}{CALLS}{{{{ c.function.name }}}}{{{{ c.function.arguments | tojson }}}}"
    "{% endfor %}{% else %}{{ m.content }}{% endif %}" + TAIL
)
WANTS_TEXT_CONTENT = TAKES_VALUES.replace("{{ m.content }}", "{{ m.content + '' }}")
SHORT_IDS = TAKES_VALUES.replace(
    CALLS, CALLS + "{% if c.id | length != 9 %}{{ raise_exception('nine characters') }}{% endif %}"
)
NAMED_IDS = TAKES_VALUES.replace("{{ c.function.name }}", "")
NO_CALLS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
TURNS = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns') }}"
    "{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
)

ONE_CALL = TAKES_VALUES.replace(
    CALLS, CALLS + "{% if m.tool_calls | length > 1 %}{{ raise_exception('one call at a time') }}{% endif %}"
)
SILENT_CALLS = TAKES_VALUES.replace(
    CALLS, "{% if m.tool_calls and m.content %}{{ raise_exception('no words with calls') }}{% endif %}" + CALLS
)
WRITES_NONE = TAKES_VALUES.replace("{{ m.content }}", "{{ m.content | string }}")
KNOWS_RESULTS = "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}" + NO_CALLS

TOOL: Json = {"type": "function", "function": {"name": "look", "description": "see", "parameters": {"type": "object"}}}


def call(name: str, arguments: Any, id: str) -> Json:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATION: list[Json] = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "", "tool_calls": [call("look", {"a": "b"}, "call_0123456789abcdef")]},
    {"role": "tool", "content": "sunny", "tool_call_id": "call_0123456789abcdef", "name": "look"},
]


BUSY: list[Json] = [
    {"role": "user", "content": "hi"},
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [call("look", {"a": "b"}, "call_1"), call("look", {"c": "d"}, "call_2")],
    },
    {"role": "tool", "content": "sunny", "tool_call_id": "call_1", "name": "look"},
    {"role": "tool", "content": "cold", "tool_call_id": "call_2", "name": "look"},
]


def rendered(
    source: str,
    conversation: list[Json] = CONVERSATION,
    tools: tuple[Json, ...] = (),
    form: ToolFormat = GENERIC,
) -> str:
    template = ChatTemplate(source)
    messages, shown = ConversationShaper(template, form).shaped(conversation, list(tools))
    return template.render(messages, tools=shown)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (TAKES_VALUES, 'call_0123456789abcdef:look{"a": "b"}[tool]call_0123456789abcdef=sunny'),
        (TAKES_TEXT, 'call_0123456789abcdef:look{"a": "b"}[tool]call_0123456789abcdef=sunny'),
        (WANTS_NONE, '[assistant]look{"a": "b"}[tool]sunny'),
        (WANTS_TEXT_CONTENT, 'call_0123456789abcdef:look{"a": "b"}[tool]'),
        (SHORT_IDS, '789abcdef:look{"a": "b"}[tool]789abcdef=sunny'),
        (NAMED_IDS, 'functions.look:0:{"a": "b"}[tool]functions.look:0=sunny'),
        (NO_CALLS, '[assistant]{"name": "look", "arguments": {"a": "b"}}[user]Result of look:\nsunny'),
        (TURNS, '[user]hi[assistant]{"name": "look", "arguments": {"a": "b"}}[user]Result of look:\nsunny'),
    ],
)
def test_calls_and_results_are_shown_in_whatever_shape_the_template_takes(source: str, expected: str) -> None:
    assert expected in rendered(source)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            TAKES_VALUES,
            '[assistant]I look.call_1:look{"a": "b"}call_2:look{"c": "d"}[tool]call_1=sunny[tool]call_2=cold',
        ),
        (
            ONE_CALL,
            '[assistant]I look.call_1:look{"a": "b"}[tool]call_1=sunny'
            '[assistant]call_2:look{"c": "d"}[tool]call_2=cold',
        ),
        (
            SILENT_CALLS,
            '[assistant]I look.[assistant]call_1:look{"a": "b"}call_2:look{"c": "d"}'
            "[tool]call_1=sunny[tool]call_2=cold",
        ),
    ],
)
def test_calls_take_as_many_turns_as_the_template_needs_for_them(source: str, expected: str) -> None:
    assert expected in rendered(source, BUSY)


def test_content_that_is_none_is_not_written_out() -> None:
    assert "None" not in rendered(WRITES_NONE)


def test_calls_that_a_template_does_not_show_are_written_as_the_model_writes_them() -> None:
    text = rendered(KNOWS_RESULTS, BUSY, (TOOL,), LFM2)
    assert (
        "[assistant]I look.\n<|tool_call_start|>[look(a='b'), look(c='d')]<|tool_call_end|>[tool]sunny[tool]cold"
        in text
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for m in messages %}{{ m.reasoning_content }}{% endfor %}", "hm"),
        ("{% for m in messages %}{{ m['reasoning'] }}{% endfor %}", "hm"),
        ("{% for m in messages %}{{ m.get('thinking', '') }}{% endfor %}", "hm"),
        ("{% for m in messages %}{{ m.content }} after reasoning{% endfor %}", "yes after reasoning"),
    ],
)
def test_thoughts_are_given_by_the_name_that_the_template_has_for_them(source: str, expected: str) -> None:
    assert rendered(source, [{"role": "assistant", "content": "yes", "reasoning_content": "hm"}]) == expected


@pytest.mark.parametrize("source", [TAKES_VALUES, TAKES_TEXT, WANTS_NONE, SHORT_IDS, NO_CALLS])
@pytest.mark.parametrize("arguments", ["garbage", [1], None, 7])
def test_arguments_that_are_no_object_do_no_harm(source: str, arguments: Any) -> None:
    conversation = [*CONVERSATION, {"role": "assistant", "content": "x", "tool_calls": [call("look", arguments, "c2")]}]
    conversation.append({"role": "tool", "content": "done", "tool_call_id": "unknown"})
    assert "done" in rendered(source, conversation)


def test_a_conversation_without_calls_stays_as_it_is() -> None:
    conversation: list[Json] = [{"role": "user", "content": "hi"}, {"role": "user", "content": "ho"}]
    shaper = ConversationShaper(ChatTemplate(NO_CALLS), GENERIC)
    assert shaper.shaped(conversation, []) == (conversation, [])


def test_tools_are_told_in_the_system_message_where_the_template_has_no_place_for_them() -> None:
    system: Json = {"role": "system", "content": "Be kind."}
    for conversation in ([CONVERSATION[0]], [system, CONVERSATION[0]]):
        text = rendered(NO_CALLS, conversation, (TOOL,))
        assert text.startswith("[system]")
        assert json.dumps(TOOL["function"]) in text
        assert GENERIC.written([Call("name", {"argument": "value"})]) in text
    assert "Be kind." in text
    assert "[system]" not in rendered(TAKES_VALUES, [CONVERSATION[0]], (TOOL,))


def test_neighbours_of_one_role_are_joined() -> None:
    assert joined_turns([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]) == [
        {"role": "user", "content": "a\n\nb"}
    ]
    assert with_system([], "x") == [{"role": "system", "content": "x"}]
