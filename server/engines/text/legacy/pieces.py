"""The vocabulary of a llama file of 2023 as GGUF wants it: texts, scores and types of tokens.

The old files have decoded text: bytes instead of `<0x0A>`, spaces instead of U+2581, nothing for control tokens. What
an entry is follows from its id. The first container had no scores; LLaMA's are a function of the id.
"""

from collections.abc import Sequence
from typing import NamedTuple

from server.core.ggml.reading import GgmlError, Piece

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_FIRST_BYTE, _FIRST_PIECE, _LLAMA = 3, 259, 32000
_MOST_ADDED = 256
_SPECIAL = (("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL))
_PADDING = "<pad>"
_PADS = frozenset({"<pad>", "[pad]", "<|pad|>"})
_SPACE = "\u2581"
_SPACES_SCORE = -1e9


class Token(NamedTuple):
    """A token as GGUF has it."""

    text: str
    score: float
    kind: int


def tokens(pieces: Sequence[Piece], count: int, *, trusted: bool) -> list[Token]:
    """Return `count` tokens; where the last entry is missing, a pad token takes its place.

    Args:
        pieces: the file's entries.
        count: how many the header promises.
        trusted: whether the bytes of ids 3 ... 258 are what they should be; the first container stored some as U+FFFD.

    Raises:
        GgmlError: the vocabulary is not one of llama's.
    """
    if count < _FIRST_PIECE:
        raise GgmlError(f"a vocabulary of {count} entries is none of llama's, which begin with 259 special ones")
    # A few entries behind LLaMA's were added by whoever tuned the model; many are the pieces of a larger vocabulary.
    trained = _LLAMA if count <= _LLAMA + _MOST_ADDED else count
    made = [_token(index, piece, trusted=trusted, trained=trained) for index, piece in enumerate(pieces)]
    made += [Token(_PADDING, 0.0, CONTROL)] * (count - len(made))
    return _unique(made)


def _token(index: int, piece: Piece, *, trusted: bool, trained: int) -> Token:
    if index < _FIRST_BYTE:
        text, kind = _SPECIAL[index]
        return Token(text, 0.0, kind)
    if index < _FIRST_PIECE:
        value = index - _FIRST_BYTE
        if trusted and piece.text != bytes([value]):
            raise GgmlError(f"entry {index} of the vocabulary is not the byte {value}: it is none of llama's")
        return Token(f"<0x{value:02X}>", 0.0, BYTE)
    plain = piece.text.decode("utf-8", errors="replace")
    score = _rank(index, plain) if piece.score is None else piece.score
    if index < trained:
        return Token(plain.replace(" ", _SPACE), score, NORMAL)
    return Token(plain, score, CONTROL if plain.casefold() in _PADS else USER_DEFINED)


def _rank(index: int, plain: str) -> float:
    """Return the score that LLaMA's vocabulary gives a piece."""
    return _SPACES_SCORE if plain and not plain.strip(" ") else -float(index - _FIRST_PIECE)


def _unique(made: Sequence[Token]) -> list[Token]:
    """Give repeated and empty texts names of their own, since llama.cpp ends the process for equal ones."""
    seen: set[str] = set()
    result = []
    for index, token in enumerate(made):
        if not token.text or token.text in seen:
            name = f"<dup_{index}>"
            while name in seen:
                name = f"{name[:-1]}_>"
            token = Token(name, token.score, UNUSED)
        seen.add(token.text)
        result.append(token)
    return result
