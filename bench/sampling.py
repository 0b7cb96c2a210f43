"""What choosing tokens costs, at a vocabulary of 152,000: sampler chains, and the whole Python between two decodes.

`chains` runs each kind of chain beside llama.cpp's own (`llama_sampler_sample` over the whole vocabulary) on the same
rows of logits, in turns: rows as trained models have them, rows as they are at random or at a high temperature, and
nearly level ones. `steps` runs the engine itself with a context whose decode returns at once with ready rows, so that
what is left of a step is Python.
"""

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from bench.compare import Compared, spread
from bench.model import Shape, write_model
from server.core.jobs import CancelMode, JobEvent, JobId
from server.core.models import ModelCard, ModelId, ModelKind, Runtime, TextSettings
from server.core.text import CompletionRequest, GrammarConstraint, JsonConstraint, SamplingParams, TextDelta
from server.engines.text.batch import Batch
from server.engines.text.engine import LlamaEngine
from server.engines.text.llama_cpp import LlamaLoader
from server.engines.text.native import Context
from server.engines.text.sampling_values import Chain, resolve
from server.engines.text.token_sampling import Candidates, TokenSampler
from server.engines.text.vocabulary import Vocabulary

Rows = npt.NDArray[np.float32]

TINY = Shape(layers=1, width=64, feed_forward=64, heads=2, kv_heads=2)
CONTEXT = 8448
SEQUENCES = 16
LENGTH = 512
_SECONDS = 0.04
_ROWS = 8
_OFF: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}

KINDS = {
    "greedy": SamplingParams(temperature=0.0),
    "defaults (top_k 40)": SamplingParams(),
    "defaults + penalties": SamplingParams(repeat_penalty=1.1, frequency_penalty=0.1, presence_penalty=0.1),
    "penalties over 8192": SamplingParams(repeat_penalty=1.1, repeat_last_n=-1),
    "dry over 8192": SamplingParams(dry_multiplier=0.8, dry_penalty_last_n=-1),
    "bias of 1000 tokens": SamplingParams(logit_bias=tuple((token * 150, 1.0) for token in range(1000))),
    "top_k 1000": SamplingParams(**_OFF | {"top_k": 1000}),
    "temperature 1": SamplingParams(**_OFF, temperature=1.0),
    "temperature 2": SamplingParams(**_OFF, temperature=2.0),
    "top_p": SamplingParams(**_OFF | {"top_p": 0.95}, temperature=1.0),
    "top_p at temperature 2": SamplingParams(
        **_OFF | {"top_p": 0.95}, temperature=2.0, samplers=("temperature", "top_p")
    ),
    "min_p": SamplingParams(**_OFF | {"min_p": 0.05}),
    "typical_p": SamplingParams(**_OFF, typical_p=0.9),
    "top_n_sigma": SamplingParams(**_OFF, top_n_sigma=1.0),
    "xtc": SamplingParams(**_OFF, xtc_probability=0.5),
    "dynamic temperature": SamplingParams(**_OFF, dynatemp_range=0.5),
    "mirostat 1": SamplingParams(mirostat=1),
    "mirostat 2": SamplingParams(mirostat=2),
    "penalties after top_p": SamplingParams(
        **_OFF | {"top_p": 0.95}, repeat_penalty=1.1, samplers=("top_p", "penalties", "temperature")
    ),
}


def sampling(place: Path, rounds: int) -> None:
    """Print both tables; `place` is a folder for a model of a few megabytes, which is made there."""
    file = place / "tiny.gguf"
    write_model(file, TINY)
    chains(_load(file), rounds)
    steps(file, rounds)


def _load(file: Path) -> LlamaEngine:
    card = ModelCard(
        id=ModelId("bench"), name="bench", kind=ModelKind.TEXT, files=(str(file),), runtime=Runtime.LLAMA_CPP
    )
    settings = TextSettings(slots=SEQUENCES, context=LENGTH, threads=1)
    engine = LlamaLoader().load(card, settings, lambda _: None)
    if not isinstance(engine, LlamaEngine):
        raise RuntimeError("this model writes no text")
    return engine


