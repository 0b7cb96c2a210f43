"""A load generator for streamed completions: N clients at once, fixed prompt and answer lengths in tokens."""

import asyncio
import itertools
import json
import random
import statistics
import time
from dataclasses import dataclass

import httpx


@dataclass(frozen=True)
class Load:
    """`clients` requests at once of `prompt_tokens` tokens, `shared` of them the same for all, `new_tokens` to make."""

    clients: int
    prompt_tokens: int = 256
    new_tokens: int = 48
    shared: int = 0
    vocabulary: int = 30_000

    def prompts(self, seed: int) -> list[list[int]]:
        """Return token ids, different for each client and seed."""
        source = random.Random(seed)

        def draw(count: int) -> list[int]:
            return [source.randrange(300, self.vocabulary) for _ in range(count)]

        common = draw(self.shared)
        return [common + draw(self.prompt_tokens - self.shared) for _ in range(self.clients)]


def run(url: str, model: str, load: Load, seed: int) -> dict[str, float]:
    """Return tokens/s over all clients, and the medians of time to first token and between tokens in ms."""
    return asyncio.run(_run(url, model, load, seed))


async def _run(url: str, model: str, load: Load, seed: int) -> dict[str, float]:
    async with httpx.AsyncClient(timeout=600, trust_env=False) as client:
        began = time.perf_counter()
        results = await asyncio.gather(
            *(_one(client, url, model, prompt, load.new_tokens) for prompt in load.prompts(seed))
        )
        took = time.perf_counter() - began
    firsts = [first for first, _, _ in results]
    gaps = [gap for _, every, _ in results for gap in every]
    return {
        "tokens_per_s": sum(count for _, _, count in results) / took,
        "first_ms": statistics.median(firsts) * 1000,
        "gap_ms": statistics.median(gaps) * 1000 if gaps else 0.0,
        "worst_gap_ms": max(gaps, default=0.0) * 1000,
    }


async def _one(
    client: httpx.AsyncClient, url: str, model: str, prompt: list[int], count: int
) -> tuple[float, list[float], int]:
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": count,
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }
    began = time.perf_counter()
    moments: list[float] = []
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
                moments.append(time.perf_counter())
    if not moments:
        raise RuntimeError("an answer without text")
    return moments[0] - began, [b - a for a, b in itertools.pairwise(moments)], tokens
