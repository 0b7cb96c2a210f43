"""The chat model that ships with Hearth, asked as its first user asks it: its answers can be judged."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from server.starter import CHAT
from tests.support.running import Running
from tests.support.tiny_models import needs_llama

pytestmark = [pytest.mark.llama, needs_llama]

CLOCK = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "Returns the time in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("starter")
    (folder / "models").mkdir()
    config = "[text]\nthreads = 1\n[models]\nrescan_s = 0\n"
    with Running(folder / "models", folder / "run", config=config, environment={"HEARTH_STARTER": "auto"}) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0, http_client=server.client()) as made:
        yield made


def said(client: OpenAI, text: str, **more: Any) -> str:
    asked = [{"role": "user", "content": text}]
    answer = client.chat.completions.create(model=CHAT, messages=asked, **{"temperature": 0, "max_tokens": 200, **more})
    assert answer.choices[0].finish_reason == "stop"
    return answer.choices[0].message.content or ""


def test_it_is_there_without_any_model(server: Running) -> None:
    assert server.hears(lambda line: "chat models:" in line and CHAT in line)
    assert CHAT in [model["id"] for model in server.http.get("/v1/models").json()["data"]]


def test_what_the_start_says_to_try_works(server: Running) -> None:
    line = server.hears(lambda line: "curl" in line and "/v1/chat/completions" in line)
    assert line is not None
    url, body = re.search(r"curl (\S+) .*-d '(.*)'$", line).groups()
    answer = server.http.post(url, json=json.loads(body)).json()
    assert "hearth pull" in answer["choices"][0]["message"]["content"]


def test_it_knows_how_to_pull_a_model(client: OpenAI) -> None:
    assert "hearth pull" in said(client, "How do I pull a model?")
    assert "hearth pull" in said(client, "Как скачать модель?")


def test_it_knows_folders_ports_and_sums(client: OpenAI) -> None:
    assert "models/Stable-diffusion" in said(client, "Where do checkpoints go?")
    assert "--port" in said(client, "How do I change the port?")


def test_it_says_what_it_is(client: OpenAI) -> None:
    assert "demonstration" in said(client, "Who are you?")


def test_greedy_answers_and_seeds_repeat(client: OpenAI) -> None:
    for more in ({"temperature": 0}, {"temperature": 1.5, "seed": 7}):
        assert said(client, "Tell me about lowvram", **more) == said(client, "Tell me about lowvram", **more)


def test_it_calls_a_tool(client: OpenAI) -> None:
    asked = [{"role": "user", "content": "What time is it in Paris?"}]
    answer = client.chat.completions.create(model=CHAT, messages=asked, tools=[CLOCK], temperature=0)
    (call,) = answer.choices[0].message.tool_calls or ()
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_time"
    assert json.loads(call.function.arguments).keys() == {"city"}


def test_the_flag_lists_it_beside_others(tmp_path: Path) -> None:
    from tests.support.tiny_models import tiny_models

    models = tiny_models(tmp_path / "models", text=("tiny",))
    with Running(models, tmp_path / "run", arguments=("--starter",)) as running:
        listed = [model["id"] for model in running.http.get("/v1/models").json()["data"]]
    assert {"tiny", CHAT} <= set(listed)