def rows_of(size: int) -> dict[str, Rows]:
    """Return rows of logits [8, size] of each kind, the same ones every time."""
    source = np.random.default_rng(7)
    peaked = source.normal(0, 1.5, (_ROWS, size)).astype(np.float32)
    for row in peaked:
        row[source.integers(0, size, 60)] += np.linspace(20, 5, 60, dtype=np.float32)
    return {
        "peaked": peaked,
        "rough": source.normal(0, 2.5, (_ROWS, size)).astype(np.float32),
        "flat": source.normal(0, 0.6, (_ROWS, size)).astype(np.float32),
    }


def chains(engine: LlamaEngine, rounds: int) -> None:
    """Print microseconds a token of every kind of chain on every kind of row, beside llama.cpp's."""
    context, vocabulary = engine._context, engine._vocabulary
    history = np.random.default_rng(3).integers(0, vocabulary.size, CONTEXT - 256)
    history[4096:] = history[: len(history) - 4096]  # something for DRY to find
    ready = rows_of(vocabulary.size)
    for name, params in KINDS.items():
        for kind, rows in ready.items():
            mine, other = _beside(context, vocabulary, params, rows, history, rounds)
            print(Compared(f"{name}, {kind}", "us", mine, other, "less").line(), flush=True)
    engine.close()


def _beside(
    context: Context,
    vocabulary: Vocabulary,
    params: SamplingParams,
    rows: Rows,
    history: npt.NDArray[np.int64],
    rounds: int,
) -> tuple[list[float], list[float]]:
    chain = resolve(params, vocabulary=vocabulary.size, context=CONTEXT)
    ours = TokenSampler(chain, 1, Candidates(vocabulary.size))
    theirs = native_chain(chain, vocabulary.size, 1)
    ours.accept(history)
    for token in history:
        llama_cpp.llama_sampler_accept(theirs, int(token))
    _decode_once(context)
    row = context.logits(1)[0]

    def our_token() -> None:
        ours.accept((ours.choose(row),))

    def their_token() -> None:
        llama_cpp.llama_sampler_sample(theirs, context.pointer, 0)

    mine: list[float] = []
    other: list[float] = []
    for _ in range(rounds):
        mine.append(_per_token(our_token, row, rows))
        other.append(_per_token(their_token, row, rows))
    ours.close()
    llama_cpp.llama_sampler_free(theirs)
    return mine, other


def _per_token(choose: Callable[[], None], row: npt.NDArray[np.float32], rows: Rows) -> float:
    """Return the median of microseconds for one token; writing the row anew for each is not counted."""
    times: list[float] = []
    until = time.perf_counter() + _SECONDS
    while len(times) < _ROWS or time.perf_counter() < until:
        row[:] = rows[len(times) % _ROWS]
        began = time.perf_counter()
        choose()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def _decode_once(context: Context) -> None:
    batch = Batch(1)
    batch.set_next([0], [0], [1])
    context.clear()
    if context.decode(batch):
        raise RuntimeError("the tiny model cannot be computed")


def native_chain(chain: Chain, vocabulary: int, seed: int) -> Any:
    """Return llama.cpp's own chain for the whole vocabulary; sequence breakers of DRY are left out on both sides."""
    native = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for part in _parts(chain, vocabulary, seed):
        llama_cpp.llama_sampler_chain_add(native, part)
    return native


def _parts(chain: Chain, vocabulary: int, seed: int) -> Iterator[Any]:
    init = llama_cpp
    if chain.biases:
        biases = [init.llama_logit_bias(token, bias) for token, bias in chain.biases]
        yield init.llama_sampler_init_logit_bias(
            vocabulary, len(biases), (init.llama_logit_bias * len(biases))(*biases)
        )
    if chain.temperature == 0 and not chain.mirostat.version:
        yield init.llama_sampler_init_greedy()
        return
    for name in chain.order:
        yield _part(name, chain, vocabulary, seed)
    match chain.mirostat:
        case (1, tau, eta):
            yield init.llama_sampler_init_mirostat(vocabulary, seed, tau, eta, 100)
        case (2, tau, eta):
            yield init.llama_sampler_init_mirostat_v2(seed, tau, eta)
        case _:
            yield init.llama_sampler_init_dist(seed)


