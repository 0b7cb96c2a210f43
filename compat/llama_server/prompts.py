"""The shapes that a prompt has on the wire. Pure.

| on the wire | prompts |
|---|---|
| `"a"` | `"a"` |
| `[1, 2]` | the tokens 1, 2 |
| `{"prompt_string": "a"}` | `"a"` |
| `["a", [1, 2], {"prompt_string": "b"}]` | three |
| `[1, "a"]` | refused: one prompt of tokens and text together |
"""

from typing import Any

from compat.llama_server import wire
from server.core.errors import InvalidValue, Unsupported

MAX_PROMPTS = 2048

Prompt = str | tuple[int, ...]


def prompts_to_core(prompt: str | dict[str, Any] | list[Any], at: str = "prompt") -> tuple[Prompt, ...]:
    """Return the prompts of the field `at`; raise InvalidValue or Unsupported with the path of what is wrong."""
    if not isinstance(prompt, list) or any(_is_number(item) for item in prompt):
        return (_one(prompt, at),)
    if len(prompt) > MAX_PROMPTS:
        raise InvalidValue.of(at, f"'{at}' has {len(prompt)} entries, at most {MAX_PROMPTS} are taken")
    return tuple(_one(item, f"{at}[{index}]") for index, item in enumerate(prompt))


def _is_number(item: Any) -> bool:
    return isinstance(item, int | float) and not isinstance(item, bool)


def _one(prompt: Any, at: str) -> Prompt:
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, dict):
        return _object(prompt, at)
    if not isinstance(prompt, list) or not prompt:
        raise InvalidValue.of(at, f"'{at}' must be a text, a list of tokens or an object with 'prompt_string'")
    if any(isinstance(item, str) for item in prompt):
        raise Unsupported.of(at, f"'{at}' mixes tokens and text, which is not supported by this server")
    for item in prompt:
        if type(item) is not int or not 0 <= item <= wire.INT32:
            raise InvalidValue.of(at, f"'{at}' has an entry that is not a token id")
    return tuple(prompt)


def _object(prompt: dict[str, Any], at: str) -> str:
    if prompt.get("multimodal_data"):
        raise Unsupported.of(f"{at}.multimodal_data", f"'{at}.multimodal_data' is not supported by this server")
    text = prompt.get("prompt_string")
    if not isinstance(text, str):
        raise InvalidValue.of(f"{at}.prompt_string", f"'{at}.prompt_string' must be a text")
    return text
