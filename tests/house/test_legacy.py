"""Files of 2023 through a real server: named in a request they answer, and what cannot be converted is told."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support.ggml_writer import GGJT1, GGJT3, GGML, Q4_0, Q4_2, Q5_1, tiny_ggml
from tests.support.running import Running, hearth
from tests.support.tiny_models import needs_llama

pytestmark = [pytest.mark.llama, needs_llama]

CONFIG = """
[text]
slots = 2
threads = 1
gpu_layers = 0
context = 512
[models.settings."wizard.ggmlv3.q5_1"]
chat_template = "vicuna"
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old") / "models"
    text = folder / "text"
    tiny_ggml(text / "ggml-alpaca-7b-q4.bin", era=GGML, code=Q4_0)
    tiny_ggml(text / "wizard.ggmlv3.q5_1.bin", era=GGJT3, code=Q5_1, seed=2)
    tiny_ggml(text / "ggml-vicuna-7b-1.1-q4_2.bin", era=GGJT1, code=Q4_2, seed=3)
    whole = tiny_ggml(text / "cut.bin", era=GGJT1).path
    whole.write_bytes(whole.read_bytes()[:-1000])
    # What only a look at the weights shows: scales that are none.
    damaged = tiny_ggml(text / "damaged.bin", era=GGML, seed=4).path
    data = bytearray(damaged.read_bytes())
    begin = data.index(b"output.weight") + len(b"output.weight")
    data[begin:] = bytes((at * 37 + 127) % 251 | 0x60 for at in range(len(data) - begin))
    damaged.write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    models.joinpath("text").chmod(0o555)
    with Running(models, tmp_path_factory.mktemp("serve"), config=CONFIG) as running:
        yield running
    models.joinpath("text").chmod(0o755)


def told(server: Running, model: str) -> str:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0) as client:
        answer = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "hello"}],
            temperature=0,
            max_tokens=12,
            extra_body={"ignore_eos": True},
        )
    return answer.choices[0].message.content or ""


@pytest.mark.parametrize("name", ["ggml-alpaca-7b-q4", "wizard.ggmlv3.q5_1.bin", "ggml-vicuna-7b-1.1-q4_2"])
def test_a_file_of_2023_answers(server: Running, name: str) -> None:
    first = told(server, name)
    assert first and told(server, name) == first


@pytest.mark.parametrize(
    ("name", "words"),
    [("ggml-alpaca-7b-q4", "### Response:"), ("wizard.ggmlv3.q5_1", "USER:"), ("ggml-vicuna-7b-1.1-q4_2", "USER:")],
)
def test_conversations_take_the_form_of_the_model(server: Running, name: str, words: str) -> None:
    body = {"model": name, "messages": [{"role": "user", "content": "hello"}]}
    prompt = server.http.post("/apply-template", json=body).json()["prompt"]
    assert words in prompt and "hello" in prompt


def test_models_are_listed_and_a_damaged_one_is_not_offered(server: Running) -> None:
    listed = {model["id"] for model in server.http.get("/v1/models").json()["data"]}
    assert {"ggml-alpaca-7b-q4", "wizard.ggmlv3.q5_1", "ggml-vicuna-7b-1.1-q4_2"} <= listed
    assert "cut" not in listed


def test_weights_that_make_no_sense_are_an_error_of_that_model_alone(server: Running) -> None:
    with pytest.raises(openai.APIStatusError, match=r"output\.weight"):
        told(server, "damaged")
    assert told(server, "ggml-alpaca-7b-q4")
    made = server.log.parent / "state" / "converted"
    assert not [path for path in made.iterdir() if "damaged" in path.name]


def test_the_command_lists_and_tidies(models: Path, tmp_path: Path) -> None:
    (tmp_path / "state" / "converted").mkdir(parents=True)
    lost = tmp_path / "state" / "converted" / "gone-000000000000-000000000000.gguf"
    lost.write_bytes(b"x" * 2048)
    said = hearth("models", "--models", str(models), folder=tmp_path).stdout
    assert "ggml-alpaca-7b-q4  [llama, GGML: ggml of March 2023]" in said
    assert "[llama, GGML: ggjt v3 of May to August 2023]" in said
    assert "cut short" in said and "1 of them belong to no model" in said
    assert lost.exists()
    hearth("models", "--tidy", "--models", str(models), "--models", str(tmp_path / "away"), folder=tmp_path)
    assert lost.exists(), "a folder that is not there may hold the model"
    assert "2.0 KiB" in hearth("models", "--tidy", "--models", str(models), folder=tmp_path).stdout
    assert not lost.exists()