def _part(name: str, chain: Chain, vocabulary: int, seed: int) -> Any:
    penalties, dry, init = chain.penalties, chain.dry, llama_cpp
    make: dict[str, Callable[[], Any]] = {
        "penalties": lambda: init.llama_sampler_init_penalties(
            vocabulary, penalties.last_n, penalties.repeat, penalties.frequency, penalties.presence
        ),
        "dry": lambda: init.llama_sampler_init_dry(
            None, dry.multiplier, dry.base, dry.allowed, dry.last_n, (ctypes.c_char_p * 0)(), 0
        ),
        "top_n_sigma": lambda: init.llama_sampler_init_top_n_sigma(chain.top_n_sigma),
        "top_k": lambda: init.llama_sampler_init_top_k(chain.top_k),
        "typ_p": lambda: init.llama_sampler_init_typical(chain.typical_p, chain.min_keep),
        "top_p": lambda: init.llama_sampler_init_top_p(chain.top_p, chain.min_keep),
        "min_p": lambda: init.llama_sampler_init_min_p(chain.min_p, chain.min_keep),
        "xtc": lambda: init.llama_sampler_init_xtc(chain.xtc_probability, chain.xtc_threshold, chain.min_keep, seed),
        "temperature": lambda: init.llama_sampler_init_temp_ext(
            chain.temperature, chain.heat_range, chain.heat_exponent
        ),
    }
    return make[name]()


_STEPS = {
    "greedy": SamplingParams(temperature=0.0),
    "defaults": SamplingParams(),
    "defaults + penalties": SamplingParams(repeat_penalty=1.1, presence_penalty=0.1),
    "top_p alone": SamplingParams(**_OFF | {"top_p": 0.95}, temperature=1.0),
    "300 stop strings": SamplingParams(stop=tuple(f"w{number} w" for number in range(1000, 1300))),
}
_LED = {
    "JSON schema": JsonConstraint(schema='{"type": "string"}'),
    "GBNF": GrammarConstraint(grammar=r'root ::= "\"" [^"]* "\""'),
}


def steps(file: Path, rounds: int) -> None:
    """Print ms of Python a step of 1 and of 16 replies."""
    works = {name: _work(sampling=params) for name, params in _STEPS.items()}
    works["logprobs, top 20"] = _work(logprobs=20)
    works |= {name: _work(constraint=constraint) for name, constraint in _LED.items()}
    works |= {
        f"{name}, greedy": _work(constraint=constraint, sampling=_STEPS["greedy"]) for name, constraint in _LED.items()
    }
    for count in (1, SEQUENCES):
        for name, work in works.items():
            engine = _load(file)
            ready = ReadyRows(rows_of(engine._vocabulary.size)["peaked"])
            context: Any = engine._context
            context.decode, context.logits = ready.decode, ready.logits
            _print_steps(name, engine, ready, [work] * count, rounds)
            engine.close()


def _work(**options: Any) -> CompletionRequest:
    return CompletionRequest(model="bench", prompts=((5, 6, 7),), **options)


class ReadyRows:
    """Takes the place of computing: the outputs of every decode are rows that were made before.

    `seconds` is what writing them has taken, which is to be left out of what is measured.
    """

    def __init__(self, rows: Rows) -> None:
        self._ready = np.concatenate([rows] * 3)[: SEQUENCES + 1].copy()
        self._rows = self._ready.copy()
        self.seconds = 0.0

    def decode(self, batch: Any) -> int:
        """Write the rows anew."""
        began = time.perf_counter()
        self._rows[: batch.outputs] = self._ready[: batch.outputs]
        self.seconds += time.perf_counter() - began
        return 0

    def logits(self, count: int) -> Rows:
        """Return rows [count, vocabulary]."""
        return self._rows[:count]


def _print_steps(
    name: str, engine: LlamaEngine, ready: ReadyRows, works: Sequence[CompletionRequest], rounds: int
) -> None:
    jobs = [JobId(f"{number}") for number in range(len(works))]
    for job, work in zip(jobs, works, strict=True):
        engine.submit(job, work)
    silent = set(jobs)
    while silent:
        silent -= {out.job for out in engine.step() if isinstance(out, JobEvent) and isinstance(out.event, TextDelta)}
    found: list[float] = []
    for _ in range(rounds):
        took: list[float] = []
        for _ in range(20):
            before, began = ready.seconds, time.perf_counter()
            engine.step()
            took.append(time.perf_counter() - began - (ready.seconds - before))
        found.append(statistics.median(took) * 1000)
    for job in jobs:
        engine.cancel(job, CancelMode.ABANDON)
    print(f"step of {len(works):>2}, {name:<24} {spread(found)} ms", flush=True)
