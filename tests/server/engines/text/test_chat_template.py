import subprocess
import sys
import time
from typing import Any

import pytest

from server.core.errors import InvalidValue
from server.engines.text import chat_template, fallback_templates
from server.engines.text.chat_template import ChatTemplate, fold_system

SIMPLE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{% endfor %}"
)
BLIND_TO_SYSTEM = "{% for m in messages if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endfor %}"
PARTS = "{% for m in messages %}[{{ m.role }}]{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}"


def message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


TALK = [message("system", "Be kind."), message("user", "Hi")]


@pytest.mark.parametrize(
    ("source", "result"),
    [
        (SIMPLE, "[system]Be kind.[user]Hi>"),
        (NO_SYSTEM, "[user]Be kind.\n\nHi"),
        (BLIND_TO_SYSTEM, "[user]Be kind.\n\nHi"),
        (PARTS, "[system]Be kind.[user]Hi"),
        ("{% generation %}{{ messages[1].content }}{% endgeneration %}", "Hi"),
        ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% endfor %}", "Hi"),
        ("{{ bos_token }}{{ messages[0].content | trim }}{{ eos_token }}", "<s>Be kind.</s>"),
        ("{{ messages[1] | tojson }}", '{"role": "user", "content": "Hi"}'),
        ("{{ 'x' if strftime_now('%Y') | int > 2000 }}", "x"),
        ("{% set own = [] %}{% set _ = own.append(1) %}{% set _ = own.pop() %}{{ own | length }}", "0"),
        ("{% set rest = messages[1:] %}{% set _ = rest.append(1) %}{{ rest | length }}", "2"),
        ("  {% if true %}\n  a\n  {% endif %}\n", "  a\n"),
    ],
)
def test_templates_render_as_they_were_written_for(source: str, result: str) -> None:
    assert ChatTemplate(source, bos="<s>", eos="</s>").render(TALK) == result


def test_the_turn_is_opened_or_not() -> None:
    assert ChatTemplate(SIMPLE).render(TALK[1:], open_turn=False) == "[user]Hi"


def test_options_are_variables_but_cannot_replace_the_contract() -> None:
    source = "{{ thinking }}{{ messages | length }}{{ bos_token }}"
    options = {"thinking": "yes", "messages": "none", "bos_token": "evil"}
    assert ChatTemplate(source, bos="<s>").render(TALK, options=options) == "yes2<s>"


def test_tools_reach_the_template() -> None:
    template = ChatTemplate("{% for t in tools or [] %}{{ t.function.name }}{% endfor %}")
    assert template.knows_tools
    assert template.render(TALK, tools=[{"type": "function", "function": {"name": "add"}}]) == "add"
    assert not ChatTemplate(SIMPLE).knows_tools
    assert not ChatTemplate("{{ m.tool_calls }}").knows_tools


def test_old_templates_get_functions_as_text_and_the_time() -> None:
    template = ChatTemplate("{{ 'Functions: ' + functions }}{{ datetime | length > 10 }}")
    assert template.knows_tools
    function = {"name": "add", "parameters": {}}
    assert template.render(TALK, tools=[{"type": "function", "function": function}]) == (
        'Functions: [{"name": "add", "parameters": {}}]True'
    )


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for %}", "Expected"),
        ("{{ cycler.__init__.__globals__.os.popen('id') }}", "unsafe"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "append"),
        ("{{ missing.thing }}", "undefined"),
        ("{{ 1 / 0 }}", "division"),
        ("{{ 'a' * 100000000 }}", "too often"),
        ("{{ [1] * 100000000 }}", "too often"),
        ("{{ 9 ** 99999999 }}", "power"),
        ("{% for i in range(99999) %}{{ 'abcdefghij' * 1000 }}{% endfor %}", "longer than"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{{ 'a' * 10 ** 9 }}", "too often"),
        ("{{ 1 | round(10 ** 9, 'ceil') }}", "too many places"),
        ("{{ messages[0].content.foo() }}", "no attribute"),
        ("{% include '/etc/passwd' %}", "loader"),
    ],
)
def test_what_a_template_does_wrong_is_told_in_its_words(source: str, words: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        ChatTemplate(source).render(TALK)
    assert words in caught.value.message
    assert caught.value.fact("param") == "messages"


def test_a_template_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "TIME_LIMIT_S", 0.1)
    source = "{% set r = range(100000) %}" + "{% for i in r %}" * 4 + "{% endfor %}" * 4
    with pytest.raises(InvalidValue, match=r"ran for more than 0\.1 s"):
        ChatTemplate(source).render(TALK)


def test_a_template_that_does_not_end_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks a template how it wants its messages does not wait for it again and again."""
    monkeypatch.setattr(chat_template, "TIME_LIMIT_S", 0.2)
    source = "{% set r = range(100000) %}" + "{% for i in r %}" * 4 + "{% endfor %}" * 4
    began = time.monotonic()
    with pytest.raises(InvalidValue, match="ran for more"):
        ChatTemplate(source).render(TALK)
    assert time.monotonic() - began < 0.4


def test_native_code_that_does_not_return_ends_the_process() -> None:
    """Two lists of shared lists, equal to the last: 2 ** 60 comparisons without a step of Python."""
    lists = "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
    source = lists + "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}"
    program = (
        "import sys; from server.engines.text import chat_template as t; t.TIME_LIMIT_S, t.FATAL_S = 0.1, 0.5\n"
        "t.ChatTemplate(sys.argv[1]).render([{'role': 'user', 'content': 'x'}])"
    )
    ended = subprocess.run([sys.executable, "-c", program, source], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
    assert "chat_template.py" in ended.stderr


def test_the_refusal_of_the_unchanged_conversation_is_told() -> None:
    source = "{{ raise_exception('no ' + messages[0].role) }}"
    with pytest.raises(InvalidValue, match="no system"):
        ChatTemplate(source).render(TALK)


def test_folding_a_system_message() -> None:
    assert fold_system(TALK) == [message("user", "Be kind.\n\nHi")]
    assert fold_system(TALK[:1]) == [message("user", "Be kind.")]
    assert fold_system(TALK[1:]) == TALK[1:]
    assert fold_system([]) == []
    answer = message("assistant", "Yes")
    assert fold_system([TALK[0], answer]) == [message("user", "Be kind."), answer]


@pytest.mark.parametrize(
    ("token", "piece"),
    [
        ("<|im_start|>", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"),
        ("<|start_header_id|>", "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant"),
        ("<start_of_turn>", "<s><start_of_turn>user\nBe kind.\n\nHi<end_of_turn>\n<start_of_turn>model\n"),
        ("<|assistant|>", "<|user|>\nHi<|end|>\n<|assistant|>\n"),
        ("[INST]", "<s>[INST] Be kind.\n\nHi [/INST]"),
        ("<unrelated>", "Be kind.\n\nUser: Hi\nAssistant:"),
    ],
)
def test_the_fallback_suits_the_vocabulary(token: str, piece: str) -> None:
    fallback = fallback_templates.choose({token})
    rendered = ChatTemplate(fallback.source, bos="<s>", eos="</s>").render(TALK)
    assert piece in rendered
    assert "Be kind." in rendered
    assert bool(fallback.stops) == (token == "<unrelated>")
