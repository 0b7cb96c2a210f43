"""Mutated bodies with a fixed seed: whatever comes in, nothing of it is the server's fault."""

import asyncio
import random
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.compat.openai.door import knocking
from tests.support.fake_service import FakeService
from tests.support.mutation import mutated

ROUNDS = 400
LEAK = re.compile(r"0x[0-9a-f]{6,}|/home/|Traceback|site-packages")

CHAT: dict[str, Any] = {
    "model": "tiny",
    "messages": [
        {"role": "system", "content": "be kind", "name": "n"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}],
        },
        {"role": "tool", "content": "42", "tool_call_id": "c"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": "auto",
    "temperature": 0.5,
    "top_p": 1,
    "top_k": 40,
    "n": 1,
    "seed": 5,
    "stop": ["a"],
    "logit_bias": {"5": -1},
    "max_tokens": 5,
    "stream": False,
    "stream_options": {"include_usage": True},
    "chat_template_kwargs": {"enable_thinking": True},
    "response_format": {"type": "text"},
    "logprobs": False,
}
PLAIN: dict[str, Any] = {
    "model": "tiny",
    "prompt": ["a", [1, 2]],
    "echo": True,
    "n": 1,
    "best_of": 1,
    "stop": "x",
    "logit_bias": [[5, False]],
    "logprobs": None,
    "suffix": None,
    "stream": True,
}
TOOLED: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hi"}],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "strict": True}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "reasoning_effort": "low",
    "reasoning": {"effort": "low", "max_tokens": 5},
    "thinking": {"type": "enabled", "budget_tokens": 5},
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": [["word", -1], [3, False]],
    "samplers": ["top_k"],
    "dry_multiplier": 0.8,
    "dry_sequence_breakers": '["a"]',
    "mirostat": 2,
    "xtc_probability": 0.5,
}
SHAPED: dict[str, Any] = {
    "prompt": "p",
    "suffix": "s",
    "logprobs": 2,
    "structured_outputs": {"regex": "a+", "choice": []},
    "best_of": 3,
    "n": 2,
}
EMBEDDED: dict[str, Any] = {
    "model": "tiny",
    "input": ["a", [1, 2], "b"],
    "encoding_format": "base64",
    "dimensions": 3,
    "user": "me",
}
RANKED: dict[str, Any] = {
    "model": "tiny",
    "query": "q",
    "documents": ["a", {"text": "b"}],
    "top_n": 1,
    "return_documents": True,
    "raw_scores": False,
}
RESPONDED: dict[str, Any] = {
    "model": "tiny",
    "input": [
        {"role": "developer", "content": "be kind"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "content": None},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{"},
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
    ],
    "instructions": "be kind",
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}, {"type": "web_search"}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["message.output_text.logprobs"],
    "top_logprobs": 3,
    "metadata": {"a": "b"},
    "max_output_tokens": 5,
    "previous_response_id": None,
    "store": True,
    "stream": True,
}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", CHAT),
        ("chat/completions", TOOLED),
        ("completions", PLAIN),
        ("completions", SHAPED),
        ("embeddings", EMBEDDED),
        ("rerank", RANKED),
        ("responses", RESPONDED),
    ],
)
def test_no_body_is_the_servers_fault(path: str, body: dict[str, Any], tmp_path: Path) -> None:
    rng = random.Random(20_240_601)
    statuses: dict[int, int] = {}

    async def knock(client: httpx.AsyncClient) -> None:
        for _ in range(ROUNDS):
            sent = mutated(body, rng)
            answered = await client.post(f"/v1/{path}", content=sent)
            statuses[answered.status_code] = statuses.get(answered.status_code, 0) + 1
            assert answered.status_code in (200, 400, 404), (answered.status_code, sent)
            assert not LEAK.search(answered.text), sent
            if answered.status_code != 200:
                assert {"message", "type", "param", "code"} <= set(answered.json()["error"]), sent

    async def run() -> None:
        async with knocking(FakeService(), responses_file=str(tmp_path / "responses.sqlite3")) as client:
            assert (await client.post(f"/v1/{path}", json=body)).status_code == 200
            await knock(client)

    asyncio.run(run())
    assert statuses[200] > ROUNDS / 20 and statuses[400] > ROUNDS / 5
