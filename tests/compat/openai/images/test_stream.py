import base64
from collections.abc import Iterator
from typing import Any

import pytest

from compat.openai.images import wire
from compat.openai.images.answer import Making, signed
from compat.openai.images.convert import to_core
from compat.openai.images.stream import Kind, PictureEncoder, StreamEvent
from server.core.errors import Cancelled
from server.core.image import ImageFinished, ImageStarted, Preview, StepDone
from server.core.jobs import Event, Loading
from tests.compat.openai.images.sent import asked, card
from tests.support.fake_images import ready, tiny_png


def making(**fields: Any) -> Making:
    return Making(work=to_core(asked(stream=True, **fields), card(), 5), effort="low", created=77)


def job(making: Making, *, calls: int = 1) -> Iterator[Event]:
    """Yield a job's events; each step makes `calls` model calls."""
    work = making.work
    yield Loading(model="paint")
    yield ImageStarted(passes=work.batches, steps=work.denoise.steps)
    for index in range(work.batches):
        made = shown = 0
        for step in range(1, work.denoise.steps + 1):
            made += calls
            yield StepDone(pass_index=index, step=step, steps=work.denoise.steps)
            if work.preview_every and made // work.preview_every > shown:
                shown = made // work.preview_every
                yield Preview(pass_index=index, png=tiny_png(step))
        yield ready(index)
    yield ImageFinished(reason="complete")


def streamed(made: Making, partials: int, *, kind: Kind = "image_generation", calls: int = 1) -> list[StreamEvent]:
    encoder = PictureEncoder(kind, made, partials)
    events = [told for event in job(made, calls=calls) for told in encoder.feed(event)]
    encoder.close()
    return events


def test_a_picture_alone() -> None:
    made = making()
    (event,) = streamed(made, 0)
    assert isinstance(event, wire.CompletedPicture)
    assert event.type == "image_generation.completed"
    assert base64.b64decode(event.b64_json) == signed(made, ready())
    assert (event.created_at, event.quality, event.size, event.output_format) == (77, "low", "1x1", "png")


@pytest.mark.parametrize("partials", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2])
def test_partial_pictures_come_before_each_picture(partials: int, n: int) -> None:
    events = streamed(making(partial_images=partials, n=n), partials)
    one = [("image_generation.partial_image", index) for index in range(partials)]
    one.append(("image_generation.completed", -1))
    assert [(event.type, getattr(event, "partial_image_index", -1)) for event in events] == one * n
    partial = events[0]
    assert partial.size == "512x512"
    assert base64.b64decode(partial.b64_json).startswith(b"\x89PNG")


@pytest.mark.parametrize("steps", [*range(1, 30), 60, 150])
@pytest.mark.parametrize("calls", [1, 2])
def test_partial_pictures_are_spread_over_the_steps(steps: int, calls: int) -> None:
    for partials in (1, 2, 3):
        made = making(partial_images=partials, steps=steps)
        encoder = PictureEncoder("image_generation", made, partials)
        shares = []
        share = 0.0
        for event in job(made, calls=calls):
            if isinstance(event, StepDone):
                share = event.step / event.steps
            shares += [share for told in encoder.feed(event) if isinstance(told, wire.PartialPicture)]
        assert len(shares) == min(partials, steps)
        if steps > 2 * partials:
            assert all(
                abs(at - (k + 1) / (partials + 1)) <= 0.5 / (partials + 1) + 1 / steps for k, at in enumerate(shares)
            )


def test_edits_have_names_of_their_own() -> None:
    events = streamed(making(partial_images=1), 1, kind="image_edit")
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]


def test_a_job_without_a_picture_was_cancelled() -> None:
    encoder = PictureEncoder("image_generation", making(), 0)
    for event in (ImageStarted(passes=1, steps=1), ImageFinished(reason="stopped")):
        assert encoder.feed(event) == []
    with pytest.raises(Cancelled):
        encoder.close()
