"""Owner of llama.cpp's multimodal library (mtmd): a prompt with pictures is cut into pieces, pieces are encoded.

Files are never handed to the library, which would also decode sounds and start a video program: it gets pixels.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import llama_cpp
import numpy as np
import numpy.typing as npt

from server.core.errors import BadImage, LoadFailed
from server.core.models import TextSettings
from server.engines.text.control_text import Stretch
from server.engines.text.native import Model, reason
from server.engines.text.native_log import LogTap
from server.engines.text.pictures import Pixels
from server.engines.text.prefix import Tokens

Embedding = npt.NDArray[np.float32]

_LARGE = ((4096, 4096), (8192, 2048), (2048, 8192), (640, 480), (480, 640))
"""Sizes of pictures among which the one is that takes most places at once."""


class Bitmap(NamedTuple):
    """A picture as the library takes it; without `pixels` [height, width, 3] it is only counted."""

    width: int
    height: int
    pixels: Pixels | None = None


class Piece(NamedTuple):
    """A run of text (`tokens` [n]) or a piece of picture number `picture`: `size` places, `advance` positions."""

    tokens: Tokens | None
    size: int
    advance: int
    picture: int
    chunk: Any


class Cut:
    """A prompt cut into pieces. Owns them; borrowed by whoever encodes one."""

    def __init__(self, library: Any, chunks: Any, *, mrope: bool) -> None:
        self._library = library
        self._chunks = chunks
        self._mrope = mrope
        self.pieces = [self._piece(number) for number in range(self._library.mtmd_input_chunks_size(chunks))]

    def of_pictures(self) -> list[Piece]:
        """Return the pieces that are no text."""
        return [piece for piece in self.pieces if piece.tokens is None]

    def places(self, piece: Piece, start: int) -> npt.NDArray[np.int32]:
        """Return the positions [4 with M-RoPE, else 1; size] of a picture's piece that begins at position `start`."""
        if not self._mrope:
            return np.arange(start, start + piece.size, dtype=np.int32)[None]
        found = (self._library.mtmd_decoder_pos * piece.size)()
        image = self._library.mtmd_input_chunk_get_tokens_image(piece.chunk)
        self._library.mtmd_helper_image_get_decoder_pos(image, start, found)
        columns = np.frombuffer(found, np.uint32).reshape(piece.size, 4)  # t, x, y, z
        return np.ascontiguousarray(columns[:, [0, 2, 1, 3]].T).astype(np.int32)

    def close(self) -> None:
        """Free the pieces; may be called twice."""
        if self._chunks:
            self._library.mtmd_input_chunks_free(self._chunks)
            self._chunks = None

    def _piece(self, number: int) -> Piece:
        chunk = self._library.mtmd_input_chunks_get(self._chunks, number)
        count = int(self._library.mtmd_input_chunk_get_n_tokens(chunk))
        if self._library.mtmd_input_chunk_get_type(chunk) == self._library.MTMD_INPUT_CHUNK_TYPE_TEXT:
            size = ctypes.c_size_t(0)
            found: Any = self._library.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(size))
            tokens = np.ctypeslib.as_array(found, shape=(size.value,)).astype(np.int32)
            tokens = tokens[tokens >= 0]  # marks that the model's vocabulary lacks
            return Piece(tokens, len(tokens), len(tokens), -1, chunk)
        name = self._library.mtmd_input_chunk_get_id(chunk) or b"0"
        return Piece(None, count, int(self._library.mtmd_input_chunk_get_n_pos(chunk)), int(name), chunk)


