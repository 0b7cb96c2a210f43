"""`interrogate`: a picture to words, by a chat model that sees and that the configuration names for it.

| model | what is asked for | options that act |
|---|---|---|
| `clip` | a sentence that a picture like it could be made from | |
| `deepdanbooru` | tags | `deepbooru_sort_alpha`, `deepbooru_use_spaces`, `deepbooru_escape`, `deepbooru_filter_tags` |
"""

import asyncio
import re
from typing import Final, Literal

from compat.a1111 import encoded, wire
from compat.a1111.options import OptionValues
from compat.a1111.refusals import NotHere, Refused
from compat.a1111.settings import A1111Settings
from server.core.text import ChatRequest, Message, PicturePart, SamplingParams, TextDelta, TextPart
from server.service.service import Service

Style = Literal["clip", "deepdanbooru"]
STYLES: Final[tuple[Style, ...]] = ("clip", "deepdanbooru")

QUESTIONS: Final[dict[Style, str]] = {
    "clip": (
        "Describe this picture in one or two short sentences, as a prompt from which an image generator could make it:"
        " what is to be seen, then style and light. Answer with the description alone."
    ),
    "deepdanbooru": (
        "List what is to be seen in this picture as short tags in lower case, as image boards have them, separated by"
        " commas. Answer with the tags alone."
    ),
}

MOST_TOKENS = 200
MOST_TAGS = 100

NOT_SET_UP = (
    "captioning a picture is not offered: the configuration names no chat model that sees ([a1111] caption_model)"
)


class Captioner:
    """Asks the chat model that the configuration names. Owned by the door."""

    def __init__(self, service: Service, settings: A1111Settings) -> None:
        self._service = service
        self._model = settings.caption_model

    def check(self) -> None:
        """Raise NotHere where no model is named."""
        if not self._model:
            raise NotHere(NOT_SET_UP)

    async def answer(self, asked: wire.InterrogateRequest, options: OptionValues, owner: str) -> wire.CaptionAnswer:
        """Do `interrogate`.

        Raises:
            Refused: the picture is none, or the way of captioning is unknown.
            NotHere: no model is configured.
            ServerError: what the job ended with, Unsupported where the model cannot see.
        """
        picture = await asyncio.to_thread(encoded.picture, asked.image)
        style = next((style for style in STYLES if style == asked.model), None)
        if style is None:
            raise Refused.http("Model not found", status=404)
        return wire.CaptionAnswer(caption=await self.caption(picture, style, options, owner))

    async def caption(self, picture: bytes, style: Style, options: OptionValues, owner: str) -> str:
        """Return what is to be seen; raise as `answer`."""
        self.check()
        said: list[str] = []
        async with self._service.submit(question(self._model, picture, style), owner=owner) as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    said.append(event.text)
        text = "".join(said)
        return tags(text, options) if style == "deepdanbooru" else " ".join(text.split())


def question(model: str, picture: bytes, style: Style) -> ChatRequest:
    """Return what the chat model is asked. Pure."""
    parts = (PicturePart(picture, "image"), TextPart(QUESTIONS[style]))
    return ChatRequest(
        model=model,
        messages=(Message(role="user", parts=parts),),
        sampling=SamplingParams(temperature=0.0, max_tokens=MOST_TOKENS),
        reasoning_budget=0,
    )


def tags(text: str, options: OptionValues) -> str:
    """Return a model's list of tags as DeepDanbooru's are written. Pure."""
    words = [word.strip(" \t.\"'-*`").lower().replace("_", " ") for word in re.split(r"[,\n;]", text)]
    hidden = {word.strip().replace("_", " ") for word in options.text("deepbooru_filter_tags").lower().split(",")}
    found = list(dict.fromkeys(word for word in words if word and word not in hidden))[:MOST_TAGS]
    if options.flag("deepbooru_sort_alpha"):
        found.sort()
    if not options.flag("deepbooru_use_spaces"):
        found = ["_".join(word.split()) for word in found]
    if options.flag("deepbooru_escape"):
        found = [re.sub(r"([\\()])", r"\\\1", word) for word in found]
    return ", ".join(found)
