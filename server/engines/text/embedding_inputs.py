"""Embedding and reranking requests -> checked token lists."""

from collections.abc import Sequence

import llama_cpp
import numpy as np

from server.core.errors import ContextTooLong, InvalidValue
from server.core.text import EmbeddingRequest, RerankRequest
from server.engines.text.native import Model
from server.engines.text.prefix import Tokens
from server.engines.text.vocabulary import Vocabulary

MOST_INPUTS = 4096


class EmbeddingInputs:
    """Tokenises for one model whose texts have at most `length` tokens and whose vectors have `width` numbers."""

    def __init__(self, model: Model, vocabulary: Vocabulary, *, length: int, width: int) -> None:
        self._vocabulary = vocabulary
        self._length = length
        self._width = width
        self._pair = _Pair(model, vocabulary)

    def texts(self, work: EmbeddingRequest) -> list[Tokens]:
        """Return the ids of every input, with those that the model wants around a text.

        Raises:
            InvalidValue: no input, an empty one, too many, a token or a number of dimensions that does not exist.
            ContextTooLong: an input has more tokens than the model takes.
        """
        _check_count("input", len(work.inputs))
        if work.dimensions is not None and not 1 <= work.dimensions <= self._width:
            text = f"this model's vectors have 1 ... {self._width} dimensions, not {work.dimensions}"
            raise InvalidValue.of("dimensions", text)
        return [self._checked(self._text(text), "input") for text in work.inputs]

    def pairs(self, work: RerankRequest) -> list[Tokens]:
        """Return the ids of the query together with each document.

        Raises:
            InvalidValue: no document, too many, or the query is empty.
            ContextTooLong: the query and a document have more tokens than the model takes.
        """
        _check_count("documents", len(work.documents))
        if not work.query:
            raise InvalidValue.of("query", "the query is empty")
        return [
            self._checked(self._pair.tokens(work.query, document, self._length), "documents")
            for document in work.documents
        ]

    def _text(self, text: str | tuple[int, ...]) -> Tokens:
        if not text:
            raise InvalidValue.of("input", "an input is empty")
        if isinstance(text, str):
            return self._vocabulary.tokenise(text, special=False, room=self._length, added=True)
        return self._vocabulary.checked(text, "input")

    def _checked(self, tokens: Tokens, param: str) -> Tokens:
        if len(tokens) == 0:
            raise InvalidValue.of(param, "a text has no tokens")
        if len(tokens) > self._length:
            raise ContextTooLong.of(self._length, len(tokens))
        return tokens


class _Pair:
    """How a model reads a query and a document: by its own template, or with separators as llama.cpp puts them."""

    def __init__(self, model: Model, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._template = model.chat_template("rerank")
        native: llama_cpp.llama_vocab_p = llama_cpp.llama_model_get_vocab(model.pointer)
        separator = llama_cpp.llama_vocab_sep(native)
        end = vocabulary.eos if vocabulary.eos is not None else separator
        ends = [end] if llama_cpp.llama_vocab_get_add_eos(native) else []
        self._before = [vocabulary.bos] if vocabulary.adds_bos else []
        self._between = [*ends, *([separator] if llama_cpp.llama_vocab_get_add_sep(native) else [])]
        self._after = ends

    def tokens(self, query: str, document: str, room: int) -> Tokens:
        if self._template is not None:
            # The document last: what people write must not be taken for a placeholder.
            before, _, after = self._template.replace("{query}", query, 1).partition("{document}")
            return self._vocabulary.tokenise(before + document + after, special=True, room=room, added=True)
        texts = [self._vocabulary.tokenise(text, special=False, room=room) for text in (query, document)]
        parts: list[Sequence[int] | Tokens] = [self._before, texts[0], self._between, texts[1], self._after]  # type: ignore[list-item]
        return np.concatenate([np.asarray(part, np.int32) for part in parts])


def _check_count(param: str, count: int) -> None:
    if not 1 <= count <= MOST_INPUTS:
        raise InvalidValue.of(param, f"1 ... {MOST_INPUTS} texts can be given at once, not {count}")
