"""The real `openai` package against a running server with real llama.cpp."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.support.running import Running
from tests.support.tiny_models import needs_llama, tiny_models
from tests.support.waiting import until

pytestmark = [pytest.mark.llama, needs_llama]

KEY = "open-sesame-1234"
ENDLESS = {"ignore_eos": True}
CONFIG = """
[text]
context = 16384
slots = 4
threads = 1
[models.settings]
"short" = { context = 256 }
[models.aliases]
"gpt-4o-mini" = "tiny"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("openai")
    models = tiny_models(folder / "models", text=("tiny", "short"), context=16384)
    with Running(models, folder / "run", config=CONFIG) as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with client_of(server, "any") as client:
        yield client


@contextmanager
def client_of(server: Running, key: str) -> Iterator[openai.OpenAI]:
    transport = httpx.Client(trust_env=False, timeout=60)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, http_client=transport, max_retries=0) as client:
        yield client


def hello(text: str = "hello world") -> list[ChatCompletionMessageParam]:
    return [{"role": "system", "content": "be little"}, {"role": "user", "content": text}]


def test_models_are_listed_and_told(client: openai.OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert set(listed) == {"tiny", "short"}
    assert all(model.object == "model" and model.created > 1_600_000_000 for model in listed.values())
    assert client.models.retrieve("tiny") == listed["tiny"]
    assert client.models.retrieve("gpt-4o-mini").id == "tiny"


def test_a_plain_chat(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(model="tiny", messages=hello(), max_tokens=9, temperature=0)
    assert made.object == "chat.completion"
    assert made.id.startswith("chatcmpl-")
    (choice,) = made.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("length", "stop")
    usage = made.usage
    assert usage is not None
    assert usage.completion_tokens == 9 or choice.finish_reason == "stop"
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens > 4


def test_a_stream_says_what_a_plain_answer_says(client: openai.OpenAI) -> None:
    asked = {"model": "tiny", "messages": hello("a red ball"), "max_tokens": 24, "temperature": 0}
    plain = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    chunks = list(client.chat.completions.create(**asked, stream=True))  # type: ignore[call-overload]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == plain.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["length"]
    assert {(chunk.id, chunk.created, chunk.model) for chunk in chunks} == {
        (chunks[0].id, chunks[0].created, "tiny"),
    }
    assert all(chunk.usage is None for chunk in chunks)


def test_two_choices_in_one_stream_with_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="tiny",
        messages=hello(),
        n=2,
        seed=3,
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
        extra_body=ENDLESS,
    )
    chunks = list(stream)
    *told, last = chunks
    for index in (0, 1):
        mine = [choice for chunk in told for choice in chunk.choices if choice.index == index]
        assert mine[0].delta.role == "assistant"
        assert [choice.finish_reason for choice in mine if choice.finish_reason] == ["length"]
        assert mine[-1].finish_reason == "length"
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 24


def test_a_seed_repeats_an_answer_and_choices_differ(client: openai.OpenAI) -> None:
    def ask(seed: int) -> list[str | None]:
        made = client.chat.completions.create(
            model="tiny", messages=hello(), n=2, seed=seed, max_tokens=16, extra_body=ENDLESS
        )
        return [choice.message.content for choice in made.choices]

    first, again, other = ask(5), ask(5), ask(6)
    assert first == again
    assert first != other
    assert first[0] != first[1]


def test_completions(client: openai.OpenAI) -> None:
    made = client.completions.create(model="tiny", prompt=["once upon", "the cat"], max_tokens=6, temperature=0)
    assert made.object == "text_completion"
    assert [choice.index for choice in made.choices] == [0, 1]
    echoed = client.completions.create(model="tiny", prompt="once upon", max_tokens=6, temperature=0, echo=True)
    assert echoed.choices[0].text == "once upon" + made.choices[0].text
    stream = client.completions.create(model="tiny", prompt="once upon", max_tokens=6, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == made.choices[0].text


def test_a_stop_string_ends_an_answer_and_is_not_part_of_it(client: openai.OpenAI) -> None:
    whole = client.completions.create(
        model="tiny", prompt="once upon", max_tokens=20, temperature=0, extra_body=ENDLESS
    ).choices[0]
    stop = whole.text[5:8]
    cut = client.completions.create(model="tiny", prompt="once upon", max_tokens=20, temperature=0, stop=stop).choices[
        0
    ]
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]


def test_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="tinny", messages=hello())
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert "tiny" in caught.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody/nothing:q4")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_longer_than_the_context(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="short", messages=hello("the big red ball " * 100), stream=stream)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.type == "exceed_context_size_error"
    assert "maximum context length is 256" in caught.value.message


def test_values_that_make_no_sense_name_their_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=hello(), temperature=-1)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=hello(), top_logprobs=3)
    assert caught.value.param == "top_logprobs"


def test_every_answer_has_a_request_id(client: openai.OpenAI) -> None:
    made = client.chat.completions.with_raw_response.create(model="tiny", messages=hello(), max_tokens=1)
    assert made.request_id
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nothing")
    assert caught.value.request_id


def test_closing_a_stream_cancels_its_job(server: Running, client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="tiny", messages=hello("on and on"), stream=True, max_tokens=-1, extra_body=ENDLESS
    )
    for _, chunk in zip(range(3), stream, strict=False):
        assert chunk.choices
    assert len(server.jobs("running")) == 1
    stream.close()
    until(lambda: not server.jobs("running"))
    assert server.jobs()[0]["state"] == "cancelled"


def test_keys(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("locked")
    models = tiny_models(folder / "models", text=("tiny",))
    with Running(models, folder / "run", config=f'[auth]\nkeys = ["{KEY}"]\n') as locked:
        with client_of(locked, "guess") as wrong, pytest.raises(openai.AuthenticationError) as caught:
            wrong.chat.completions.create(model="tiny", messages=hello())
        assert caught.value.code == "invalid_api_key"
        with client_of(locked, KEY) as right:
            assert [model.id for model in right.models.list()] == ["tiny"]
        assert locked.http.get("/health").status_code == 200
