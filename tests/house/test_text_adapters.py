"""LoRA adapters through a real server: known by their folder, named in requests, set for all, no models themselves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.running import Running, hearth
from tests.support.tiny_lora import TinyLora
from tests.support.tiny_models import needs_llama, tiny_models

pytestmark = [pytest.mark.llama, needs_llama]

CONFIG = """
[text]
slots = 4
threads = 1
gpu_layers = 0
[models.settings."own"]
loras = [{ name = "soft", scale = 1.0 }, "nobody"]
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_models(tmp_path_factory.mktemp("adapted"), text=("base", "own"))
    TinyLora(1).write(folder / "text" / "loud.gguf")
    TinyLora(2).write(folder / "text" / "lora" / "soft.gguf")
    TinyLora(3, width=64).write(folder / "text" / "lora" / "wide.gguf")
    return folder


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(models, tmp_path_factory.mktemp("serve"), config=CONFIG) as running:
        yield running


def told(server: Running, model: str = "base", **fields: Any) -> str:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0)
    with client:
        answer = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "once upon a time"}],
            temperature=0,
            max_tokens=16,
            extra_body={"ignore_eos": True, **fields},
        )
    return answer.choices[0].message.content or ""


def lora(*named: tuple[int | str, float]) -> list[dict[str, Any]]:
    return [{"id": name, "scale": scale} for name, scale in named]


def test_a_request_names_adapters(server: Running) -> None:
    listed = server.http.get("/lora-adapters", params={"model": "base"}).json()
    assert [(item["id"], item["path"], item["scale"]) for item in listed] == [(0, "soft", 0.0), (1, "loud", 0.0)]
    plain, loud = told(server), told(server, lora=lora((1, 1.0)))
    assert plain != loud
    assert told(server, lora=lora(("loud", 1.0))) == loud != told(server, lora=lora((0, 1.0)))
    assert told(server, lora=lora((0, 0.0))) == told(server, lora=[]) == plain


def test_adapters_are_no_models(server: Running) -> None:
    assert {model["id"] for model in server.http.get("/v1/models").json()["data"]} == {"base", "own"}
    answered = server.http.post("/completion", json={"prompt": "x", "model": "loud"})
    assert answered.status_code in (400, 404)


def test_an_unknown_adapter_is_refused_with_its_path(server: Running) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        told(server, lora=lora(("loud", 1.0), ("wide", 1.0)))
    assert caught.value.param == "lora[1].id" and "0 (soft), 1 (loud)" in caught.value.message
    answered = server.http.post("/completion", json={"prompt": "x", "model": "base", "lora": lora((5, 1.0))})
    assert (answered.status_code, answered.json()["error"]["param"]) == (400, "lora[0].id")


def test_scales_are_set_for_all_and_survive_an_unload(server: Running) -> None:
    plain, loud = told(server), told(server, lora=lora((1, 1.0)))
    for scales, expected in ((lora((1, 1.0)), loud), ([], plain)):
        assert server.http.post("/lora-adapters", params={"model": "base"}, json=scales).json() == {"success": True}
        assert told(server) == expected
        assert server.http.post("/models/unload", json={"model": "base"}).json() == {"success": True}
        assert told(server) == expected
        assert told(server, lora=lora((1, 1.0))) == loud


def test_adapters_of_the_configuration_act_by_themselves(server: Running) -> None:
    listed = server.http.get("/lora-adapters", params={"model": "own"}).json()
    assert [(item["path"], item["scale"], "problem" in item) for item in listed] == [
        ("soft", 1.0, False),
        ("nobody", 0.0, True),
    ]
    assert told(server, "own") != told(server, "own", lora=lora(("soft", 0.0)))
    with pytest.raises(openai.BadRequestError, match="nobody"):
        told(server, "own", lora=lora(("nobody", 1.0)))


def test_hearth_check_names_wrong_settings_of_a_model(models: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[models.settings."own"]\nloras = ["nobody"]\n[models.settings."base"]\nrope_scaling = "odd"\n')
    checked = hearth("check", "--config", str(config), "--models", str(models), folder=tmp_path)
    assert checked.returncode == 1
    assert "nobody" in checked.stdout and "rope_scaling" in checked.stdout
