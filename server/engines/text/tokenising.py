"""Answers to tokenising work: text to tokens, tokens to text, a conversation to its prompt. Computes nothing else."""

import numpy as np

from server.core.errors import InvalidValue
from server.core.text import Tokenized, TokenizeRequest
from server.engines.text.prefix import Tokens
from server.engines.text.prompts import Prompts
from server.engines.text.vocabulary import Vocabulary

LONGEST_TEXT = 1 << 20
PICTURE_MARK = "<__media__>"
"""As llama.cpp writes it."""


def tokenised(work: TokenizeRequest, vocabulary: Vocabulary, prompts: Prompts | None) -> Tokenized:
    """Return what was asked for; texts may be longer than the context. `prompts` is None where there is no chat.

    Raises:
        InvalidValue: not exactly one thing is asked for, it is megabytes long, a token does not exist, or the chat
            template refuses.
    """
    given = [value for value in (work.text, work.tokens, work.chat) if value is not None]
    if len(given) != 1:
        raise InvalidValue.of("content", "exactly one of a text, tokens and a conversation is needed")
    if work.chat is not None:
        if prompts is None:
            raise InvalidValue.of("model", "this model has no conversations")
        return _told(prompts.conversation(work.chat), vocabulary)
    if len(work.tokens or work.text or ()) > LONGEST_TEXT:
        raise InvalidValue.of("content", f"at most {LONGEST_TEXT} characters or tokens are taken at once")
    if work.tokens is not None:
        return _told(vocabulary.checked(work.tokens, "tokens"), vocabulary)
    text = work.text or ""
    tokens = vocabulary.tokenise(text, special=work.parse_special, room=LONGEST_TEXT + 1, added=work.add_special)
    return _told(tokens, vocabulary, text)


def _told(tokens: Tokens, vocabulary: Vocabulary, text: str | None = None) -> Tokenized:
    ids = np.asarray(tokens, np.int32)
    return Tokenized(
        tokens=tuple(int(token) for token in ids),
        pieces=tuple(vocabulary.written(int(token)) if token >= 0 else b"" for token in ids),
        text=_text(ids, vocabulary) if text is None else text,
    )


def _text(ids: Tokens, vocabulary: Vocabulary) -> str:
    """Return the text of a prompt [n], with a mark where a picture stands."""
    borders = np.flatnonzero(np.diff(ids < 0)) + 1
    runs = np.split(ids, borders)
    return "".join(PICTURE_MARK if len(run) and run[0] < 0 else vocabulary.detokenise(run) for run in runs)
