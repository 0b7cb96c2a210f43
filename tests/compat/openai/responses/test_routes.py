"""`/v1/responses` over HTTP: streams, storage, owners, and clients that leave."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.core.errors import ContextTooLong, WorkerDied
from server.core.jobs import CancelMode, Loading
from server.core.text import ChatRequest, TextDelta, TextFinished, TextStarted, ToolCallDelta, Usage
from server.http.auth import ApiKey, Keyring, guard
from tests.compat.openai.door import app, knocking, post
from tests.support.asgi import Exchange, http_scope
from tests.support.fake_service import FakeService, answer


def create(service: FakeService, **fields: Any) -> httpx.Response:
    return post(service, "/v1/responses", {"input": "hi", **fields})


def events_of(text: str) -> list[Any]:
    """Return the events of a stream, parsed; the name of each must be its type."""
    events = []
    for block in text.split("\n\n"):
        if not block or block.startswith(":"):
            continue
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


class Talk:
    """One conversation with a door that remembers."""

    def __init__(self, file: Path | None, service: FakeService | None = None, **settings: Any) -> None:
        self.service = service or FakeService()
        self._settings = {"responses_file": str(file) if file else None, **settings}

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        async def once() -> httpx.Response:
            async with knocking(self.service, **self._settings) as client:
                return await client.request(method, f"/v1/responses{path}", json=body, headers=headers)

        return asyncio.run(once())

    def say(self, said: Any, **fields: Any) -> Any:
        answered = self("POST", "", {"input": said, **fields})
        assert answered.status_code == 200, answered.text
        return answered.json()

    def heard(self) -> list[tuple[str, str]]:
        """Return roles and texts of the newest conversation that the engine got."""
        work = self.service.last
        assert isinstance(work, ChatRequest)
        return [(message.role, "".join(part.text for part in message.parts)) for message in work.messages]  # type: ignore[union-attr]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "responses.sqlite3"


def test_a_whole_response() -> None:
    body = create(FakeService(), instructions="be kind").json()
    assert body["id"].startswith("resp_") and body["object"] == "response" and body["status"] == "completed"
    assert body["output"][0]["content"][0]["text"] == "Hello world"
    assert body["store"] is False and body["instructions"] == "be kind"


def test_a_streamed_response() -> None:
    answered = create(FakeService(), stream=True)
    assert answered.headers["content-type"].startswith("text/event-stream")
    assert answered.headers["cache-control"] == "no-cache"
    events = events_of(answered.text)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created" and events[-1]["type"] == "response.completed"
    assert "[DONE]" not in answered.text
    assert len({event["response"]["id"] for event in events if "response" in event}) == 1


def test_what_was_streamed_is_what_is_stored(file: Path) -> None:
    talk = Talk(file)
    events = events_of(talk("POST", "", {"input": "hi", "stream": True}).text)
    response = events[-1]["response"]
    assert talk("GET", f"/{response['id']}").json() == response


def test_a_conversation_goes_on_from_a_stored_response_after_a_restart(file: Path) -> None:
    first = Talk(file).say("one", instructions="be kind")
    second = Talk(file).say([{"role": "user", "content": "two"}], previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    talk = Talk(file)
    talk.say("three", previous_response_id=second["id"])
    assert talk.heard() == [
        ("user", "one"),
        ("assistant", "Hello world"),
        ("user", "two"),
        ("assistant", "Hello world"),
        ("user", "three"),
    ]


def test_a_call_is_answered_by_its_id(file: Path) -> None:
    talk = Talk(file)
    finished = TextFinished(choice=0, reason="tool_calls", usage=Usage())
    call = ToolCallDelta(choice=0, index=0, id="call_1", name="f", arguments="{}")
    talk.service.script(TextStarted(prompt_tokens=1), call, finished)
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
    first = talk.say("what is it?", tools=tools)
    assert first["output"][0]["call_id"] == "call_1"
    result = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
    talk.say([result], previous_response_id=first["id"])
    work = talk.service.last
    assert isinstance(work, ChatRequest)
    _, asked, answered = work.messages
    assert (asked.tool_calls[0].id, answered.role, answered.tool_call_id) == ("call_1", "tool", "call_1")


def test_a_stored_item_can_be_referred_to(file: Path) -> None:
    talk = Talk(file)
    item = talk.say("one")["output"][0]["id"]
    talk.say([{"role": "user", "content": "and"}, {"type": "item_reference", "id": item}])
    assert talk.heard() == [("user", "and"), ("assistant", "Hello world")]
    answered = talk("POST", "", {"input": [{"type": "item_reference", "id": "msg_0"}]})
    assert (answered.status_code, answered.json()["error"]["param"]) == (400, "input[0].id")


@pytest.mark.parametrize("remembering", [True, False])
def test_a_response_that_is_not_there_cannot_be_continued(file: Path, remembering: bool) -> None:
    talk = Talk(file if remembering else None)
    answered = talk("POST", "", {"input": "hi", "previous_response_id": "resp_0"})
    error = answered.json()["error"]
    assert (answered.status_code, error["code"]) == (400, "previous_response_not_found")
    assert error["param"] == "previous_response_id" and talk.service.submissions == []


def test_what_is_not_to_be_stored_is_not(file: Path) -> None:
    talk = Talk(file)
    response = talk.say("hi", store=False)
    assert response["store"] is False and talk("GET", f"/{response['id']}").status_code == 404


def test_without_a_file_nothing_is_stored() -> None:
    talk = Talk(None)
    response = talk.say("hi", store=True)
    assert response["store"] is False
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/input_items")):
        answered = talk(method, f"/{response['id']}{path}")
        assert (answered.status_code, answered.json()["error"]["code"]) == (404, "response_not_found")


def test_get_delete_and_input_items(file: Path) -> None:
    talk = Talk(file)
    response = talk.say([{"role": "user", "content": "one"}, {"role": "developer", "content": "two"}])
    assert response["store"] is True
    path = f"/{response['id']}"
    assert talk("GET", path).json() == response
    assert talk("GET", path + "?stream=true").status_code == 400
    items = talk("GET", path + "/input_items?order=asc").json()
    assert [item["content"] for item in items["data"]] == [
        [{"type": "input_text", "text": "one"}],
        [{"type": "input_text", "text": "two"}],
    ]
    assert items["has_more"] is False and items["first_id"] == items["data"][0]["id"]
    assert talk("DELETE", path).json() == {"id": response["id"], "object": "response", "deleted": True}
    assert [talk(method, path).status_code for method in ("GET", "DELETE")] == [404, 404]


def test_responses_belong_to_the_key_that_made_them(file: Path) -> None:
    keys = guard(Keyring([ApiKey(name="ann", key="a"), ApiKey(name="bob", key="b")]))
    talk = Talk(file, guards=[keys])
    ann, bob = {"authorization": "Bearer a"}, {"authorization": "Bearer b"}
    response = talk("POST", "", {"input": "secret"}, **ann).json()
    path, item = f"/{response['id']}", response["output"][0]["id"]
    assert talk("GET", path, **bob).status_code == 404
    assert talk("GET", path + "/input_items", **bob).status_code == 404
    assert talk("DELETE", path, **bob).status_code == 404
    assert talk("POST", "", {"input": "x", "previous_response_id": response["id"]}, **bob).status_code == 400
    assert talk("POST", "", {"input": [{"type": "item_reference", "id": item}]}, **bob).status_code == 400
    assert talk("GET", path, **ann).status_code == 200


def test_a_broken_file_costs_the_memory_but_not_the_answer(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.write_bytes(b"this is no database at all" * 100)
    talk = Talk(file)
    assert talk.say("hi")["status"] == "completed"
    assert "could not be stored" in caplog.text
    answered = talk("POST", "", {"input": "x", "previous_response_id": "resp_0"})
    assert answered.status_code == 500 and str(file) not in answered.text


def test_an_incomplete_answer(file: Path) -> None:
    talk = Talk(file)
    talk.service.script(*answer("Hel", reason="length"))
    response = talk.say("hi", max_output_tokens=1)
    assert response["status"] == "incomplete" and response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert talk("GET", f"/{response['id']}").json()["status"] == "incomplete"


@pytest.mark.parametrize("stream", [False, True])
def test_fields_without_effect_are_named_and_refused_when_strict(stream: bool) -> None:
    fields = {
        "truncation": "auto",
        "tools": [{"type": "web_search"}],
        "reasoning": {"summary": "auto"},
        "stream": stream,
    }
    answered = create(FakeService(), **fields)
    assert answered.headers["x-hearth-ignored"] == "truncation, tools.web_search, reasoning.summary"
    refused = post(FakeService(), "/v1/responses", {"input": "hi", **fields}, strict=True)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "truncation")


@pytest.mark.parametrize("stream", [False, True])
def test_errors_before_the_first_byte_are_statuses(stream: bool) -> None:
    service = FakeService()
    service.script(Loading(model="tiny"), ContextTooLong.of(512, 600))
    answered = create(service, stream=stream)
    error = answered.json()["error"]
    assert (answered.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "input")


@pytest.mark.parametrize(
    ("error", "code"),
    [(WorkerDied("the worker died"), "worker_died"), (ContextTooLong.of(5, 9), "context_length_exceeded")],
)
def test_errors_after_the_first_byte_are_the_last_events(error: Any, code: str, file: Path) -> None:
    talk = Talk(file)
    talk.service.script(TextStarted(prompt_tokens=1), TextDelta(choice=0, text="He"), error)
    events = events_of(talk("POST", "", {"input": "hi", "stream": True}).text)
    told, failed = events[-2:]
    assert (told["type"], told["code"], told["message"]) == ("error", code, error.message)
    assert failed["type"] == "response.failed" and failed["response"]["error"]["code"] == code
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert talk("GET", f"/{failed['response']['id']}").status_code == 404


def test_a_job_that_is_cancelled_fails() -> None:
    service = FakeService()
    service.script(TextStarted(prompt_tokens=1))
    assert events_of(create(service, stream=True).text)[-1]["response"]["error"]["code"] == "cancelled"
    service.script(TextStarted(prompt_tokens=1))
    assert create(service).status_code == 499


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_cancels_its_job_and_nothing_is_stored(stream: bool, file: Path) -> None:
    async def knock() -> None:
        service, never = FakeService(), asyncio.Event()
        service.script(TextStarted(prompt_tokens=1), TextDelta(choice=0, text="He"), never)
        exchange = Exchange([json.dumps({"input": "hi", "stream": stream}).encode()])
        asked = app(service, responses_file=str(file))
        running = asyncio.create_task(asked(http_scope("/v1/responses", "POST"), exchange.receive, exchange.send))  # type: ignore[arg-type]
        while not service.submissions or (stream and b"delta" not in exchange.body):
            exchange.something_sent.clear()
            await (exchange.something_sent.wait() if stream else asyncio.sleep(0))
        exchange.leave()
        await running
        assert service.submissions[0].cancels == [CancelMode.ABANDON]
        assert service.live() == ()
        never.set()
        await asyncio.sleep(0)

    asyncio.run(knock())
    assert not file.exists()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": 5}, "input"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"max_output_tokens": "x"}, "max_output_tokens"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"background": True}, "background"),
        ({"input": [{}] * 4097}, "input"),
    ],
)
def test_refusals_name_the_field(fields: dict[str, Any], param: str) -> None:
    service = FakeService()
    answered = create(service, **fields)
    assert (answered.status_code, answered.json()["error"]["param"]) == (400, param)
    assert service.submissions == []
