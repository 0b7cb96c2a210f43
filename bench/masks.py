"""What grammars cost, with a real vocabulary: ms a token for the mask, and for what is done with it.

Each kind of grammar is walked along a text that obeys it, in the tokens of the model's own tokeniser. The vocabulary is
that of Qwen2 (152,000 tokens), which llama.cpp's source brings without weights, unless another GGUF file is named.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import llama_cpp
import numpy as np

from bench.llama_server import source
from server.core.text import Constraint, GrammarConstraint, JsonConstraint, RegexConstraint
from server.engines.text.constraints import Constraints
from server.engines.text.native_log import LogTap
from server.engines.text.vocabulary import Vocabulary

_PERSON = """{"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"},
"tags": {"type": "array", "items": {"type": "string"}}, "sex": {"enum": ["m", "f"]}},
"required": ["name", "age", "tags", "sex"], "additionalProperties": false}"""
_JSON = (
    '{"name": "Ada of the analytical engine", "age": 36, "tags": ["maths", "poetry and prose", "x\\ny"], "sex": "f"}'
)
_PLAIN = '{"name": "Ada of the analytical engine", "tags": ["maths", "poetry and prose"]}'
_SENTENCE = "The quick brown fox jumps over the lazy dog."
_LARK = r"""start: object
object: "{" pair ("," pair)* "}"
pair: TEXT ":" value
value: TEXT | NUMBER | object | "[" value ("," value)* "]"
TEXT: /"[^"\\]*"/
NUMBER: /[0-9]+/
%ignore /[ \n]+/
"""
_GBNF_JSON = r"""root ::= object
value ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? "}" ws
array ::= "[" ws (value ("," ws value)*)? "]" ws
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" ws
number ::= "-"? ([0-9] | [1-9] [0-9]*) ("." [0-9]+)? ws
ws ::= ([ \t\n] ws)?
"""
_GBNF_SUM = r"""root ::= (sum "=" ws term "\n")+
sum ::= term ([-+*/] term)*
term ::= (name | number | "(" ws sum ")") ws
name ::= [a-z] [a-z0-9_]*
number ::= [0-9]+
ws ::= [ \t\n]*
"""


class Case(NamedTuple):
    """A constraint and a text that obeys it."""

    constraint: Constraint
    text: str


CASES = {
    "JSON, any": Case(JsonConstraint(schema="{}"), _JSON),
    "JSON schema": Case(JsonConstraint(schema=_PERSON), _JSON),
    "regex": Case(RegexConstraint(pattern=r"[A-Z][a-z]+( [a-z]+)*\."), _SENTENCE),
    "Lark, JSON": Case(GrammarConstraint(grammar=_LARK, syntax="lark"), _PLAIN),
    "GBNF, JSON": Case(GrammarConstraint(grammar=_GBNF_JSON), _JSON),
    "GBNF, sums": Case(GrammarConstraint(grammar=_GBNF_SUM), "x_1+12*(y-3)=4\n"),
    "GBNF, a sentence": Case(GrammarConstraint(grammar='root ::= word (" " word)* "."\nword ::= [a-zA-Z]+'), _SENTENCE),
    "GBNF, any line": Case(GrammarConstraint(grammar=r'root ::= "- " [^\n]+ "\n"'), f"- {_SENTENCE}\n"),
    "GBNF, yes or no": Case(GrammarConstraint(grammar='root ::= "yes" | "no" | "maybe so"'), "maybe so"),
}


def masks(file: Path | None, rounds: int) -> None:
    """Print ms for the mask, for cutting a row by it and for going on, and what the dearest mask of a text took."""
    vocabulary = _vocabulary(file or source() / "models" / "ggml-vocab-qwen2.gguf")
    constraints = Constraints(vocabulary)
    began = time.perf_counter()
    constraints.tokens("x")
    print(f"vocabulary of {vocabulary.size}: made ready in {time.perf_counter() - began:.2f} s")
    row = np.random.default_rng(0).normal(0, 1, vocabulary.size).astype(np.float32)
    for name, case in CASES.items():
        began = time.perf_counter()
        constraints.mask(case.constraint)
        compiled = (time.perf_counter() - began) * 1000
        tokens = constraints.tokens(case.text)
        times = np.array([_walk(constraints, case.constraint, tokens, row) for _ in range(rounds)]).min(axis=0)
        mask, cut, accept = times.mean(axis=0)
        print(
            f"{name:<18} {len(tokens):>3} tokens: mask {mask:.3f} (dearest {times[:, 0].max():.3f}), "
            f"cut {cut:.3f}, accept {accept:.3f} ms a token; compiled in {compiled:.1f} ms",
            flush=True,
        )


def _walk(constraints: Constraints, constraint: Constraint, tokens: list[int], row: Any) -> list[list[float]]:
    """Return ms [tokens, 3] of one walk along a text."""
    mask = constraints.mask(constraint)
    found: list[list[float]] = []
    for token in tokens:
        own = row.copy()
        began = time.perf_counter()
        allows = mask.allows(token)
        masked = time.perf_counter()
        mask.restrict(own)
        cut = time.perf_counter()
        mask.accept(token)
        done = time.perf_counter()
        if not allows:
            raise RuntimeError(f"the text does not obey {constraint}")
        found.append([(masked - began) * 1000, (cut - masked) * 1000, (done - cut) * 1000])
    return found


def _vocabulary(file: Path) -> Vocabulary:
    """Return the vocabulary of a GGUF file, which may have no weights."""
    LogTap()
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    pointer = llama_cpp.llama_model_load_from_file(str(file).encode(), params)
    if not pointer:
        raise RuntimeError(f"llama.cpp cannot read {file}")
    model: Any = type("VocabularyOnly", (), {"pointer": pointer})
    return Vocabulary(model)
