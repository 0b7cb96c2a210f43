"""Constraints -> which tokens may come next, by the llguidance library.

A compiled grammar reads the tokens one by one and says after each which could follow; everything else gets a logit of
-inf, so that greedy and drawn choices obey alike. An end token is allowed exactly when the text may end there.
Grammars are compiled once and copied for each reply. Limits are checked before (`constraint_limits`), and the library's
own ones bound what a single step can cost.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

import llguidance
import numpy as np
import numpy.typing as npt

from server.core.errors import InvalidValue
from server.core.text import Constraint, GrammarConstraint, JsonConstraint, RegexConstraint
from server.engines.text import gbnf
from server.engines.text.candidates import Ids, Row
from server.engines.text.constraint_limits import brief, check_grammar, check_pattern, parsed_schema
from server.engines.text.prefix import Tokens

_CACHED = 32
_LONGEST_CACHED = 64 * 1024
# Up to this share of the vocabulary the choice is made among the allowed tokens alone.
_FEW = 1 / 4
_CONTROL_PREFIX = b"\xff"
_BEFORE = "\n"

# One space, or a line break with its indentation: what models write. Without a bound a weak model may write white space
# for ever, since it is allowed.
_JSON_SPACE = r"( |\r?\n[ \t]{0,20})?"


class Words(Protocol):
    """What is needed of a vocabulary; see `Vocabulary`."""

    size: int
    ends: frozenset[int]
    control_ids: dict[str, int]

    def piece(self, token: int) -> bytes:
        """Return the bytes a token stands for."""
        ...

    def tokenise(self, text: str, *, special: bool, room: int) -> Tokens:
        """Return the ids [n] of a text."""
        ...


class Constraints:
    """Compiles constraints for one vocabulary, and remembers the latest."""

    def __init__(self, vocabulary: Words) -> None:
        self._vocabulary = vocabulary
        self._source = _TokenSource(vocabulary)
        self._made: llguidance.LLTokenizer | None = None
        self._compiled: OrderedDict[str, llguidance.LLMatcher] = OrderedDict()
        self._limits = llguidance.LLParserLimits(verbose_errors=False)

    def mask(self, constraint: Constraint, *, within: str | None = None) -> "TokenMask":
        """Return the mask of a reply that must obey a constraint from its first token on.

        Args:
            constraint: what is asked.
            within: a Lark grammar of the whole reply, in which `@body` stands for what obeys the constraint.

        Raises:
            InvalidValue: it exceeds a limit or cannot be compiled; names the constraint's own parameter.
        """
        match constraint:
            case JsonConstraint(schema=text, param=param):
                body: dict[str, Any] = {"json_schema": json.loads(spaced(parsed_schema(text, param)))}
                what = f"Invalid schema for {param}"
            case RegexConstraint(pattern=pattern, param=param):
                check_pattern(pattern, param)
                body = {"lark_grammar": f"start: /{llguidance.regex_to_lark(pattern, use_ascii='')}/"}
                what = "the pattern is wrong"
            case GrammarConstraint(grammar=grammar, syntax=syntax, param=param):
                check_grammar(grammar, param, syntax=syntax)
                body = {"lark_grammar": gbnf.to_lark(grammar, param) if syntax == "gbnf" else grammar}
                what = "the grammar is wrong"
        grammars = [{"name": "body", **body}]
        if within is not None:
            grammars.insert(0, {"name": "reply", "lark_grammar": within})
        return self._mask(json.dumps({"grammars": grammars}), param, what)

    def lark_mask(self, lark: str, param: str) -> "TokenMask":
        """Return the mask for a grammar that this program wrote around schemas of the caller; raises as `mask`."""
        return self._mask(llguidance.LLMatcher.grammar_from_lark(lark), param, f"Invalid schema for {param}")

    def tokens(self, text: str) -> list[int]:
        """Return ids that spell a text, in the model's own way where that can be, control tokens as such."""
        self._tokenizer()
        tokens: list[int] = []
        for part, token in split_control(text, self._vocabulary.control_ids):
            tokens += self._source(part.encode()) if token is None else [token]
        return tokens

    def _mask(self, source: str, param: str, what: str) -> "TokenMask":
        matcher = self._compiled.get(source)
        if matcher is None:
            matcher = llguidance.LLMatcher(self._tokenizer(), source, log_level=0, limits=self._limits)
            if matcher.is_error():
                raise InvalidValue.of(param, f"{what}: {brief(matcher.get_error())}")
            if len(source) <= _LONGEST_CACHED:
                self._compiled[source] = matcher
                if len(self._compiled) > _CACHED:
                    self._compiled.popitem(last=False)
        else:
            self._compiled.move_to_end(source)
        return TokenMask(matcher.deep_copy(), self._vocabulary.size, param, self.tokens)

    def _tokenizer(self) -> "llguidance.LLTokenizer":
        """Build the library's picture of the vocabulary at the first use: 0.8 s for 150,000 tokens."""
        if self._made is None:
            ends = sorted(self._vocabulary.ends) or [self._vocabulary.size]
            wrapper = llguidance.TokenizerWrapper(self._source)
            made = llguidance.LLTokenizer(wrapper, eos_token=ends, slices=llguidance.LLTokenizer.json_slices())
            self._source.greedy = lambda text: list(made.greedy_tokenize(text.decode("utf-8", "replace")))
            self._made = made
        return self._made


