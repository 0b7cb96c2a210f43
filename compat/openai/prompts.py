"""Raw texts and token ids, one or many: from the wire to the core. Pure.

| on the wire | in the core |
|---|---|
| `"a"` | one text |
| `["a", "b"]` | two texts |
| `[1, 2]` | one list of token ids |
| `[[1, 2], [3]]`, `["a", [1]]` | two of them |
"""

from typing import Any

from compat.openai import wire
from server.core.errors import InvalidValue

Prompts = tuple[str | tuple[int, ...], ...]


def prompts_to_core(given: str | list[Any], param: str) -> Prompts:
    """Return the texts and lists of token ids that a field holds; raise InvalidValue with the path of a wrong one."""
    if isinstance(given, str):
        return (given,)
    if all(isinstance(item, int) for item in given):
        return (tuple(given),)
    if len(given) > wire.MAX_PROMPTS:
        raise InvalidValue.of(param, f"'{param}' has {len(given)} entries, at most {wire.MAX_PROMPTS} are taken")
    return tuple(_prompt(item, f"{param}[{index}]") for index, item in enumerate(given))


def _prompt(item: str | int | list[int], where: str) -> str | tuple[int, ...]:
    if isinstance(item, str):
        return item
    if isinstance(item, int):
        text = f"'{where}' is a token id among texts or lists; give the ids of one text, or a list of texts"
        raise InvalidValue.of(where, text)
    if not item:
        raise InvalidValue.of(where, f"'{where}' has no token")
    if len(item) > wire.MAX_TOKEN_IDS:
        raise InvalidValue.of(where, f"'{where}' has more than {wire.MAX_TOKEN_IDS} token ids")
    return tuple(item)
