"""A vocabulary of single characters and a few words, for what only needs to know how tokens are spelled."""

from collections.abc import Iterable

import numpy as np

from server.engines.text.prefix import Tokens


class SpelledWords:
    """Every ASCII character is a token, so are some words, control tokens, and one end token (the last)."""

    def __init__(self, words: Iterable[str] = (), control: Iterable[str] = ()) -> None:
        self._texts = [chr(code) for code in range(128)] + list(words)
        self.control_ids = {text: len(self._texts) + place for place, text in enumerate(control)}
        self.size = len(self._texts) + len(self.control_ids) + 1
        self.end = self.size - 1
        self.ends = frozenset({self.end})

    def piece(self, token: int) -> bytes:
        return self._texts[token].encode() if token < len(self._texts) else b""

    def tokenise(self, text: str, *, special: bool, room: int) -> Tokens:
        """Return the longest words first, single bytes of other characters left out."""
        assert not special
        assert room >= len(text)
        tokens: list[int] = []
        while text:
            found = max((word for word in self._texts if text.startswith(word)), key=len, default="")
            if found:
                tokens.append(self._texts.index(found))
            text = text[max(1, len(found)) :]
        return np.array(tokens, np.int32)

    def tokens(self, text: str) -> list[int]:
        return [int(token) for token in self.tokenise(text, special=False, room=len(text))]

    def texts(self, tokens: Iterable[int]) -> set[str]:
        return {"<end>" if token == self.end else self.piece(int(token)).decode() for token in tokens}
