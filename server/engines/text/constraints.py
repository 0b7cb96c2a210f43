"""Constraints -> which tokens may come next, by the llguidance library.

A compiled grammar reads the tokens one by one and says after each which could follow; everything else gets a logit of
-inf, so that greedy and drawn choices obey alike. An end token is allowed exactly when the text may end there.
Grammars are compiled once and copied for each reply. Limits are checked before (`constraint_limits`), and the library's
own ones bound what a single step can cost.

What a mask costs at 150,000 tokens depends on how much of a token the library's lexer reads by itself: 0.02 ms where a
lexeme spans many characters, up to 10 ms where each is one. Hence the wide lexemes that `gbnf` writes.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, Protocol

import llguidance
import numpy as np
import numpy.typing as npt

from server.core.errors import ErrorData, InvalidValue
from server.core.text import Constraint, GrammarConstraint, JsonConstraint, RegexConstraint
from server.engines.text import gbnf
from server.engines.text.candidates import Ids, Row
from server.engines.text.constraint_limits import brief, check_grammar, check_pattern, parsed_schema
from server.engines.text.deep_stack import on_deep_stack
from server.engines.text.prefix import Tokens

_CACHED, _REFUSED = 32, 8
_LONGEST_CACHED = 64 * 1024
# Up to this share of the vocabulary the choice is made among the allowed tokens alone.
_FEW = 1 / 4
_WORD = 64
_CONTROL_PREFIX = b"\xff"
_BEFORE = "\n"

# One space, or a line break with its indentation: what models write. Without a bound a weak model may write white space
# for ever, since it is allowed.
_JSON_SPACE = r"( |\r?\n[ \t]{0,20})?"


_Key = str | tuple[Constraint, str | None]


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
    """Compiles constraints for one vocabulary, and remembers the latest, also of those that it has refused."""

    def __init__(self, vocabulary: Words) -> None:
        self._vocabulary = vocabulary
        self._source = _TokenSource(vocabulary)
        self._made: llguidance.LLTokenizer | None = None
        self._compiled: OrderedDict[_Key, llguidance.LLMatcher] = OrderedDict()
        self._refused: OrderedDict[_Key, ErrorData] = OrderedDict()
        self._limits = llguidance.LLParserLimits(verbose_errors=False)

    def mask(self, constraint: Constraint, *, within: str | None = None) -> "TokenMask":
        """Return the mask of a reply that must obey a constraint from its first token on.

        Args:
            constraint: what is asked.
            within: a Lark grammar of the whole reply, in which `@body` stands for what obeys the constraint.

        Raises:
            InvalidValue: it exceeds a limit or cannot be compiled; names the constraint's own parameter.
        """
        key = constraint, within
        matcher = self._known(key)
        if matcher is None:
            refused = self._refused.get(key)
            if refused is not None:  # what was too large once is so again, which may have taken a second to see
                raise InvalidValue(refused.message, **refused.facts)
            try:
                matcher = self._compile_within(constraint, within)
            except InvalidValue as error:
                self._refused[key] = error.to_data()
                if len(self._refused) > _REFUSED:
                    self._refused.popitem(last=False)
                raise
        return self._mask(matcher, constraint.param)

    def lark_mask(self, lark: str, param: str) -> "TokenMask":
        """Return the mask for a grammar that this program wrote around schemas of the caller; raises as `mask`."""
        matcher = self._known(lark)
        if matcher is None:
            source = llguidance.LLMatcher.grammar_from_lark(lark)
            matcher = self._compile(lark, [source], param, f"Invalid schema for {param}")
        return self._mask(matcher, param)

    def tokens(self, text: str) -> list[int]:
        """Return ids that spell a text, in the model's own way where that can be, control tokens as such."""
        self._tokenizer()
        tokens: list[int] = []
        for part, token in split_control(text, self._vocabulary.control_ids):
            tokens += self._source(part.encode()) if token is None else [token]
        return tokens

    def _mask(self, matcher: "llguidance.LLMatcher", param: str) -> "TokenMask":
        return TokenMask(matcher.deep_copy(), self._vocabulary.size, param, self.tokens)

    def _known(self, key: _Key) -> "llguidance.LLMatcher | None":
        matcher = self._compiled.get(key)
        if matcher is not None:
            self._compiled.move_to_end(key)
        return matcher

    def _compile_within(self, constraint: Constraint, within: str | None) -> "llguidance.LLMatcher":
        bodies, what = _bodies(constraint)
        sources = []
        for body in bodies:
            grammars = [{"name": "body", **body}]
            if within is not None:
                grammars.insert(0, {"name": "reply", "lark_grammar": within})
            sources.append(json.dumps({"grammars": grammars}))
        return self._compile((constraint, within), sources, constraint.param, what)

    def _compile(self, key: _Key, sources: Sequence[str], param: str, what: str) -> "llguidance.LLMatcher":
        """Compile the first of several ways to write a grammar with which the library can begin, and remember it."""
        for source in sources:
            matcher = on_deep_stack(partial(self._matcher, source))
            if source is not sources[-1] and not matcher.is_error():
                matcher.compute_bitmask()
            if not matcher.is_error():
                break
        if matcher.is_error():
            raise InvalidValue.of(param, f"{what}: {brief(matcher.get_error())}")
        if len(sources[0]) <= _LONGEST_CACHED:
            self._compiled[key] = matcher
            if len(self._compiled) > _CACHED:
                self._compiled.popitem(last=False)
        return matcher

    def _matcher(self, source: str) -> "llguidance.LLMatcher":
        return llguidance.LLMatcher(self._tokenizer(), source, log_level=0, limits=self._limits)

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
        # One token more than the model has, see `_TokenSource`; what lies beyond the model's own is cleared.
        self._words = np.zeros(size // _WORD + 1, np.uint64)
        self._own = np.uint64((1 << size % _WORD) - 1)
        self._address = self._words.ctypes.data
        self._bytes = (size + 32) // 32 * 4
        self._is_computed = False

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
        words = self._computed()
        if int(np.bitwise_count(words).sum()) <= self._size * _FEW:
            return _places(words)
        ceilings = _CEILINGS.take(words.view(np.uint8), axis=0, mode="clip").ravel()  # "clip" asks for no check
        np.minimum(row, ceilings[: self._size], out=row)
        return None

    def allows(self, token: int) -> bool:
        """Tell whether a token may come next; raises as `restrict`."""
        return bool(int(self._computed()[token // _WORD]) >> token % _WORD & 1)

    def allowed(self) -> Ids:
        """Return the ids [n] of the tokens that may come next, end tokens among them; raises as `restrict`."""
        return _places(self._computed())

    def coming(self) -> list[int]:
        """Return the tokens [n] that must come next: each of them is the only one that is allowed in its place."""
        return [int(token) for token in self._matcher.compute_ff_tokens()]

    def accept(self, token: int) -> None:
        """Go on by a token that was allowed; raises as `restrict`."""
        if not self._matcher.is_stopped():
            self._is_computed = False
            self._matcher.consume_token(token)
            self._check()

    def follow(self, text: str) -> bool:
        """Go on by a text that stands there already; False when the grammar does not begin like this."""
        tokens = self._tokens(text)
        self._is_computed = False
        return int(self._matcher.try_consume_tokens(tokens)) == len(tokens)

    def admits(self, tokens: Sequence[int]) -> bool:
        """Tell whether these tokens may come next, without going on."""
        return int(self._matcher.validate_tokens(list(tokens))) == len(tokens)

    def copy(self) -> "TokenMask":
        """Return a second way that goes on from here by itself."""
        return TokenMask(self._matcher.deep_copy(), self._size, self._param, self._tokens)

    def _computed(self) -> npt.NDArray[np.uint64]:
        """Return a bit [vocabulary] for each token, the lowest of the first word first: 1 if it may come next."""
        if not self._is_computed:
            self._matcher.unsafe_compute_mask_ptr(self._address, self._bytes)
            self._check()
            self._words[-1] &= self._own
            self._is_computed = True
        return self._words

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = brief(self._matcher.get_error())
            raise InvalidValue.of(self._param, f"the answer could not be kept to what {self._param} asks: {reason}")


def _ceilings() -> npt.NDArray[np.float32]:
    """Return for every byte of a mask what the logits [256, 8] of its tokens may be at most."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    ceilings = np.where(bits, np.float32(np.inf), np.float32(-np.inf))
    ceilings.setflags(write=False)
    return ceilings


_CEILINGS = _ceilings()


def _places(words: npt.NDArray[np.uint64]) -> Ids:
    """Return where the bits of a mask are 1 [n], ascending."""
    used = np.flatnonzero(words)
    if 4 * len(used) > len(words):
        return np.flatnonzero(_bits(words))
    found = np.flatnonzero(_bits(words[used]))
    return used[found // _WORD] * _WORD + found % _WORD


def _bits(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    # numpy looks for what is not zero several times as fast among booleans.
    return np.unpackbits(words.view(np.uint8), bitorder="little").view(np.bool_)


def _bodies(constraint: Constraint) -> tuple[list[dict[str, Any]], str]:
    """Return what a constraint asks as the library reads it, the best way first, and what an error is called.

    Raises:
        InvalidValue: it exceeds a limit, or is no grammar.
    """
    match constraint:
        case JsonConstraint(schema=text, param=param):
            schema = json.loads(spaced(parsed_schema(text, param)))
            return [{"json_schema": schema}], f"Invalid schema for {param}"
        case RegexConstraint(pattern=pattern, param=param):
            check_pattern(pattern, param)
            return [{"lark_grammar": f"start: /{llguidance.regex_to_lark(pattern, use_ascii='')}/"}], (
                "the pattern is wrong"
            )
        case GrammarConstraint(grammar=grammar, syntax=syntax, param=param):
            check_grammar(grammar, param, syntax=syntax)
            written = [grammar] if syntax == "lark" else gbnf.to_lark(grammar, param)
            return [{"lark_grammar": lark} for lark in written], "the grammar is wrong"


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
