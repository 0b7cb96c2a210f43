import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from compat.openai.picture_tool.events import (
    CallBegins,
    CallFailed,
    PartialPicture,
    PictureBegins,
    PictureMade,
    Told,
)
from compat.openai.picture_tool.names import FAILED, NO_MORE, SHOWN, TYPE
from compat.openai.picture_tool.rounds import Rounds
from compat.openai.picture_tool.tool import PictureTool
from server.core.errors import BadRequest, Cancelled, InvalidValue, OutOfMemory, QueueFull
from server.core.image import FileFormat, ImageFinished, ImageRequest, ImageStarted, Preview, StepDone
from server.core.jobs import CancelMode, Loading, Waiting
from server.core.text import (
    ChatRequest,
    Message,
    ReasoningDelta,
    SamplingParams,
    TextDelta,
    TextFinished,
    TextPart,
    TextStarted,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from tests.compat.openai.images.sent import picture
from tests.compat.openai.picture_tool.asked import CAT, calls, service, tool
from tests.support.fake_images import pictures, ready, tiny_png
from tests.support.fake_service import FakeService, answer

DOG = json.dumps({"prompt": "a dog"})
WEATHER = Tool(name="weather")


def message(role: str, text: str = "", **more: Any) -> Message:
    return Message(role=role, parts=(TextPart(text),) if text else (), **more)


def chat(**changes: Any) -> ChatRequest:
    given = {"tools": (WEATHER, Tool(name=TYPE)), "tool_choice": "named", "tool_name": TYPE} | changes
    return ChatRequest(model="tiny", messages=(message("user", "draw"),), **given)


def begun(house: FakeService, work: ChatRequest, asked: PictureTool, **how: Any) -> Rounds:
    return Rounds(asked.offered(work), asked, lambda more: house.submit(more, owner="ann"), **how)


def told(
    house: FakeService, work: ChatRequest | None = None, asked: PictureTool | None = None, **how: Any
) -> list[Told]:
    async def read() -> list[Told]:
        rounds = begun(house, work or chat(), asked or tool(), **how)
        try:
            return [event async for event in rounds]
        finally:
            await rounds.aclose()

    return asyncio.run(read())


def jobs(house: FakeService) -> list[Any]:
    return [submission.work for submission in house.submissions]


def messages(house: FakeService, job: int) -> tuple[Message, ...]:
    work = jobs(house)[job]
    assert isinstance(work, ChatRequest)
    return work.messages


def test_a_chat_that_asks_for_nothing() -> None:
    house = service()
    house.script(Waiting(position=0), Loading(model="tiny"), *answer("Hello", " you"))
    events = told(house)
    assert events[:-1] == [Waiting(position=0), Loading(model="tiny"), *answer("Hello", " you")[1:-1]]
    assert isinstance(events[-1], TextFinished) and events[-1].usage.completion_tokens == 2
    assert len(jobs(house)) == 1


def test_a_picture_and_what_the_model_says_of_it() -> None:
    house = service()
    house.script(*calls(CAT, text="Wait."))
    house.script(*pictures(1))
    house.script(*answer("Here", " it is."))
    begins, starts, made, *rest = told(house)[1:]
    assert (begins, starts) == (CallBegins(0), PictureBegins(0))
    assert isinstance(made, PictureMade)
    assert (made.number, made.prompt, made.kind, made.size, made.quality) == (0, "a cat", "png", "1x1", "medium")
    assert base64.b64decode(made.base64).startswith(b"\x89PNG") and not made.edited
    assert [event.text for event in rest if isinstance(event, TextDelta)] == ["Here", " it is."]
    first, drawn, second = jobs(house)
    assert isinstance(drawn, ImageRequest)
    assert first.tool_name == TYPE and (second.tool_choice, second.tool_name) == ("auto", "")
    assert second.messages == (
        message("user", "draw"),
        message("assistant", "Wait.", tool_calls=(ToolCall(id="call00000", name=TYPE, arguments=CAT),)),
        message("tool", SHOWN, tool_call_id="call00000"),
    )
    assert second.tools == first.tools == (WEATHER, tool().function())
    assert {submission.owner for submission in house.submissions} == {"ann"}


def test_the_end_tells_of_all_chats_together() -> None:
    house = service()
    house.script(*calls(CAT))
    house.script(*pictures(1))
    house.script(*answer("Done.", prompt=20, cached=12))
    end = told(house)[-1]
    assert end == TextFinished(
        choice=0,
        reason="stop",
        usage=Usage(prompt_tokens=27, completion_tokens=6, cached_tokens=13, reasoning_tokens=1),
        prompt_ms=12.0,
        predicted_ms=23.0,
    )


def test_texts_of_two_chats_can_be_kept_apart() -> None:
    house = service()
    for text in ("One.", "", "Two."):
        house.script(*calls(CAT, text=text))
        house.script(*pictures(1))
    house.script(*answer("Three", "."))
    texts = [event.text for event in told(house, gap="\n\n") if isinstance(event, TextDelta)]
    assert texts == ["One.", "\n\nTwo.", "\n\nThree", "."]
    assert messages(house, 6)[5] == message("assistant", "Two.", tool_calls=messages(house, 6)[5].tool_calls)


def test_no_gap_before_the_first_text() -> None:
    house = service()
    house.script(*calls(CAT))
    house.script(*pictures(1))
    house.script(*answer("Here."))
    assert [event.text for event in told(house, gap="\n\n") if isinstance(event, TextDelta)] == ["Here."]


def test_several_calls_are_answered_one_after_the_other() -> None:
    house = service()
    house.script(*calls(CAT, DOG))
    house.script(*pictures(1))
    house.script(*pictures(1))
    house.script(*answer("Both."))
    events = [event for event in told(house) if not isinstance(event, TextDelta | TextFinished)]
    assert [type(event) for event in events] == [CallBegins] * 2 + [PictureBegins, PictureMade] * 2
    assert [event.number for event in events] == [0, 1, 0, 0, 1, 1]  # type: ignore[union-attr]
    assert [event.prompt for event in events if isinstance(event, PictureMade)] == ["a cat", "a dog"]
    assert [one.tool_call_id for one in messages(house, 3)[-2:]] == ["call00000", "call00001"]


def test_calls_of_other_functions_are_the_callers() -> None:
    house = service()
    house.script(*calls(CAT, other=True))
    house.script(*pictures(1))
    events = told(house)
    deltas = [event for event in events if isinstance(event, ToolCallDelta)]
    assert [(event.index, event.name, event.arguments) for event in deltas] == [
        (0, "weather", ""), (0, "", "{"), (0, "", "}"),
    ]  # fmt: skip
    assert sum(isinstance(event, PictureMade) for event in events) == 1
    assert isinstance(events[-1], TextFinished) and events[-1].reason == "tool_calls"
    assert len(jobs(house)) == 2, "the model waits for the other call's answer"


def test_thoughts_go_along() -> None:
    house = service()
    started, *rest = calls(CAT)
    house.script(started, ReasoningDelta(choice=0, text="A cat, "), ReasoningDelta(choice=0, text="then."), *rest)
    house.script(*pictures(1))
    house.script(*answer("Here."))
    events = told(house)
    assert [event.text for event in events if isinstance(event, ReasoningDelta)] == ["A cat, ", "then."]
    assert messages(house, 2)[1].reasoning == "A cat, then."


def test_a_message_that_is_continued_is_one_message() -> None:
    house = service()
    house.script(*calls(CAT, text=" a picture:"))
    house.script(*pictures(1))
    house.script(*answer("!"))
    begun_by_caller = (message("user", "draw"), message("assistant", "Here is"))
    told(house, msgspec.structs.replace(chat(), messages=begun_by_caller, continue_final=True))
    user, assistant, result = messages(house, 2)
    assert (user.role, assistant.parts, result.role) == ("user", (TextPart("Here is a picture:"),), "tool")
    assert not jobs(house)[2].continue_final


def test_partial_pictures() -> None:
    house = service()
    house.script(*calls(CAT))
    looks: list[Any] = [ImageStarted(passes=1, steps=4)]
    for step in range(1, 5):
        looks += [StepDone(pass_index=0, step=step, steps=4), Preview(pass_index=0, png=tiny_png(step))]
    house.script(*looks, ready(), ImageFinished(reason="complete"))
    house.script(*answer("Here."))
    events = told(house, asked=tool(partial_images=1, steps=4, size="64x128"))
    partials = [event for event in events if isinstance(event, PartialPicture)]
    assert [(event.index, event.size) for event in partials] == [(0, "64x128")]
    assert base64.b64decode(partials[0].base64) == tiny_png(4), "of looks that nobody fetched the newest is kept"


def test_the_format_of_pictures() -> None:
    house = service()
    house.script(*calls(CAT))
    house.script(*pictures(1, form=FileFormat(kind="webp")))
    house.script(*answer("Here."))
    (made,) = (event for event in told(house, asked=tool(output_format="webp")) if isinstance(event, PictureMade))
    assert made.kind == "webp" and base64.b64decode(made.base64)[8:12] == b"WEBP"


def test_a_picture_can_be_changed_after_it_was_made() -> None:
    house = service()
    house.script(*calls(CAT))
    house.script(*pictures(1))
    house.script(*calls(json.dumps({"prompt": "a blue cat", "edit": True})))
    house.script(*pictures(1))
    house.script(*answer("Blue."))
    first, second = (event for event in told(house, asked=tool(base=picture())) if isinstance(event, PictureMade))
    assert (first.edited, second.edited) == (False, True)
    assert jobs(house)[3].init.images == (base64.b64decode(first.base64),)


@pytest.mark.parametrize("said", ["{", "{}", '{"prompt": ""}', '{"prompt": "x", "size": "huge"}'])
def test_the_model_is_told_of_calls_that_are_none(said: str) -> None:
    house = service()
    house.script(*calls(said))
    house.script(*answer("Sorry."))
    events = told(house)
    assert [type(event) for event in events] == [CallBegins, CallFailed, TextDelta, TextFinished]
    (part,) = messages(house, 1)[-1].parts
    assert isinstance(part, TextPart) and part.text.startswith(FAILED) and "prompt" in part.text


def test_a_model_that_does_not_stop_calling_is_stopped() -> None:
    house = service()
    for _ in range(2):
        house.script(*calls(CAT))
        house.script(*pictures(1))
    house.script(*answer("Enough."))
    events = told(house, asked=tool(most=2))
    assert sum(isinstance(event, PictureMade) for event in events) == 2
    assert [one.name for one in jobs(house)[2].tools] == ["weather", TYPE]
    assert [one.name for one in jobs(house)[4].tools] == ["weather"], "the tool is gone"


def test_calls_beyond_the_limit_fail() -> None:
    house = service()
    house.script(*calls(CAT, DOG))
    house.script(*pictures(1))
    house.script(*answer("One."))
    events = told(house, asked=tool(most=1))
    assert [type(event) for event in events[:5]] == [CallBegins, CallBegins, PictureBegins, PictureMade, CallFailed]
    assert [part.text for one in messages(house, 2)[-2:] for part in one.parts] == [SHOWN, f"{FAILED} {NO_MORE}"]  # type: ignore[union-attr]


@pytest.mark.parametrize(("limit", "left"), [(9, 4), (5, None), (3, None), (None, None)])
def test_a_limit_of_tokens_holds_for_all_chats_together(limit: int | None, left: int | None) -> None:
    house = service()
    house.script(*calls(CAT))
    house.script(*pictures(1))
    house.script(*answer("Here."))
    end = told(house, chat(sampling=SamplingParams(max_tokens=limit)))[-1]
    assert isinstance(end, TextFinished)
    if limit is None or left is not None:
        assert jobs(house)[2].sampling.max_tokens == left
        assert end.reason == "stop"
    else:
        assert len(jobs(house)) == 2 and end.reason == "length"


def test_a_call_that_the_limit_cuts_off_is_not_answered() -> None:
    house = service()
    house.script(*calls(CAT, reason="length"))
    events = told(house)
    assert [type(event) for event in events] == [CallBegins, TextFinished]
    assert len(jobs(house)) == 1


def test_a_chat_that_was_cancelled_has_no_end() -> None:
    house = service()
    house.script(TextStarted(prompt_tokens=1), TextDelta(choice=0, text="He"))
    assert told(house) == [TextDelta(choice=0, text="He")]


@pytest.mark.parametrize(
    ("steps", "kind", "param"),
    [
        ([OutOfMemory("no memory", device="x")], OutOfMemory, None),
        ([InvalidValue.of("sampler", "no such sampler")], InvalidValue, "tools[0].sampler"),
        ([ImageStarted(passes=1, steps=1), ImageFinished(reason="stopped")], Cancelled, None),
    ],
)
def test_what_ends_the_picture_ends_the_answer(steps: list[Any], kind: type[Exception], param: str | None) -> None:
    house = service()
    house.script(*calls(CAT))
    house.script(*steps)
    with pytest.raises(kind) as caught:
        told(house)
    if isinstance(caught.value, BadRequest):
        assert caught.value.fact("param") == param
    assert house.live() == ()


def inside(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_what_the_service_refuses_at_once_is_raised_at_once() -> None:
    async def test() -> None:
        house = service()
        house.script(QueueFull("too many", retry_after=1))
        rounds = begun(house, chat(), tool())
        with pytest.raises(QueueFull):
            await rounds.started()
        await rounds.aclose()

    inside(test)


def test_leaving_ends_the_chat_and_begins_nothing() -> None:
    async def test() -> None:
        house, never = service(), asyncio.Event()
        house.script(TextStarted(prompt_tokens=1), TextDelta(choice=0, text="He"), never)
        rounds = begun(house, chat(), tool())
        assert await anext(rounds) == TextDelta(choice=0, text="He")
        await rounds.aclose()
        assert [submission.cancels for submission in house.submissions] == [[CancelMode.ABANDON]]
        never.set()

    inside(test)


def test_leaving_ends_the_picture_and_begins_nothing() -> None:
    async def test() -> None:
        house, never = service(), asyncio.Event()
        house.script(*calls(CAT))
        house.script(ImageStarted(passes=1, steps=2), never)
        rounds = begun(house, chat(), tool())
        async for event in rounds:
            if isinstance(event, PictureBegins):
                break
        reading = asyncio.ensure_future(anext(rounds))
        while len(house.submissions) < 2:
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait({reading})
        await rounds.aclose()
        assert [submission.cancels for submission in house.submissions] == [[], [CancelMode.ABANDON]]
        assert house.live() == ()
        never.set()

    inside(test)


def test_leaving_before_anything_was_read() -> None:
    async def test() -> None:
        house, never = service(), asyncio.Event()
        house.script(never)
        rounds = begun(house, chat(), tool())
        await rounds.aclose()
        assert [submission.cancels for submission in house.submissions] == [[CancelMode.ABANDON]]
        never.set()

    inside(test)
