"""Token probabilities from the core to the wire: OpenAI's list for chats, four lists for plain completions. Pure."""

import codecs
from collections.abc import Sequence
from math import isfinite

from compat.openai import wire
from server.core.text import LikelyToken, TokenLogprob

LEAST = -9999.0
"""What stands for the logarithm of 0, which JSON cannot say. OpenAI's own service sends the same number."""


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> wire.ChatLogprobs:
    """Return the tokens of a chat answer."""
    return wire.ChatLogprobs(tuple(_token(token) for token in tokens))


def _token(token: TokenLogprob) -> wire.TokenLogprob:
    return wire.TokenLogprob(
        token=_text(token.piece),
        logprob=finite(token.logprob),
        bytes=list(token.piece),
        top_logprobs=tuple(_likely(one) for one in token.top),
    )


def _likely(token: LikelyToken) -> wire.LikelyToken:
    return wire.LikelyToken(token=_text(token.piece), logprob=finite(token.logprob), bytes=list(token.piece))


def finite(logprob: float | None) -> float:
    """Return a logarithm that JSON can hold."""
    return logprob if logprob is not None and isfinite(logprob) else LEAST


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


class OffsetText:
    """The text of one choice of a plain completion so far, to tell at which character each of its tokens begins."""

    def __init__(self) -> None:
        self._length = 0

    def feed(self, text: str, tokens: Sequence[TokenLogprob]) -> wire.PlainLogprobs | None:
        """Take the next piece of text with its tokens; return their four lists, None when there are no tokens."""
        offsets = [self._length + offset for offset in _offsets(text, tokens)]
        self._length += len(text)
        if not tokens:
            return None
        return wire.PlainLogprobs(
            tokens=tuple(_key(token.piece) for token in tokens),
            token_logprobs=tuple(None if token.logprob is None else finite(token.logprob) for token in tokens),
            top_logprobs=tuple(_top(token) for token in tokens),
            text_offset=tuple(offsets),
        )


def joined(parts: Sequence[wire.PlainLogprobs]) -> wire.PlainLogprobs:
    """Return the lists of several pieces as those of the whole."""
    return wire.PlainLogprobs(
        tokens=tuple(one for part in parts for one in part.tokens),
        token_logprobs=tuple(one for part in parts for one in part.token_logprobs),
        top_logprobs=tuple(one for part in parts for one in part.top_logprobs),
        text_offset=tuple(one for part in parts for one in part.text_offset),
    )


def _offsets(text: str, tokens: Sequence[TokenLogprob]) -> list[int]:
    """Return where in `text` each token begins; a token whose piece is not there (a control token) has no width.

    A tokeniser may have put a blank in front of the first word, which the text has not.
    """
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    offsets, position = [], 0
    for token in tokens:
        offsets.append(position)
        chars = decode(token.piece)
        for seen in (chars, chars.removeprefix(" ")):
            if text.startswith(seen, position):
                position += len(seen)
                break
    return offsets


def _top(token: TokenLogprob) -> dict[str, float] | None:
    """Return the likeliest tokens and the chosen one by their text; of two with one text the likelier counts."""
    if token.logprob is None:
        return None
    found: dict[str, float] = {}
    for one in token.top:
        found.setdefault(_key(one.piece), finite(one.logprob))
    found.setdefault(_key(token.piece), finite(token.logprob))
    return found


def _key(piece: bytes) -> str:
    """Return a token's text; bytes that are no text by themselves are written as OpenAI writes them."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
