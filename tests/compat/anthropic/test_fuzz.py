"""Mutated bodies with a fixed seed: whatever comes in, nothing of it is the server's fault."""

import asyncio
import json
import random
import re
from copy import deepcopy
from typing import Any

import pytest

from tests.compat.anthropic.door import TOOL, knocking
from tests.support.fake_service import FakeService
from tests.support.mutation import mutated

ROUNDS = 400
LEAK = re.compile(r"0x[0-9a-f]{6,}|/home/|Traceback|site-packages")

COUNT: dict[str, Any] = {
    "model": "tiny",
    "system": [{"type": "text", "text": "be kind", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": [1]}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "42", "is_error": False}]},
    ],
    "tools": [TOOL],
    "tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 5},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
}
ANSWER: dict[str, Any] = {
    **COUNT,
    "max_tokens": 50,
    "temperature": 0.5,
    "top_k": 5,
    "top_p": 1,
    "stop_sequences": ["x"],
    "stream": True,
}


@pytest.mark.parametrize(("path", "body"), [("", ANSWER), ("/count_tokens", COUNT)])
def test_no_body_is_the_servers_fault(path: str, body: dict[str, Any]) -> None:
    rng = random.Random(20_240_601)
    statuses: dict[int, int] = {}

    async def run() -> None:
        async with knocking(FakeService()) as client:
            assert (await client.post(f"/v1/messages{path}", json=body)).status_code == 200
            for _ in range(ROUNDS):
                sent = mutated(body, rng)
                answered = await client.post(f"/v1/messages{path}", content=sent)
                statuses[answered.status_code] = statuses.get(answered.status_code, 0) + 1
                assert answered.status_code in (200, 400, 404), (answered.status_code, sent)
                assert not LEAK.search(answered.text), sent
                if answered.status_code != 200:
                    told = answered.json()
                    assert told["type"] == "error" and set(told["error"]) == {"type", "message"}, sent

    asyncio.run(run())
    assert statuses[200] > ROUNDS / 20 and statuses[400] > ROUNDS / 5


@pytest.mark.parametrize("depth", [200, 20_000])
def test_deep_bodies(depth: int) -> None:
    block = '{"type":"tool_result","tool_use_id":"t","content":['
    deep = json.dumps(deepcopy(COUNT)).encode()[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"
    blocks = '{"model":"tiny","messages":[{"role":"user","content":[' + block * depth + "]}" * depth + "]}]}"

    async def run() -> None:
        async with knocking(FakeService()) as client:
            for sent in (deep, blocks.encode()):
                assert (await client.post("/v1/messages/count_tokens", content=sent)).status_code in (200, 400)

    asyncio.run(run())
