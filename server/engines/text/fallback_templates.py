"""Chat templates for models whose file has none, chosen by the control tokens that the vocabulary has.

Written for this project from the published prompt formats. The plain form at the end suits models that know no turns.
"""

from collections.abc import Collection
from typing import NamedTuple

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('there is no system role') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else 'user' }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)

PHI_3 = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

MISTRAL = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('there is no system role') }}{% endif %}"
    "{% if m.role == 'assistant' %}{{ m.content }}{{ eos_token }}{% else %}[INST] {{ m.content }} [/INST]{% endif %}"
    "{% endfor %}"
)

PLAIN = (
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'assistant' %}Assistant: {{ m.content }}\n"
    "{% else %}User: {{ m.content }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


class Fallback(NamedTuple):
    """A template and the strings that end a turn, for formats in which no token does."""

    source: str
    stops: tuple[str, ...] = ()


_BY_TOKEN = (
    ("<|im_start|>", CHATML),
    ("<|start_header_id|>", LLAMA_3),
    ("<start_of_turn>", GEMMA),
    ("<|assistant|>", PHI_3),
    ("[INST]", MISTRAL),
)


def choose(control: Collection[str]) -> Fallback:
    """Return the form for a vocabulary with these control tokens."""
    for token, source in _BY_TOKEN:
        if token in control:
            return Fallback(source)
    return Fallback(PLAIN, stops=("\nUser:",))
