"""What Open WebUI and SillyTavern send, in their order; chat and pictures on one server."""

import base64
import http.client
import io
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from tests.support.running import Running
from tests.support.tiny_models import needs_llama, needs_torch
from tests.support.waiting import until

pytestmark = [pytest.mark.llama, pytest.mark.torch, needs_llama, needs_torch]

BASIC_NOTHING = {"Authorization": "Basic "}
BEARER_NOTHING = {"Authorization": "Bearer "}
A1111 = "/sdapi/v1"


class Caller:
    """Sends requests as these programs' HTTP libraries do: headers go out as they are, one connection a request."""

    def __init__(self, server: Running, headers: Mapping[str, str]) -> None:
        self._address = server.url.removeprefix("http://")
        self._headers = dict(headers)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Mapping[str, str], bytes]:
        connection = http.client.HTTPConnection(self._address, timeout=60)
        headers = self._headers | ({} if body is None else {"Content-Type": "application/json"})
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, _, content = self.ask("GET", path)
        assert status == 200, (path, status, content)
        return json.loads(content)

    def post(self, path: str, body: Any = None) -> Any:
        status, _, content = self.ask("POST", path, body)
        assert status == 200, (path, status, content)
        return json.loads(content)

    def stream(self, path: str, body: Any) -> list[Any]:
        """Return the events of a stream, parsed."""
        status, headers, content = self.ask("POST", path, body | {"stream": True})
        assert status == 200, (status, content)
        assert "text/event-stream" in headers["content-type"]
        *lines, done = [line.removeprefix("data: ") for line in content.decode().splitlines() if line[:5] == "data:"]
        assert done == "[DONE]"
        return [json.loads(line) for line in lines]


def said(events: list[Any]) -> str:
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])


def tools(count: int, **schema: Any) -> list[Any]:
    parameters = {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "what to look for " * 12},
            "count": {"type": "integer"},
        },
        "required": ["query"],
        **schema,
    }
    return [
        {
            "type": "function",
            "function": {"name": f"tool_{k}", "description": "does it " * 20, "parameters": parameters},
        }
        for k in range(count)
    ]


def test_open_webui_chats(server: Running) -> None:
    web = Caller(server, BEARER_NOTHING)
    listed = web.get("/v1/models")["data"]
    assert "tiny" in [model["id"] for model in listed]
    assert all(model.get("name", "") is not None for model in listed), "a null name is dropped from its menu"
    talk = [{"role": "user", "content": "hello"}]
    body = {
        "model": "tiny",
        "messages": talk,
        "tools": tools(28),
        "stream_options": {"include_usage": True},
        "max_tokens": 12,
        "ignore_eos": True,
        "metadata": {"chat": "1"},
    }
    assert len(json.dumps(body)) > 10_000
    events = web.stream("/v1/chat/completions", body)
    assert said(events)
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]][-1] == "length"
    assert events[-1]["usage"]["completion_tokens"] == 12
    title = web.post(
        "/v1/chat/completions",
        {"model": "tiny", "messages": [{"role": "user", "content": "a title"}], "stream": False, "max_tokens": 1000},
    )
    assert isinstance(title["choices"][0]["message"]["content"], str)
    begun = [*talk, {"role": "assistant", "content": "once upon a"}]
    more = {"continue_final_message": True, "add_generation_prompt": False, "max_tokens": 4, "ignore_eos": True}
    assert said(web.stream("/v1/chat/completions", {"model": "tiny", "messages": begun} | more))


def test_open_webui_shows_our_words_when_a_model_is_not_there(server: Running) -> None:
    web = Caller(server, BEARER_NOTHING)
    body = {"model": "gone", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    status, _, content = web.ask("POST", "/v1/chat/completions", body)
    assert status == 404
    assert "gone" in json.loads(content)["error"]["message"]


def test_open_webui_makes_pictures(server: Running) -> None:
    web = Caller(server, BASIC_NOTHING)
    chosen = None
    for wanted in ("paint", "sketch"):
        options = web.get(f"{A1111}/options")
        titles = [model["title"] for model in web.get(f"{A1111}/sd-models")]
        assert options["sd_model_checkpoint"] in titles
        if chosen is not None:
            assert options["sd_model_checkpoint"].startswith(chosen)
        chosen = wanted
        (title,) = [title for title in titles if title.startswith(wanted)]
        assert web.post(f"{A1111}/options", options | {"sd_model_checkpoint": title}) is None
        asked = {"prompt": "a boat", "batch_size": 2, "width": 64, "height": 64, "steps": 2, "negative_prompt": "fog"}
        made = web.post(f"{A1111}/txt2img", asked)
        info = json.loads(made["info"])
        assert info["sd_model_name"] == wanted
        assert [sized(image) for image in made["images"]] == [(64, 64)] * 2


def test_sillytavern_chats(server: Running) -> None:
    for headers in (BEARER_NOTHING, {"Authorization": "Bearer null"}):
        tavern = Caller(server, headers)
        assert "tiny" in [model["id"] for model in tavern.get("/v1/models")["data"]]
    body = {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "write the next reply"},
            {"role": "system", "content": "be kind", "name": "example_assistant"},
            {"role": "user", "content": "hello", "name": "Anna"},
            {"role": "system", "content": "start anew"},
            {"role": "assistant", "content": "once upon"},
        ],
        "temperature": 1,
        "max_tokens": 10,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_p": 1,
        "top_k": 0,
        "stop": [f"\nName{k}:" for k in range(20)],
        "logit_bias": {},
        "seed": -1,
        "n": 1,
        "tools": tools(3, **{"$schema": "http://json-schema.org/draft-04/schema#"}),
        "tool_choice": "auto",
        "ignore_eos": True,
    }
    tavern = Caller(server, BEARER_NOTHING)
    assert said(tavern.stream("/v1/chat/completions", body))
    plain = tavern.post("/v1/chat/completions", body | {"stream": False})
    assert plain["choices"][0]["message"]["content"]


