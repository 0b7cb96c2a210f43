import resource
import sys
import time

import pytest

from server.core.errors import InvalidValue
from server.engines.text import chat_template
from server.engines.text.chat_template import ChatTemplate

TALK = [{"role": "user", "content": "Be kind."}]

GROWING = "{% set ns = namespace(s='xxxxxxxx', n=3, l=[1, 1]) %}{% for i in range(60) %}"
END = "{% endfor %}{{ ns.s | length }}"
BOMBS = {
    "joined": GROWING + "{% set ns.s = ns.s ~ ns.s %}" + END,
    "added": GROWING + "{% set ns.s = ns.s + ns.s %}" + END,
    "captured": GROWING + "{% set s %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = s %}" + END,
    "by a macro": "{% macro m(s) %}{{ s }}{{ s }}{% endmacro %}" + GROWING + "{% set ns.s = m(ns.s) %}" + END,
    "by a filter": GROWING + "{% set ns.s = [ns.s, ns.s] | join %}" + END,
    "replaced": GROWING + "{% set ns.s = ns.s | replace('x', 'xx') %}" + END,
    "replaced by a method": GROWING + "{% set ns.s = ns.s.replace('x', 'xx') %}" + END,
    "formatted": GROWING + "{% set ns.s = '%s%s' % (ns.s, ns.s) %}" + END,
    "lists": GROWING + "{% set ns.l = ns.l + ns.l %}" + END,
    "lists that grow": GROWING + "{% set _ = ns.l.extend(ns.l) %}" + END,
    "lists in lists": GROWING + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | string | length }}",
    "lists in JSON": GROWING + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson | length }}",
    "numbers": GROWING + "{% set ns.n = ns.n * ns.n %}{% endfor %}{{ ns.n % 7 }}",
    "wide %": "{{ ('%1000000000s' % 'x') | length }}",
    "wide format": "{{ '%1000000000s' | format('x') | length }}",
    "wide braces": "{{ '{:1000000000}'.format('x') | length }}",
    "wide lines": "{{ 'x' | center(1000000000) | length }}",
    "filled": "{{ 'x'.ljust(1000000000) | length }}",
    "indented": "{{ 'x\\nx' | indent(1000000000) | length }}",
    "indented JSON": "{{ [1] | tojson(indent=1000000000) | length }}",
    "a long row": "{{ [1] | batch(1000000000, 'x') | list | length }}",
    "prose": "{{ lipsum(n=1000000000) | length }}",
    "one text in another": "{{ ('x' * 4000000) | replace('', 'y' * 4000000) | length }}",
}


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS)
@pytest.mark.skipif(sys.platform != "linux", reason="some need the limit of memory")
def test_what_would_take_all_memory_is_refused_and_leaves_nothing(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "MEMORY_LIMIT", 32 << 20)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(InvalidValue, match="refused this conversation"):
        ChatTemplate(source).render(TALK)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 128 * 1024, "in KiB; what the process had free before is used as well"
    assert time.monotonic() - began < 3 * chat_template.TIME_LIMIT_S
    assert ChatTemplate("{{ messages[0].content }}").render(TALK) == "Be kind."


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("{{ 'a' ~ 1 ~ none ~ [2] }}", "a1None[2]"),
        ("{{ 'a' + 'b' * 3 }} {{ 7 % 4 }} {{ '%s-%03d' % ('x', 7) }} {{ 2 ** 10 }}", "abbb 3 x-007 1024"),
        ("{% set s %}[{{ messages[0].content }}]{% endset %}{{ s }}", "[Be kind.]"),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(1) ~ m('y') }}", "<1><y>"),
        ("{{ 2.567 | round(2) }} {{ 2.1 | round(0, 'ceil') }}", "2.57 3.0"),
        ("{{ [1, {'a': none}] | string }} {{ {'a': [1]} }}", "[1, {'a': None}] {'a': [1]}"),
        ("{% set l = [] %}{% for i in range(3) %}{% set _ = l.append(i) %}{% endfor %}{{ l | tojson }}", "[0, 1, 2]"),
    ],
)
def test_ordinary_work_is_as_in_jinja(source: str, result: str) -> None:
    assert ChatTemplate(source).render(TALK) == result
