"""How one model sees: pictures are read and checked once, cut into pieces, encoded when a prompt comes to them.

What was made of the last pictures is kept, by their content: a conversation sends all its pictures with every turn.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from server.core.errors import BadImage, Broken
from server.core.text import PicturePart
from server.engines.text.control_text import Stretch
from server.engines.text.pictures import Picture, PictureRun, Runs, digest_of, place_ids, read_pixels
from server.engines.text.prefix import Tokens
from server.engines.text.projector import Bitmap, Cut, Embedding, Piece, Projector
from server.engines.text.vocabulary import Vocabulary

KNOWN = 1024
"""Pictures whose size is remembered."""

OPEN = 2
"""Pictures that are kept as the projector takes them: up to 50 MB each."""

EMBEDDINGS_BYTES = 128 * 1024 * 1024


class Sight:
    """Owns the projector and what is remembered of pictures. Borrows the vocabulary."""

    def __init__(self, projector: Projector, vocabulary: Vocabulary) -> None:
        self._projector = projector
        self._vocabulary = vocabulary
        self._known: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self._open: OrderedDict[bytes, _Opened] = OrderedDict()
        self._embeddings: OrderedDict[tuple[bytes, int], Embedding] = OrderedDict()

    def look(self, part: PicturePart) -> Picture:
        """Return a picture that can be seen; reads all of it, unless it was here before. May take a second.

        Raises:
            BadImage: it cannot be read, or the projector takes none of its shape.
        """
        digest = digest_of(part.data)
        size = self._known.get(digest)
        if size is None:
            size = self._opened(digest, part.data, part.param).size
            self._known[digest] = size
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(digest)
        return Picture(part.data, digest, *size)

    def tokens(self, parts: Sequence[Stretch | Picture], room: int) -> tuple[Tokens, Runs]:
        """Return the ids [n] of a prompt, with a begin token if the model wants one, and where its pictures are.

        Raises:
            ContextTooLong: a text can never be so few as `room` tokens.
            BadImage: a picture is too large for a model that sees all of it at once.
        """
        for part in parts:
            if isinstance(part, Stretch):
                self._vocabulary.check_length(part.text.encode("utf-8", "replace"), room)
        pictures = [part for part in parts if isinstance(part, Picture)]
        cut = self._projector.cut([part if isinstance(part, Stretch) else _counted(part) for part in parts])
        try:
            return self._joined(cut, pictures)
        finally:
            cut.close()

    def _joined(self, cut: Cut, pictures: Sequence[Picture]) -> tuple[Tokens, Runs]:
        first = cut.pieces[0].tokens if cut.pieces else None
        opening = np.empty(0, np.int32) if first is None else first
        begun = self._vocabulary.with_bos(opening)
        found: list[Tokens] = [begun[: len(begun) - len(opening)]]
        start = position = len(found[0])
        runs: list[PictureRun] = []
        pieces = [0] * len(pictures)
        for piece in cut.pieces:
            if piece.tokens is not None:
                found.append(piece.tokens)
            else:
                picture = pictures[piece.picture]
                run = self._run(cut, piece, picture, pieces[piece.picture], start, position)
                pieces[piece.picture] += 1
                found.append(place_ids(picture.digest, run.piece, run.size))
                runs.append(run)
            start += piece.size
            position += piece.advance
        return np.concatenate(found).astype(np.int32), tuple(runs)

    def _run(self, cut: Cut, piece: Piece, picture: Picture, number: int, start: int, position: int) -> PictureRun:
        at_once = self._projector.at_once
        if 0 < at_once < piece.size:
            raise BadImage(f"the picture takes {piece.size} places, the model sees at most {at_once} at once")
        return PictureRun(
            start=start,
            size=piece.size,
            advance=piece.advance,
            places=cut.places(piece, position),
            whole=at_once > 0,
            picture=picture,
            piece=number,
        )

    def embedding(self, run: PictureRun) -> Embedding | None:
        """Return the embeddings [size, width] of a piece if they are at hand."""
        key = run.picture.digest, run.piece
        found = self._embeddings.get(key)
        if found is not None:
            self._embeddings.move_to_end(key)
        return found

    def encode(self, run: PictureRun) -> None:
        """Compute the embeddings of a piece; blocks, maybe for seconds.

        Raises:
            Broken: the library cannot, or makes more or less of the picture than it told.
        """
        picture = run.picture
        pieces = self._opened(picture.digest, picture.data, "messages").cut.of_pictures()
        if run.piece >= len(pieces) or pieces[run.piece].size != run.size:
            raise Broken("the model's projector places this picture in a way that is not supported")
        made = self._projector.encode(pieces[run.piece])
        if made is None:
            raise Broken("the picture could not be encoded; the log has the details")
        self._embeddings[picture.digest, run.piece] = made
        while len(self._embeddings) > 1 and sum(kept.nbytes for kept in self._embeddings.values()) > EMBEDDINGS_BYTES:
            self._embeddings.popitem(last=False)

    def close(self) -> None:
        """Free everything; may be called twice."""
        for opened in self._open.values():
            opened.cut.close()
        self._open.clear()
        self._embeddings.clear()
        self._projector.close()

    def _opened(self, digest: bytes, data: bytes, param: str) -> "_Opened":
        opened = self._open.get(digest)
        if opened is not None:
            self._open.move_to_end(digest)
            return opened
        pixels = read_pixels(data, param)
        height, width = pixels.shape[:2]
        try:
            cut = self._projector.cut([Bitmap(width, height, pixels)])
        except BadImage as error:
            raise BadImage(error.message, param=param) from None
        opened = self._open[digest] = _Opened(cut, (width, height))
        if len(self._open) > OPEN:
            self._open.popitem(last=False)[1].cut.close()
        return opened


class _Opened(NamedTuple):
    """A picture as the projector takes it, and its width and height."""

    cut: Cut
    size: tuple[int, int]


def _counted(picture: Picture) -> Bitmap:
    return Bitmap(picture.width, picture.height)
