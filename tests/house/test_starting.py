"""How a real `hearth serve` begins, and the other verbs of the command."""

import json
import signal
import socket
from pathlib import Path

import pytest

from tests.support.running import Running, hearth, resident_bytes
from tests.support.tiny_models import add_text, needs_llama, tiny_models
from tests.support.waiting import until

MIB = 1024**2
PARENT_LIMIT = 80 * MIB
FOLDERS = ("Stable-diffusion", "VAE", "Lora", "embeddings", "hypernetworks", "ControlNet", "ESRGAN", "VAE-approx")

pytestmark = [pytest.mark.llama, needs_llama]


def test_it_is_there_before_any_model_and_small(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models", text=("tiny",))
    with Running(models, tmp_path / "run") as server:
        health = server.http.get("/health")
        assert (health.status_code, health.json()["ready"]) == (200, True)
        assert server.http.head("/health").status_code == 200
        assert not server.loaded()
        page = server.http.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "/v1" in page.text
        assert resident_bytes(server.process.pid) < PARENT_LIMIT
        assert server.http.post("/hearth/v1/models/load", json={"model": "tiny"}).status_code == 200
        assert server.loaded()["tiny"]["state"] == "ready"
        assert resident_bytes(server.process.pid) < PARENT_LIMIT
        server.http.post("/hearth/v1/models/unload", json={"model": "tiny"}).raise_for_status()
        assert not server.loaded()


def test_it_says_where_to_point_clients_and_what_it_sees(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models", text=("tiny", "other"))
    with Running(models, tmp_path / "run") as server:
        assert server.hears(lambda line: "OpenAI clients" in line and f"{server.url}/v1" in line)
        assert server.hears(lambda line: "AUTOMATIC1111 clients" in line and line.endswith(server.url))
        listed = server.hears(lambda line: "chat models:" in line)
        assert listed is not None
        assert "tiny" in listed
        assert "other" in listed


def test_without_a_model_it_says_how_to_get_one_and_sees_it_come(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    with Running(models, tmp_path / "run", config="[models]\nrescan_s = 0\n") as server:
        assert server.hears(lambda line: "hearth pull" in line)
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
        refused = server.http.post("/v1/chat/completions", json=body)
        assert refused.status_code == 404
        assert "models folder" in refused.json()["error"]["message"]
        assert server.http.post("/sdapi/v1/txt2img", json={"prompt": "x"}).status_code == 404
        assert server.http.get("/v1/models").json()["data"] == []
        tiny_models(models, text=("tiny",))
        seen = server.http.post("/hearth/v1/models/rescan").json()["models"]
        assert [model["id"] for model in seen] == ["tiny"]
        assert server.http.post("/v1/chat/completions", json=body).json()["model"] == "tiny"
        add_text(models, "second")
        server.signal(signal.SIGHUP)
        until(lambda: len(server.http.get("/v1/models").json()["data"]) == 2)


def test_a_model_that_comes_is_seen_by_itself(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    with Running(models, tmp_path / "run", config="[models]\nrescan_s = 0.1\n") as server:
        tiny_models(models, text=("tiny",))
        until(lambda: server.http.get("/v1/models").json()["data"])
        (models / "text" / "tiny.gguf").unlink()
        until(lambda: not server.http.get("/v1/models").json()["data"])


def test_an_a1111_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "stable-diffusion-webui"
    for name in FOLDERS:
        (home / "models" / name).mkdir(parents=True)
    (home / "models" / "Stable-diffusion" / "broken.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    (home / "styles.csv").write_text("name,prompt,negative_prompt\nwatery,{prompt} in water,dry\n")
    with Running(home / "models", tmp_path / "run") as server:
        (card,) = server.http.get("/hearth/v1/models").json()["models"]
        assert card["name"] == "broken.safetensors"
        assert card["broken"]
        styles = server.http.get("/sdapi/v1/prompt-styles").json()
        assert "watery" in [style["name"] for style in styles]


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = hearth("serve", "--port", port, "--models", str(tmp_path), folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    (sentence,) = [line for line in done.stderr.splitlines() if not line.startswith("20")]
    assert sentence.startswith(f"hearth: cannot listen on 127.0.0.1, port {port}")
    assert "--port" in sentence


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("[server]\nprot = 1\n", "did you mean 'port'"),
        ("[server]\nport = 'x'\n", "server.port"),
        ("[server]\nport = 70000\n", "server.port"),
        ("[memory]\nram = 'much'\n", "'much' is not a number of bytes"),
        ("[server\n", "config.toml"),
        ("[models.settings.x]\nsolts = 1\n", "did you mean 'slots'"),
    ],
)
def test_a_wrong_configuration(tmp_path: Path, config: str, told: str) -> None:
    (tmp_path / "config.toml").write_text(config)
    for verb in ("serve", "check"):
        done = hearth(verb, folder=tmp_path)
        assert done.returncode == 78
        (sentence,) = done.stderr.splitlines()
        assert sentence.startswith("hearth: ")
        assert told in sentence


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    done = hearth("serve", "--config", "nowhere.toml", folder=tmp_path)
    assert done.returncode == 78
    assert "nowhere.toml cannot be read" in done.stderr


def test_models(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models", text=("tiny",))
    (models / "Stable-diffusion" / "bad.safetensors").write_bytes(b"no")
    done = hearth("models", "--models", str(models), folder=tmp_path)
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "tiny" in lines["text"]
    assert "[llama]" in lines["text"]
    assert "BROKEN" in lines["checkpoint"]


def test_check(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models", text=("tiny",))
    well = hearth("check", "--models", str(models), folder=tmp_path)
    assert (well.returncode, well.stdout.strip()) == (0, "all is well")
    (models / "text" / "bad.gguf").write_bytes(b"GGUF")
    (tmp_path / "config.toml").write_text('[models]\npinned = ["gone"]\n[models.aliases]\n"a" = "nobody"\n')
    ill = hearth("check", "--models", str(models), "--models", str(tmp_path / "nowhere"), folder=tmp_path)
    assert ill.returncode == 1
    for told in ("nowhere does not exist", "bad.gguf cannot be used", "models.pinned", "models.aliases.a"):
        assert told in ill.stdout
    assert ill.stdout.splitlines()[-1] == "4 problems found"


def test_devices(tmp_path: Path) -> None:
    done = hearth("devices", folder=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].split()[:2] == ["cpu", "cpu"]


def test_openapi(tmp_path: Path) -> None:
    done = hearth("openapi", "--write", "described", folder=tmp_path)
    assert done.returncode == 0
    described = {file.stem: json.loads(file.read_text()) for file in (tmp_path / "described").iterdir()}
    assert {"openai", "a1111", "hearth"} <= set(described)
    assert "/v1/chat/completions" in described["openai"]["paths"]
    assert "/sdapi/v1/txt2img" in described["a1111"]["paths"]
    assert "/health" in described["hearth"]["paths"]


def test_wrong_usage(tmp_path: Path) -> None:
    assert hearth("sing", folder=tmp_path).returncode == 2
    helped = hearth("--help", folder=tmp_path)
    assert helped.returncode == 0
    assert all(verb in helped.stdout for verb in ("serve", "models", "check", "devices", "pull", "openapi"))
