"""Mutated bodies with a fixed seed: whatever comes in, nothing of it is the server's fault."""

import asyncio
import random
import re
from typing import Any

import pytest

from tests.compat.llama_server.door import knocking
from tests.compat.llama_server.test_fields import SAMPLES
from tests.support.fake_service import FakeService
from tests.support.mutation import mutated

ROUNDS = 300
LEAK = re.compile(r"0x[0-9a-f]{6,}|/home/|Traceback|site-packages")

WRITING = {name: value for name, value in SAMPLES.items() if name != "grammar"}
BODIES: dict[str, dict[str, Any]] = {
    "/completion": {**WRITING, "prompt": ["a", [1, 2], {"prompt_string": "x"}], "stream": True},
    "/infill": {
        "input_prefix": "a",
        "input_suffix": "b",
        "input_extra": [{"filename": "f", "text": "t"}],
        "prompt": "m",
        "logit_bias": [[5, False], ["x", 1]],
        "grammar": "root ::= x",
        "response_fields": ["content", "timings/cache_n"],
    },
    "/tokenize": {"content": "a b", "add_special": True, "parse_special": True, "with_pieces": True},
    "/detokenize": {"tokens": [1, 2, 3], "model": "tiny"},
    "/apply-template": {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "content": "1", "tool_call_id": "c"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "chat_template_kwargs": {"enable_thinking": True},
        "add_generation_prompt": True,
    },
}


@pytest.mark.parametrize("path", BODIES)
def test_no_body_is_the_servers_fault(path: str) -> None:
    rng = random.Random(20_240_601)
    body = BODIES[path]
    statuses: dict[int, int] = {}

    async def run() -> None:
        async with knocking(FakeService()) as client:
            assert (await client.post(path, json=body)).status_code == 200
            for _ in range(ROUNDS):
                sent = mutated(body, rng)
                answered = await client.post(path, content=sent)
                statuses[answered.status_code] = statuses.get(answered.status_code, 0) + 1
                assert answered.status_code in (200, 400, 404), (answered.status_code, sent)
                assert not LEAK.search(answered.text), sent
                if answered.status_code != 200:
                    assert {"message", "type", "code"} <= set(answered.json()["error"]), sent

    asyncio.run(run())
    assert statuses[200] > ROUNDS / 20 and statuses[400] > ROUNDS / 5


@pytest.mark.parametrize(
    "query", ["model=%00", "model=" + "x" * 5000, "model=%ff", "model=a&model=b", "fail_on_no_slot"]
)
def test_queries(query: str) -> None:
    async def run() -> list[int]:
        async with knocking(FakeService()) as client:
            return [(await client.get(f"{path}?{query}")).status_code for path in ("/props", "/slots")]

    assert set(asyncio.run(run())) <= {200, 400, 404}
