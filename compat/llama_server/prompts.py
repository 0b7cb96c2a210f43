"""The shapes that a prompt has on the wire. Pure.

| on the wire | prompts |
|---|---|
| `"a"` | `"a"` |
| `[1, 2]` | the tokens 1, 2 |
| `{"prompt_string": "a"}` | `"a"` |
| `{"prompt_string": "a<__media__>b", "multimodal_data": [BASE64]}` | `"ab"`, and the picture before its `b` |
| `["a", [1, 2], {"prompt_string": "b"}]` | three |
| `[1, "a"]` | refused: one prompt of tokens and text together |
"""

from typing import Any

from compat.llama_server import wire
from server.core.errors import InvalidValue, Unsupported
from server.core.text import Message, PicturePart, PlacedPicture
from server.http.pictures import check_pictures, picture_at, picture_in

MAX_PROMPTS = 2048
MEDIA_MARKER = "<__media__>"
"""Where a picture stands in the text of a prompt that has some; `/props` tells it."""

Prompt = str | tuple[int, ...]


def prompts_to_core(prompt: str | dict[str, Any] | list[Any], at: str = "prompt") -> tuple[Prompt, ...]:
    """Return the prompts of the field `at`, where there can be no pictures; raises as `pictured_prompts`."""
    prompts, pictures = pictured_prompts(prompt, at)
    if pictures:
        path = pictures[0].picture.param.rpartition("[")[0]
        raise Unsupported.of(path, f"'{path}' is not supported by this server here")
    return prompts


def pictured_prompts(
    prompt: str | dict[str, Any] | list[Any], at: str = "prompt"
) -> tuple[tuple[Prompt, ...], tuple[PlacedPicture, ...]]:
    """Return the prompts of the field `at` without their markers, and the pictures that stood there.

    Raises:
        InvalidValue, Unsupported: with the path of what is wrong.
    """
    found: list[PlacedPicture] = []
    prompts: list[Prompt] = []
    for number, (item, path) in enumerate(_items(prompt, at)):
        if isinstance(item, dict) and item.get("multimodal_data"):
            text, pictures = _pictured(item, path, number)
            prompts.append(text)
            found += pictures
        else:
            prompts.append(_one(item, path))
    check_pictures((Message(role="user", parts=tuple(placed.picture for placed in found)),))
    return tuple(prompts), tuple(found)


def _items(prompt: str | dict[str, Any] | list[Any], at: str) -> list[tuple[Any, str]]:
    """Return the prompts as they came, each with its path."""
    if not isinstance(prompt, list) or any(_is_number(item) for item in prompt):
        return [(prompt, at)]
    if len(prompt) > MAX_PROMPTS:
        raise InvalidValue.of(at, f"'{at}' has {len(prompt)} entries, at most {MAX_PROMPTS} are taken")
    return [(item, f"{at}[{index}]") for index, item in enumerate(prompt)]


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


def _pictured(prompt: dict[str, Any], at: str, number: int) -> tuple[str, list[PlacedPicture]]:
    """Return the text of a prompt without its markers, and what the markers stood for."""
    data, path = prompt["multimodal_data"], f"{at}.multimodal_data"
    texts = _object(prompt, at).split(MEDIA_MARKER)
    if not isinstance(data, list) or not all(isinstance(item, str) for item in data):
        raise InvalidValue.of(path, f"'{path}' must be a list of pictures in base64")
    if len(data) != len(texts) - 1:
        text = f"'{path}' has {len(data)} entries, and the text {len(texts) - 1} times {MEDIA_MARKER}"
        raise InvalidValue.of(path, text)
    placed = []
    length = 0
    for index, (text, item) in enumerate(zip(texts, data, strict=False)):
        length += len(text)
        picture = _picture(item, f"{path}[{index}]")
        placed.append(PlacedPicture(prompt=number, at=length, picture=picture))
    return "".join(texts), placed


def _picture(text: str, path: str) -> PicturePart:
    return picture_at(text, path) if text.startswith("data:") else picture_in(text, path)


def _object(prompt: dict[str, Any], at: str) -> str:
    text = prompt.get("prompt_string")
    if not isinstance(text, str):
        raise InvalidValue.of(f"{at}.prompt_string", f"'{at}.prompt_string' must be a text")
    return text