class TokenMask:
    """One reply's way through a grammar."""

    def __init__(
        self, matcher: "llguidance.LLMatcher", size: int, param: str, tokens: Callable[[str], list[int]]
    ) -> None:
        self._matcher = matcher
        self._size = size
        self._param = param
        self._tokens = tokens
        self._bits = np.zeros((size + 32) // 32, np.int32)  # one token more than the model has, see `_TokenSource`

    @property
    def is_complete(self) -> bool:
        """Tell whether nothing but the end may follow."""
        return bool(self._matcher.is_stopped())

    @property
    def may_end(self) -> bool:
        """Tell whether the text so far is a whole one."""
        return bool(self._matcher.is_accepting())

    def restrict(self, row: Row) -> Ids | None:
        """Return the ids [n] of the tokens that may come next, ascending, when they are few; the row stays as it is.

        When they are many, return None and write -inf into the row of logits [vocabulary] for all others.

        Raises:
            InvalidValue: the grammar has become too complex to go on.
        """
        allowed = self._flags()
        if np.count_nonzero(allowed) <= self._size * _FEW:
            return np.flatnonzero(allowed)
        row[np.flatnonzero(allowed == 0)] = -np.inf
        return None

    def allowed(self) -> Ids:
        """Return the ids [n] of the tokens that may come next, end tokens among them; raises as `restrict`."""
        return np.flatnonzero(self._flags())

    def accept(self, token: int) -> None:
        """Go on by a token that was allowed; raises as `restrict`."""
        if not self._matcher.is_stopped():
            self._matcher.consume_token(token)
            self._check()

    def follow(self, text: str) -> bool:
        """Go on by a text that stands there already; False when the grammar does not begin like this."""
        tokens = self._tokens(text)
        return int(self._matcher.try_consume_tokens(tokens)) == len(tokens)

    def admits(self, tokens: Sequence[int]) -> bool:
        """Tell whether these tokens may come next, without going on."""
        return int(self._matcher.validate_tokens(list(tokens))) == len(tokens)

    def copy(self) -> "TokenMask":
        """Return a second way that goes on from here by itself."""
        return TokenMask(self._matcher.deep_copy(), self._size, self._param, self._tokens)

    def _flags(self) -> npt.NDArray[np.uint8]:
        """Return 1 for each token [vocabulary] that may come next, 0 for the others."""
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check()
        return np.unpackbits(self._bits.view(np.uint8), bitorder="little", count=self._size)

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = brief(self._matcher.get_error())
            raise InvalidValue.of(self._param, f"the answer could not be kept to what {self._param} asks: {reason}")


class _TokenSource:
    """A vocabulary in the form that llguidance reads.

    Control tokens are marked by a byte that no text has. One more token than the model's own stands for the end of a
    text in vocabularies without end tokens: allowing it alone leaves the model nothing to choose.
    """

    bos_token_id = None
    special_token_ids: Sequence[int] = ()

    def __init__(self, vocabulary: Words) -> None:
        self._vocabulary = vocabulary
        self.eos_token_id = min(vocabulary.ends, default=vocabulary.size)
        self.greedy: Callable[[bytes], list[int]] = lambda _: []

    @cached_property
    def tokens(self) -> list[bytes]:
        """Return what each token stands for."""
        vocabulary = self._vocabulary
        tokens = [vocabulary.piece(token) for token in range(vocabulary.size)]
        for text, token in vocabulary.control_ids.items():
            tokens[token] = _CONTROL_PREFIX + text.encode("utf-8", "replace")
        tokens.append(_CONTROL_PREFIX + b"<end>")
        return tokens

    def __call__(self, text: bytes) -> list[int]:
        """Return the tokens that the model's own tokeniser makes of a text, or others if those do not spell just that.

        The library asks for texts of which the grammar admits no other: the model then gets them in the tokens that it
        knows them in. Some tokenisers put a space before what they are given, hence the text in front.
        """
        before = len(self._tokenise(_BEFORE))
        tokens = self._tokenise(_BEFORE + text.decode("utf-8", "replace"))[before:]
        return tokens if b"".join(self._vocabulary.piece(token) for token in tokens) == text else self.greedy(text)

    def _tokenise(self, text: str) -> list[int]:
        return [int(token) for token in self._vocabulary.tokenise(text, special=False, room=len(text) + 64)]


def spaced(schema: Any, *, lenient: bool = False) -> str:
    """Return a schema as JSON text that says how white space is to be treated, and nothing else to the compiler.

    With `lenient`, keywords that the compiler does not know are ignored instead of refused.
    """
    options = {"whitespace_pattern": _JSON_SPACE, "lenient": lenient}
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    return json.dumps({**schema, "x-guidance": options})


def split_control(text: str, control: dict[str, int]) -> list[tuple[str, int | None]]:
    """Cut a text at the control tokens in it: (text, None) and (control text, its id), in order."""
    parts: list[tuple[str, int | None]] = []
    rest = text
    while rest:
        places = [(rest.index(word), -len(word), word) for word in control if word and word in rest]
        if not places:
            parts.append((rest, None))
            break
        at, _, word = min(places)
        if at:
            parts.append((rest[:at], None))
        parts.append((word, control[word]))
        rest = rest[at + len(word) :]
    return parts
