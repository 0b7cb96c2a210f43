"""Where pictures stand in a prompt. In a conversation, a sign for each goes through the template with the text. Pure.

llama.cpp's own marks around a picture (`<|vision_start|>` ...) come with its pieces, so a template is never asked to
write any. As llama-server does, texts of one message are joined by line breaks, but for those beside a picture.

    parts                      content (# is the picture's sign)
    "a", "b"                   a⏎b
    "a", picture, "b"          a#b
    picture, "a", "b"          #a⏎b
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from server.core.errors import InvalidValue, Unsupported
from server.core.text import MOST_PICTURES, ChatRequest, CompletionRequest, Part, PicturePart, PlacedPicture, TextPart
from server.engines.text.control_text import Stretch
from server.engines.text.pictures import Picture


def pictures_in(request: ChatRequest | CompletionRequest) -> list[PicturePart]:
    """Return the pictures of a request, in order."""
    if isinstance(request, CompletionRequest):
        return [placed.picture for placed in request.pictures]
    return [part for message in request.messages for part in message.parts if isinstance(part, PicturePart)]


def check_pictures(pictures: Sequence[PicturePart], *, sees: bool) -> None:
    """Raise Unsupported or InvalidValue when a model does not see, or is shown too many pictures."""
    if pictures and not sees:
        text = "this model sees no pictures; put its projector (mmproj-*.gguf) beside its file"
        raise Unsupported.of(pictures[0].param, text)
    if len(pictures) > MOST_PICTURES:
        text = f"a request can have {MOST_PICTURES} pictures, not {len(pictures)}"
        raise InvalidValue.of(pictures[MOST_PICTURES].param, text)


def content_of(parts: Sequence[Part], signs: Iterator[str]) -> str:
    """Return the content of a message, with the next of the signs for each picture."""
    content = ""
    after_text = False
    for part in parts:
        match part:
            case TextPart(text=text):
                content += f"\n{text}" if after_text else text
            case PicturePart():
                content += next(signs)
        after_text = isinstance(part, TextPart)
    return content


def cut_at_pictures(text: str, placed: Sequence[PlacedPicture], pictures: Sequence[Picture]) -> list[Stretch | Picture]:
    """Return a raw prompt with its pictures [n] in their places [n]; control tokens in its text are parsed."""
    parts: list[Stretch | Picture] = []
    begin = 0
    for place, picture in zip(placed, pictures, strict=True):
        if place.at > begin:
            parts.append(Stretch(text[begin : place.at], special=True))
        parts.append(picture)
        begin = max(begin, place.at)
    return [*parts, Stretch(text[begin:], special=True)] if begin < len(text) else parts


def with_pictures(stretches: Sequence[Stretch], pictures: Mapping[str, Picture]) -> list[Stretch | Picture]:
    """Return a rendered prompt with the pictures in the place of their signs.

    Raises:
        InvalidValue: the template does not show one of them.
    """
    sign = re.compile(f"([{''.join(pictures)}])")
    parts: list[Stretch | Picture] = []
    for stretch in stretches:
        for text in sign.split(stretch.text):
            picture = pictures.get(text)
            if picture is not None:
                parts.append(picture)
            elif text:
                parts.append(Stretch(text, stretch.special))
    if sum(isinstance(part, Picture) for part in parts) < len(pictures):
        raise InvalidValue.of("messages", "the model's chat template does not show all pictures of this conversation")
    return parts