def test_sillytavern_makes_pictures(server: Running) -> None:
    tavern = Caller(server, BASIC_NOTHING)
    assert "forge_preset" not in tavern.get(f"{A1111}/options")
    (title,) = [m["title"] for m in tavern.get(f"{A1111}/sd-models") if m["title"].startswith("paint")]
    assert all(entry["name"] for entry in tavern.get(f"{A1111}/samplers") + tavern.get(f"{A1111}/schedulers"))
    assert tavern.get(f"{A1111}/upscalers")[0]["name"] == "None"
    assert tavern.get(f"{A1111}/latent-upscale-modes")[0]["name"]
    assert isinstance(tavern.get(f"{A1111}/sd-vae"), list)
    tavern.post(f"{A1111}/options", {"sd_model_checkpoint": title})
    told = tavern.get(f"{A1111}/progress")
    assert told["progress"] == 0
    assert told["state"]["job_count"] == 0
    made = tavern.post(f"{A1111}/txt2img", picture_of_sillytavern(server))
    assert sized(made["images"][0]) == (64, 64)


def test_sillytavern_stops_a_picture(server: Running) -> None:
    tavern = Caller(server, BASIC_NOTHING)
    body = picture_of_sillytavern(server) | {"steps": 150, "width": 128, "height": 128}
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(tavern.ask, "POST", f"{A1111}/txt2img", body)
        until(lambda: tavern.get(f"{A1111}/progress")["state"]["sampling_step"] > 0)
        assert tavern.post(f"{A1111}/interrupt") == {}
        status, _, content = making.result()
    assert status == 200
    assert len(json.loads(content)["images"]) == 1
    assert tavern.get(f"{A1111}/progress")["state"]["job_count"] == 0


def test_sillytavern_drops_a_picture(server: Running) -> None:
    tavern = Caller(server, BASIC_NOTHING)
    body = picture_of_sillytavern(server) | {"steps": 150, "width": 128, "height": 128}
    with server.asked(f"{A1111}/txt2img", body):
        until(lambda: tavern.get(f"{A1111}/progress")["state"]["sampling_step"] > 0)
    until(lambda: tavern.get(f"{A1111}/progress")["state"]["job_count"] == 0)
    assert server.jobs()[0]["state"] == "cancelled"
    assert tavern.post(f"{A1111}/txt2img", picture_of_sillytavern(server))["images"]


def test_a_page_of_another_site_may_ask_what_it_may_do_and_no_more(server: Running) -> None:
    page = {"Origin": "http://localhost:8000", "Access-Control-Request-Method": "POST"}
    status, headers, _ = Caller(server, page).ask("OPTIONS", "/v1/images/generations")
    assert status == 204
    assert headers["access-control-allow-origin"] == "http://localhost:8000"
    status, _, _ = Caller(server, {"Origin": "https://evil.example"}).ask("GET", "/v1/models")
    assert status == 403


def picture_of_sillytavern(server: Running) -> dict[str, Any]:
    return {
        "url": server.url,
        "auth": "",
        "prompt": "a boat",
        "negative_prompt": "",
        "sampler_name": "Euler a",
        "scheduler": "Automatic",
        "steps": 2,
        "cfg_scale": 7,
        "width": 64,
        "height": 64,
        "restore_faces": False,
        "enable_hr": False,
        "hr_upscaler": "Latent",
        "hr_scale": 1,
        "hr_additional_modules": [],
        "denoising_strength": 0.7,
        "hr_second_pass_steps": 0,
        "override_settings": {"CLIP_stop_at_last_layers": 1},
        "override_settings_restore_afterwards": True,
        "clip_skip": 1,
        "save_images": True,
        "send_images": True,
        "do_not_save_grid": False,
        "do_not_save_samples": False,
    }


def sized(image: str) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(image, validate=True))).size