class Projector:
    """The eyes of a model. `at_once` is how many places one decode must take, 0 when pieces can be split.

    `mrope` tells that the model counts rows and columns of pictures. Borrows the model, which must be closed later.
    """

    def __init__(self, path: Path, model: Model, settings: TextSettings, *, threads: int, log: LogTap) -> None:
        """Load the projector; blocks.

        Raises:
            LoadFailed: the library refused it; the message has its own words.
        """
        self._context: Any = None
        self._library = _library()
        if not path.is_file():
            raise LoadFailed(f"there is no projector {path.name!r}; set mmproj to another file, or to 'none'")
        log.tap(self._library.mtmd_helper_log_set)
        params = self._library.mtmd_context_params_default()
        params.use_gpu = settings.gpu_layers != 0
        params.print_timings = False
        params.n_threads = threads
        params.flash_attn_type = (
            llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO
            if settings.flash_attention
            else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        context = self._library.mtmd_init_from_file(str(path).encode(), model.pointer, params)
        if not context:
            why = reason(log, path).splitlines()[0].removeprefix("error: ")
            text = f"the projector {path.name!r} cannot be loaded: {why}"
            raise LoadFailed(f"{text}; set mmproj to another file, or to 'none'")
        self._context = context
        if not self._library.mtmd_support_vision(context):
            self.close()
            raise LoadFailed(f"the projector {path.name!r} sees no pictures; set mmproj to another file, or to 'none'")
        self.size = path.stat().st_size
        self.mrope = bool(self._library.mtmd_decode_use_mrope(context))
        self._width = int(llama_cpp.llama_model_n_embd_inp(model.pointer))
        self.at_once = self._largest() if self._library.mtmd_decode_use_non_causal(context, None) else 0

    def cut(self, parts: Sequence[Stretch | Bitmap]) -> Cut:
        """Cut a prompt into pieces; pictures are counted from 0. No begin token is put before it.

        Raises:
            BadImage: the library takes no picture of such a shape.
        """
        bitmaps: list[Any] = []
        native: list[Any] = []
        try:
            for part in parts:
                if isinstance(part, Stretch):
                    native.append(self._text_part(part))
                    continue
                bitmaps.append(self._bitmap(part, len(bitmaps)))
                native.append(self._library.mtmd_input_part(text=None, bitmap=bitmaps[-1]))
            return self._cut(native)
        finally:
            for bitmap in bitmaps:
                self._library.mtmd_bitmap_free(bitmap)

    def _cut(self, native: list[Any]) -> Cut:
        pointers = (ctypes.POINTER(self._library.mtmd_input_part) * len(native))(*map(ctypes.pointer, native))
        chunks = self._library.mtmd_input_chunks_init()
        if self._library.mtmd_tokenize_from_parts(self._context, chunks, pointers, len(native), False):
            self._library.mtmd_input_chunks_free(chunks)
            raise BadImage("the model's projector takes no picture of this shape", param="messages")
        return Cut(self._library, chunks, mrope=self.mrope)

    def encode(self, piece: Piece) -> Embedding | None:
        """Return the embeddings [size, width] of a picture's piece, None when it cannot be computed; blocks."""
        if self._library.mtmd_encode_chunk(self._context, piece.chunk):
            return None
        found = self._library.mtmd_get_output_embd(self._context)
        return np.ctypeslib.as_array(found, shape=(piece.size, self._width)).copy()

    def close(self) -> None:
        """Free it; may be called twice."""
        if self._context:
            self._library.mtmd_free(self._context)
            self._context = None

    def _largest(self) -> int:
        """Return how many places the largest piece of a picture takes."""
        cut = self.cut([Bitmap(width, height) for width, height in _LARGE])
        try:
            return max(piece.size for piece in cut.of_pictures())
        finally:
            cut.close()

    def _text_part(self, part: Stretch) -> Any:
        data = part.text.encode("utf-8", "replace")
        text = self._library.mtmd_input_text(
            text=data, text_len=len(data), add_special=False, parse_special=part.special
        )
        return self._library.mtmd_input_part(text=ctypes.pointer(text), bitmap=None)

    def _bitmap(self, part: Bitmap, number: int) -> Any:
        """Return a native bitmap, named by its number; the pixels are copied."""
        pixels: Any = None
        if part.pixels is not None:
            pixels = part.pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap = self._library.mtmd_bitmap_init(part.width, part.height, pixels)
        self._library.mtmd_bitmap_set_id(bitmap, str(number).encode())
        return bitmap


def _library() -> Any:
    """Return the library, which a build of llama.cpp may lack; models that only read and write need it not."""
    try:
        from llama_cpp import mtmd_cpp
    except Exception as error:  # what cannot be found or opened is told in several ways
        raise LoadFailed("this build of llama.cpp has no library for pictures (mtmd); set mmproj to 'none'") from error
    return mtmd_cpp
