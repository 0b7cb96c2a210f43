"""Ways to load and ask the real llama.cpp engine, for the tests that drive it by hand."""

from pathlib import Path

import pytest

from server.core.jobs import JobId
from server.core.models import ModelCard, ModelId, ModelKind, Runtime, TextSettings
from server.core.text import ChatRequest, CompletionRequest, Message, SamplingParams, TextPart
from tests.support.engine_driver import Collected, run

pytest.importorskip("llama_cpp")

from server.engines.text.engine import LlamaEngine
from server.engines.text.llama_cpp import LlamaLoader

GREEDY = SamplingParams(temperature=0, max_tokens=40)
SLOTS = 16


def card(path: Path) -> ModelCard:
    return ModelCard(
        id=ModelId("tiny"), name=path.name, kind=ModelKind.TEXT, files=(str(path),), runtime=Runtime.LLAMA_CPP
    )


def load(
    path: Path,
    *,
    slots: int = SLOTS,
    batch: int = 512,
    context: int = 0,
    kv_type: str = "f16",
    speculation: bool = False,
    threads: int = 1,
    draft: Path | None = None,
    mmproj: Path | None = None,
) -> LlamaEngine:
    settings = TextSettings(
        slots=slots,
        batch=batch,
        context=context,
        threads=threads,
        kv_type=kv_type,
        speculation=speculation,
        draft="" if draft is None else str(draft),
        mmproj="" if mmproj is None else str(mmproj),
    )
    return LlamaLoader().load(card(path), settings, lambda _: None)


def completion(
    *prompts: str | tuple[int, ...], sampling: SamplingParams = GREEDY, choices: int = 1, echo: bool = False
) -> CompletionRequest:
    return CompletionRequest(model="tiny", prompts=prompts, sampling=sampling, choices=choices, echo=echo)


def chat(*turns: tuple[str, str], sampling: SamplingParams = GREEDY, continue_final: bool = False) -> ChatRequest:
    messages = tuple(Message(role=role, parts=(TextPart(text),)) for role, text in turns)
    return ChatRequest(model="tiny", messages=messages, sampling=sampling, continue_final=continue_final)


def ask(engine: LlamaEngine, work: CompletionRequest | ChatRequest, job: str = "job") -> Collected:
    engine.submit(JobId(job), work)
    return run(engine)
