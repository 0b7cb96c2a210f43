"""The tokens of a model: text to ids, ids to bytes, and which ids mean something special."""

import ctypes
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import llama_cpp
import numpy as np

from server.core.errors import ContextTooLong, InvalidValue
from server.engines.text.native import Model
from server.engines.text.prefix import Tokens

_CONTROL = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
_PIECE_BYTES = 256


class FillMarks(NamedTuple):
    """The tokens that ask a model to fill in the middle: they stand before the prefix, the suffix and the answer."""

    prefix: int
    suffix: int
    middle: int


class Vocabulary:
    """Borrowed from a model; must not be used after the model is closed.

    `size` ids, `bos` and `eos` (None when there is none), `ends` the ids that end a reply, `control` the texts of the
    ids that are no text (`<|im_start|>`, `</s>`) and `control_ids` their ids, `suppressed` ids the model's maker
    forbids. `longest` is how many bytes a token stands for at most. `fill` are the tokens for filling in the middle,
    None when they are not all there. `kind` is the library's number for how it makes tokens; `adds_bos` and `adds_eos`
    tell whether it puts these around each text.
    """

    def __init__(self, model: Model) -> None:
        self._pointer: Any = llama_cpp.llama_model_get_vocab(model.pointer)
        self._pieces: dict[int, bytes] = {}
        self._written: dict[int, bytes] = {}
        self.size = int(llama_cpp.llama_vocab_n_tokens(self._pointer))
        self.bos = self._special(llama_cpp.llama_vocab_bos(self._pointer))
        self.eos = self._special(llama_cpp.llama_vocab_eos(self._pointer))
        self.kind = int(llama_cpp.llama_vocab_type(self._pointer))
        self.adds_eos = bool(llama_cpp.llama_vocab_get_add_eos(self._pointer)) and self.eos is not None
        self.adds_bos = bool(llama_cpp.llama_vocab_get_add_bos(self._pointer)) and self.bos is not None
        self.ends = frozenset(i for i in range(self.size) if llama_cpp.llama_vocab_is_eog(self._pointer, i))
        texts = [self.text(i) for i in range(self.size)]
        self.longest = max(len(text.encode()) for text in texts)
        self.control_ids = {
            text: i
            for i, text in enumerate(texts)
            if text and llama_cpp.llama_vocab_get_attr(self._pointer, i) & _CONTROL
        }
        self.control = tuple(self.control_ids)
        self.suppressed = self._suppressed()
        self.fill = self._fill()

    def text(self, token: int | None) -> str:
        """Return how the vocabulary writes a token; empty for None."""
        if token is None:
            return ""
        raw = llama_cpp.llama_vocab_get_text(self._pointer, token)
        return raw.decode("utf-8", "replace") if raw else ""

    def tokenise(self, text: str, *, special: bool, room: int, added: bool = False) -> Tokens:
        """Return the ids [n] of a text, with those that the model wants around each text if `added`.

        With `special`, control tokens written in the text become those tokens; without, they stay text. A text of so
        many bytes that it cannot become `room` tokens is refused unread: megabytes would hold up everybody else.

        Raises:
            ContextTooLong: `got` is then the least that the text can become.
        """
        data = text.encode("utf-8", "replace")
        self.check_length(data, room)
        return self._ids(data, special, added)

    def check_length(self, data: bytes, room: int) -> None:
        """Raise ContextTooLong for a text of so many bytes that it cannot become `room` tokens."""
        if len(data) > room * self.longest:
            raise ContextTooLong.of(room, -(-len(data) // self.longest))

    def _ids(self, data: bytes, special: bool, added: bool) -> Tokens:
        room = len(data) + 16
        for _ in range(2):
            ids = np.empty(room, np.int32)
            pointer = ids.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token))
            count = int(llama_cpp.llama_tokenize(self._pointer, data, len(data), pointer, room, added, special))
            if count >= 0:
                return ids[:count].copy()
            room = -count
            if room > 2**31 - 1:
                break
        raise InvalidValue.of("prompt", "the text is too long to be tokenised")

    def checked(self, tokens: Sequence[int], param: str) -> Tokens:
        """Return ids that came from outside [n]; raise InvalidValue for `param` when one does not exist."""
        for token in tokens:
            if not 0 <= token < self.size:
                raise InvalidValue.of(param, f"token {token} does not exist; the model has {self.size} tokens")
        return np.array(tokens, np.int32)

    def with_bos(self, tokens: Tokens) -> Tokens:
        """Return the ids with the begin token in front, if the model wants one and it is not there yet."""
        if self.adds_bos and (len(tokens) == 0 or tokens[0] != self.bos):
            return np.concatenate([np.array([self.bos], np.int32), tokens])
        return tokens

    def piece(self, token: int) -> bytes:
        """Return the bytes a token stands for; none for control tokens."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._read_piece(token)
        return piece

    def written(self, token: int) -> bytes:
        """Return the bytes a token stands for, and for control tokens how they are written."""
        piece = self._written.get(token)
        if piece is None:
            piece = self._written[token] = self._read_piece(token, special=True)
        return piece

    def detokenise(self, tokens: Tokens) -> str:
        """Return the text of a whole prompt [n], control tokens written out, an added begin token left out.

        The library's own function would put other spaces before punctuation in some vocabularies.
        """
        begun = self.adds_bos and len(tokens) > 0 and tokens[0] == self.bos
        text = b"".join(self.written(int(token)) for token in tokens[int(begun) :])
        return (text.removeprefix(b" ") if self._adds_space else text).decode("utf-8", "replace")

    @cached_property
    def _adds_space(self) -> bool:
        """Tell whether tokenising puts a space before a text."""
        return self.piece(int(self._ids(b"a", False, False)[0])).startswith(b" ")

    def _read_piece(self, token: int, *, special: bool = False) -> bytes:
        room = _PIECE_BYTES
        for _ in range(2):
            buffer = ctypes.create_string_buffer(room)
            count = int(llama_cpp.llama_token_to_piece(self._pointer, token, buffer, room, 0, special))
            if count >= 0:
                return buffer.raw[:count]
            room = -count
        return b""

    def _special(self, token: int) -> int | None:
        return None if token == llama_cpp.LLAMA_TOKEN_NULL else int(token)

    def _fill(self) -> FillMarks | None:
        read = (llama_cpp.llama_vocab_fim_pre, llama_cpp.llama_vocab_fim_suf, llama_cpp.llama_vocab_fim_mid)
        prefix, suffix, middle = (self._special(of(self._pointer)) for of in read)
        if prefix is None or suffix is None or middle is None:
            return None
        return FillMarks(prefix, suffix, middle)

    def _suppressed(self) -> tuple[int, ...]:
        count = ctypes.c_int32(0)
        ids = llama_cpp.llama_vocab_get_suppress_tokens(self._pointer, ctypes.byref(count))
        return tuple(int(ids[i]) for i in range(count.value)) if ids else ()
