"""Pictures in conversations through a real server: the files that make a model see, and every door for text."""

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.support.picture_files import file_of, noise_image, png_of_size
from tests.support.running import Running
from tests.support.tiny_models import needs_llama, tiny_models
from tests.support.tiny_projector import tiny_gemma_eye, tiny_llava

pytestmark = [pytest.mark.llama, needs_llama]

CONFIG = """
[text]
slots = 2
threads = 1
context = 512

[models.settings."named"]
mmproj = "other-eyes.gguf"
"""
CAT, DOG = noise_image(40, 30, seed=1), noise_image(40, 30, seed=2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("seeing")
    models = tiny_models(folder / "models", text=("seer-Q4_0", "blind", "named"))
    tiny_llava(models / "text" / "mmproj-seer.gguf")
    tiny_gemma_eye(models / "text" / "other-eyes.gguf")
    with Running(models, folder, config=CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def inline(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def shown(*pictures: bytes | str) -> list[Any]:
    """Return a user's message about pictures, each given as a file or as a URL."""
    urls = [inline(picture) if isinstance(picture, bytes) else picture for picture in pictures]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "what is it"}]}]


def ask(client: openai.OpenAI, *pictures: bytes | str, model: str = "seer-Q4_0", **fields: Any) -> Any:
    return client.chat.completions.create(
        model=model,
        messages=shown(*pictures),
        max_tokens=12,
        temperature=0,
        extra_body={"ignore_eos": True},
        **fields,
    )


@pytest.mark.parametrize("model", ["seer-Q4_0", "named"])
def test_a_model_sees(client: openai.OpenAI, model: str) -> None:
    cat, dog = (ask(client, file_of(image), model=model) for image in (CAT, DOG))
    assert cat.choices[0].message.content != dog.choices[0].message.content
    again = ask(client, file_of(CAT), model=model)
    assert again.choices[0].message.content == cat.choices[0].message.content
    assert again.usage.prompt_tokens_details.cached_tokens > 4
    streamed = ask(client, file_of(CAT), model=model, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == cat.choices[0].message.content


def test_who_sees_is_told(server: Running, client: openai.OpenAI) -> None:
    told = {model.id: model.architecture["input_modalities"] for model in client.models.list()}  # type: ignore[attr-defined]
    assert told == {"seer-Q4_0": ["text", "image"], "blind": ["text"], "named": ["text", "image"]}
    for model, sees in (("seer-Q4_0", True), ("blind", False)):
        props = server.http.get("/props", params={"model": model}).json()
        assert props["modalities"]["vision"] is sees


def test_a_model_without_a_projector_says_what_it_lacks(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"mmproj-\*\.gguf") as refused:
        ask(client, file_of(CAT), model="blind")
    assert refused.value.param == "messages[0].content[0].image_url"
    assert refused.value.code == "unsupported_parameter"


BAD = {
    "text": inline(b"no picture at all"),
    "truncated": inline(file_of(noise_image(90, 90))[:3000]),
    "bomb": inline(png_of_size(30000, 30000)),
    "svg": inline(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "address": "http://127.0.0.1:1/a.png",
    "file": "file:///etc/passwd",
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", list(BAD))
def test_bad_pictures_are_refused_and_the_worker_lives(
    server: Running, client: openai.OpenAI, kind: str, stream: bool
) -> None:
    ask(client, file_of(CAT))
    before = server.pids()
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, file_of(CAT), BAD[kind], stream=stream)
    assert refused.value.param == "messages[0].content[1].image_url"
    assert server.pids() == before
    assert ask(client, file_of(CAT)).choices[0].message.content


def test_moving_pictures_show_their_first_frame(client: openai.OpenAI) -> None:
    frames = [image.quantize(16) for image in (CAT, DOG)]
    moving = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    told = [ask(client, data).choices[0].message.content for data in (moving, file_of(frames[0], "GIF"))]
    assert told[0] == told[1]


def test_responses_see_and_remember(client: openai.OpenAI) -> None:
    picture = {"type": "input_image", "image_url": inline(file_of(CAT))}
    content = [picture, {"type": "input_text", "text": "what is it"}]
    first = client.responses.create(
        model="seer-Q4_0",
        input=[{"role": "user", "content": content}],
        max_output_tokens=8,
        temperature=0,  # type: ignore[arg-type]
    )
    then = client.responses.create(
        model="seer-Q4_0", input="and then", previous_response_id=first.id, max_output_tokens=8, temperature=0
    )
    assert then.usage is not None and first.usage is not None
    assert then.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens - 1


def test_anthropic_clients_show_pictures(server: Running) -> None:
    client = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)

    def tell(data: bytes) -> Any:
        source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(data).decode()}
        content = [{"type": "image", "source": source}, {"type": "text", "text": "what is it"}]
        messages: list[Any] = [{"role": "user", "content": content}]
        counted = client.messages.count_tokens(model="seer-Q4_0", messages=messages).input_tokens
        answer = client.messages.create(
            model="seer-Q4_0", max_tokens=8, messages=messages, extra_body={"temperature": 0}
        )
        used = answer.usage
        assert counted == used.input_tokens + (used.cache_read_input_tokens or 0)
        return answer.content

    assert tell(file_of(CAT)) == tell(file_of(CAT))
    with pytest.raises(anthropic.BadRequestError):
        tell(b"no picture at all")


def test_a_template_shows_where_pictures_stand(server: Running) -> None:
    body = {"model": "seer-Q4_0", "messages": shown(file_of(CAT))}
    prompt = server.http.post("/apply-template", json=body).json()["prompt"]
    assert "<__media__>what is it" in prompt
