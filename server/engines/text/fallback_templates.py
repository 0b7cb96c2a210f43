"""Chat templates for models whose file has none: by name in the settings, by control tokens, or by the file's name.

Written for this project from the published prompt formats. The plain form suits models that know no turns. Models of
2023 were tuned on text of their own kinds; nothing in their files says on which, so their names must.
"""

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
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

_ASKED = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% else %}"
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "{% endif %}"
)

ALPACA = (
    _ASKED + "{% for m in messages %}"
    "{% if m.role == 'assistant' %}{{ '\n\n### Response:\n' }}{{ m.content }}"
    "{% elif not (loop.first and m.role == 'system') %}{{ '\n\n### Instruction:\n' }}{{ m.content }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\n### Response:\n' }}{% endif %}"
)

GPT4ALL = (
    "{{ '### Instruction:\n' }}{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% else %}"
    "The prompt below is a question to answer, a task to complete, or a conversation to respond to; decide which and "
    "write an appropriate response.{% endif %}{% for m in messages %}"
    "{% if m.role == 'assistant' %}{{ '\n### Response:\n' }}{{ m.content }}"
    "{% elif not (loop.first and m.role == 'system') %}{{ '\n### Prompt:\n' }}{{ m.content }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n### Response:\n' }}{% endif %}"
)

VICUNA_0 = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% else %}"
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the human's questions.{% endif %}{{ '\n' }}{% for m in messages %}"
    "{% if m.role == 'assistant' %}{{ '\n### Assistant: ' }}{{ m.content }}"
    "{% elif not (loop.first and m.role == 'system') %}{{ '\n### Human: ' }}{{ m.content }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n### Assistant:' }}{% endif %}"
)

VICUNA = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% else %}"
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions.{% endif %}{% for m in messages %}"
    "{% if m.role == 'assistant' %} ASSISTANT: {{ m.content }}{{ eos_token }}"
    "{% elif loop.first and m.role == 'system' %}"
    "{% elif loop.previtem is defined and loop.previtem.role == 'assistant' %}USER: {{ m.content }}"
    "{% else %} USER: {{ m.content }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)

LLAMA_2 = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('there is no system role') if not loop.first }}"
    "{% elif m.role == 'assistant' %} {{ m.content | trim }} {{ eos_token }}"
    "{% else %}{% if loop.previtem is defined and loop.previtem.role == 'assistant' %}{{ bos_token }}{% endif %}"
    "{{ '[INST] ' }}{% if loop.previtem is defined and loop.previtem.role == 'system' %}"
    "{{ '<<SYS>>\n' }}{{ loop.previtem.content }}{{ '\n<</SYS>>\n\n' }}{% endif %}{{ m.content | trim }} [/INST]"
    "{% endif %}{% endfor %}"
)


class Fallback(NamedTuple):
    """A template and the strings that end a turn, for formats in which no token does."""

    source: str
    stops: tuple[str, ...] = ()


FORMS: Mapping[str, Fallback] = MappingProxyType(
    {
        "alpaca": Fallback(ALPACA, stops=("### Instruction:", "### Response:", "### Input:")),
        "chatml": Fallback(CHATML),
        "gemma": Fallback(GEMMA),
        "gpt4all": Fallback(GPT4ALL, stops=("###",)),
        "llama-2": Fallback(LLAMA_2),
        "llama-3": Fallback(LLAMA_3),
        "mistral": Fallback(MISTRAL),
        "phi-3": Fallback(PHI_3),
        "plain": Fallback(PLAIN, stops=("\nUser:",)),
        "vicuna": Fallback(VICUNA, stops=("USER:",)),
        "vicuna-v0": Fallback(VICUNA_0, stops=("### Human:", "###")),
    }
)
"""The forms that settings may name."""

_BY_TOKEN = (
    ("<|im_start|>", "chatml"),
    ("<|start_header_id|>", "llama-3"),
    ("<start_of_turn>", "gemma"),
    ("<|assistant|>", "phi-3"),
    ("[INST]", "mistral"),
)

_BY_NAME = (
    (re.compile(r"snoozy|gpt4all[-_.]?l13b"), "gpt4all"),
    (re.compile(r"wizard[-_.]?vicuna|vicuna.*(?<!\d)v?1[-_.][1-9](?!\d)"), "vicuna"),
    (re.compile(r"vicuna"), "vicuna-v0"),
    (re.compile(r"llama[-_.]?2.*chat"), "llama-2"),
    (re.compile(r"alpaca|gpt4all|gpt4[-_.]?x|wizard"), "alpaca"),
)
"""What models of 2023 are called, in lower case; the first that is found holds."""


def choose(control: Collection[str], name: str = "", *, of_2023: bool = False) -> Fallback:
    """Return the form for a vocabulary with these control tokens, of a model in a file `name`.

    A model in a container of 2023 of which nothing is known gets the mildest guess for those, the Alpaca form.
    """
    for token, form in _BY_TOKEN:
        if token in control:
            return FORMS[form]
    for pattern, form in _BY_NAME:
        if pattern.search(name.casefold()):
            return FORMS[form]
    return FORMS["alpaca" if of_2023 else "plain"]
