"""A second, small model that guesses what the loaded one says next.

It has a context of its own with a few streams. Each stream keeps the text that it was used for last, so that a reply
that goes on, or a conversation that comes back, is read from where the two part. Its guesses are its most likely
tokens; whether they hold is the other model's business.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from server.core.errors import Broken, LoadFailed
from server.core.models import TextSettings
from server.core.text_settings import DRAFT_STREAMS
from server.engines.text.batch import Batch
from server.engines.text.native import Context, Model
from server.engines.text.native_log import LogTap
from server.engines.text.prefix import Tokens, common_prefix
from server.engines.text.vocabulary import Vocabulary

MOST_SIZE_DIFFERENCE = 128
FIRST_COMPARED = 5
"""As llama.cpp's own check of a pair: sizes may differ by padding, and what the first few ids are called is free."""

_NO_DRAFT = "{!r} cannot be a draft: only models that continue a text, with a cache, can"
_CHUNK = 128
_LITTLE = 24


class _Stream:
    """What one stream of the draft's context holds."""

    def __init__(self, number: int, room: int) -> None:
        self.id = number
        self.length = 0
        self.used = 0
        self._buffer = np.zeros(room, np.int32)

    def shares(self, text: Tokens) -> int:
        return common_prefix(self._buffer[: self.length], text)

    def write(self, tokens: Tokens | int) -> None:
        """Note that these tokens were computed behind what is there."""
        some = np.atleast_1d(np.asarray(tokens, np.int32))
        self._buffer[self.length : self.length + len(some)] = some
        self.length += len(some)


class DraftModel:
    """Owns model and context. `most` is how many tokens it guesses at a time."""

    def __init__(
        self,
        path: Path,
        settings: TextSettings,
        target: Vocabulary,
        *,
        length: int,
        threads: int,
        log: LogTap,
    ) -> None:
        """Load the file for texts of `length` tokens, beside a model of the vocabulary `target`; blocks.

        Raises:
            LoadFailed: it cannot be loaded, or is no draft for that model.
        """
        own = _own_settings(settings)
        self.most = settings.draft_tokens
        self._context: Context | None = None
        self._model = Model(path, own, lambda _: None, log)
        try:
            self._check(path, target)
            self._context = Context(self._model, own, context=length, threads=threads, log=log)
            self._batch = Batch(self._context.batch_size)
            self._try_out(path)
        except BaseException:
            self.close()
            raise
        self._known = target.size
        self._streams = [_Stream(number, self._context.length + 1) for number in range(own.slots)]
        self._uses = 0

    @property
    def size(self) -> int:
        """Return the bytes of the weights."""
        return self._model.size

    def catch_up(self, texts: Sequence[Tokens]) -> bool:
        """Read a bounded part of what is new in the texts [n] each; True when little is left to be read."""
        self._batch.clear()
        todo = min(_CHUNK, self._batch.capacity)
        reading: list[tuple[_Stream, Tokens]] = []
        for stream, text in self._placed(texts):
            part = text[stream.length : min(len(text) - 1, stream.length + todo)]
            if len(text) - stream.length > _LITTLE and len(part):
                self._batch.add_prompt(stream.id, stream.length, part, outputs=0)
                reading.append((stream, part))
                todo -= len(part)
        if not reading:
            return True
        self._decode()
        for stream, part in reading:
            stream.write(part)
        return False

    def unread(self, text: Tokens) -> int:
        """Return how many tokens of a text [n] must be read before the next one can be guessed."""
        return len(text) - min(max(stream.shares(text) for stream in self._streams), len(text) - 1)

    def guess(self, texts: Sequence[Tokens], count: int) -> list[Tokens]:
        """Return `count` tokens for each of the texts [n], which must be read but for a little."""
        placed = self._placed(texts)
        self._batch.clear()
        for stream, text in placed:
            self._batch.add_prompt(stream.id, stream.length, text[stream.length :], outputs=1)
        self._decode()
        for stream, text in placed:
            stream.write(text[stream.length :])
        found = np.zeros((len(placed), count), np.int32)
        for place in range(count):
            if place:
                last = found[:, place - 1]
                self._batch.set_next([s.id for s, _ in placed], [s.length for s, _ in placed], last.tolist())
                self._decode()
                for (stream, _), token in zip(placed, last, strict=True):
                    stream.write(token)
            found[:, place] = self._open.logits(len(placed))[:, : self._known].argmax(axis=1)
        order = {id(text): row for (_, text), row in zip(placed, found, strict=True)}
        return [order[id(text)] for text in texts]

    def close(self) -> None:
        """Free both; may be called twice."""
        if self._context is not None:
            self._context.close()
        self._model.close()

    @property
    def _open(self) -> Context:
        if self._context is None:
            raise Broken("the draft model is closed")
        return self._context

    def _placed(self, texts: Sequence[Tokens]) -> list[tuple[_Stream, Tokens]]:
        """Return each text with a stream that holds the beginning of it and nothing else, in the streams' order."""
        free = list(self._streams)
        placed = []
        for text in texts:
            stream = max(free, key=lambda stream: (stream.shares(text), -stream.used))
            free.remove(stream)
            self._uses += 1
            stream.used = self._uses
            kept = min(stream.shares(text), len(text) - 1)
            if kept < stream.length:
                self._open.trim(stream.id, kept)
                stream.length = kept
            placed.append((stream, text))
        return sorted(placed, key=lambda pair: pair[0].id)

    def _decode(self) -> None:
        if code := self._open.decode(self._batch):
            raise Broken(f"the draft model could not compute a token (llama_decode gave {code})")

    def _try_out(self, path: Path) -> None:
        if code := self._open.try_out(0):
            raise LoadFailed(f"the draft model cannot compute a token (llama_decode gave {code})")
        if not self._open.can_cut:
            raise LoadFailed(_NO_DRAFT.format(path.name))

    def _check(self, path: Path, target: Vocabulary) -> None:
        if not self._model.is_decoder or self._model.pooling:
            raise LoadFailed(_NO_DRAFT.format(path.name))
        if problem := mismatch(target, Vocabulary(self._model)):
            raise LoadFailed(f"{path.name!r} cannot be a draft for this model: {problem}")


def mismatch(target: Vocabulary, draft: Vocabulary) -> str:
    """Return why two models do not speak in the same tokens, empty when they do."""
    if target.kind != draft.kind:
        return "its vocabulary is of another type"
    if abs(target.size - draft.size) > MOST_SIZE_DIFFERENCE:
        return f"its vocabulary has {draft.size} tokens, not {target.size}"
    for name, own, other in (
        ("begin", target.bos if target.adds_bos else None, draft.bos if draft.adds_bos else None),
        ("end", target.eos if target.adds_eos else None, draft.eos if draft.adds_eos else None),
    ):
        if own != other:
            return f"its texts {name} with another token"
    for token in range(FIRST_COMPARED, min(target.size, draft.size)):
        if target.text(token) != draft.text(token):
            return f"token {token} is {draft.text(token)!r} there, not {target.text(token)!r}"
    return ""


def _own_settings(settings: TextSettings) -> TextSettings:
    """Return how the draft is loaded: like the model, without what was said of that one's file."""
    return msgspec.structs.replace(
        settings,
        slots=min(settings.slots, DRAFT_STREAMS),
        rope_scaling="",
        rope_frequency_base=0.0,
        rope_frequency_scale=0.0,
        yarn_original_context=0,
        loras=None,
        mmproj="",
    )
