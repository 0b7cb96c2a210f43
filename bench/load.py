"""A load generator for streamed completions: N clients at once, fixed prompt and answer lengths in tokens."""

import asyncio
import itertools
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import httpx


@dataclass(frozen=True)
class Load:
    """`clients` requests at once of `prompt_tokens` tokens, `shared` of them the same for all, `new_tokens` to make.

    A `repeat_penalty` below 1 makes a model of random weights repeat itself, one above 1 keeps it from that. With a
    `pattern` the answer is held to it.
    """

    clients: int
    prompt_tokens: int = 256
    new_tokens: int = 48
    shared: int = 0
    vocabulary: int = 30_000
    repeat_penalty: float = 1.0
    pattern: str = ""

    @property
    def wishes(self) -> dict[str, Any]:
        """Return the fields of a request that are not llama.cpp's defaults."""
        wishes: dict[str, Any] = {}
        if self.repeat_penalty != 1.0:
            wishes |= {"repeat_penalty": self.repeat_penalty, "repeat_last_n": 512}
        if self.pattern:
            wishes["regex"] = self.pattern
        return wishes

    def prompts(self, seed: int) -> list[list[int]]:
        """Return token ids, different for each client and seed; what is shared depends on the seed alone."""
        source = random.Random(seed)

        def draw(count: int) -> list[int]:
            return [source.randrange(300, self.vocabulary) for _ in range(count)]

        common = draw(self.shared)
        return [common + draw(self.prompt_tokens - self.shared) for _ in range(self.clients)]


def run(url: str, model: str, load: Load, seed: int) -> dict[str, float]:
    """Return tokens/s over all clients, and the medians of time to first token and between tokens in ms."""
    return asyncio.run(_run(url, model, load, seed))


async def _run(url: str, model: str, load: Load, seed: int) -> dict[str, float]:
    async with httpx.AsyncClient(timeout=600, trust_env=False, limits=httpx.Limits(max_connections=None)) as client:
        began = time.perf_counter()
        moments = await asyncio.gather(*(_moments(client, url, model, prompt, load) for prompt in load.prompts(seed)))
        took = time.perf_counter() - began
    gaps = [b - a for every in moments for a, b in itertools.pairwise(every)]
    return {
        "tokens_per_s": load.clients * load.new_tokens / took,
        "first_ms": statistics.median(every[0] - began for every in moments) * 1000,
        "gap_ms": statistics.median(gaps) * 1000 if gaps else 0.0,
    }


async def _moments(client: httpx.AsyncClient, url: str, model: str, prompt: list[int], load: Load) -> list[float]:
    moments = stream(client, url, model, prompt, load.new_tokens, load.wishes)
    return [moment async for moment in moments]


async def stream(
    client: httpx.AsyncClient,
    url: str,
    model: str,
    prompt: list[int],
    count: int,
    wishes: Mapping[str, Any] = MappingProxyType({}),
) -> AsyncIterator[float]:
    """Yield when each piece of text arrived; the request makes exactly `count` tokens, greedily.

    Raises:
        RuntimeError: the server refused, or made another number of tokens.
    """
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": count,
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
        **wishes,
    }
    tokens = 0
    async with client.stream("POST", f"{url}/v1/completions", json=body) as answer:
        if answer.status_code != 200:
            raise RuntimeError(f"status {answer.status_code}: {(await answer.aread())[:500]!r}")
        async for line in answer.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                raise RuntimeError(str(chunk["error"]))
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
            if chunk["choices"] and chunk["choices"][0].get("text"):
                yield time.perf_counter()
    if tokens != count:
        raise RuntimeError(f"{tokens} tokens instead of {count}")
