from typing import Any

import pytest

from compat.a1111 import answer
from compat.a1111.convert import Context
from compat.a1111.refusals import Refused
from server.core.errors import InvalidValue
from server.core.image import CheckpointRef, Refiner
from server.core.models import ModelCard, ModelKind, Runtime
from tests.compat.a1111.asked import context, part, planned


def checkpoint(name: str, **fields: Any) -> ModelCard:
    return part(name, ModelKind.CHECKPOINT, **{"runtime": Runtime.DIFFUSION} | fields)


CARDS = (
    checkpoint("tiny.safetensors"),
    checkpoint("xl/refiner_v1.safetensors", sha256="0123456789" + "a" * 54),
    checkpoint("refiner_v1-long.safetensors"),
    checkpoint("bad.safetensors", broken="it is cut off"),
    checkpoint("flux", runtime=Runtime.FAKE_IMAGE),
)
HIRES = {"enable_hr": True, "denoising_strength": 0.5}


def here() -> Context:
    return context(checkpoints=CARDS)


@pytest.mark.parametrize(
    "name", ["refiner_v1", "xl/refiner_v1.safetensors", "refiner_v1.safetensors [0123456789]", "0123456789", "er_v1.sa"]
)
def test_a_refiner_is_found_by_any_part_of_its_title(name: str) -> None:
    plan = planned(here(), refiner_checkpoint=name, refiner_switch_at=0.7)
    wanted = CheckpointRef(name="refiner_v1", path="/models/xl/refiner_v1.safetensors")
    assert plan.work.refiner == Refiner(checkpoint=wanted, switch_at=0.7)


@pytest.mark.parametrize("name", [None, "", "None", "none", "tiny", "tiny.safetensors"])
def test_no_refiner(name: str | None) -> None:
    assert planned(here(), refiner_checkpoint=name, refiner_switch_at=0.7).work.refiner is None


def test_a_refiner_without_a_share_takes_over_at_once() -> None:
    found = planned(here(), refiner_checkpoint="refiner_v1").work.refiner
    assert found is not None
    assert found.switch_at == 0.0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("second", False)),
        ({"hires_fix_refiner_pass": "first pass"}, ("first", False)),
        ({"hires_fix_refiner_pass": "both passes", "refiner_switch_by_sample_steps": True}, ("both", True)),
    ],
)
def test_options_say_when(options: dict[str, Any], expected: tuple[str, bool]) -> None:
    found = planned(here(), refiner_checkpoint="refiner_v1", override_settings=options).work.refiner
    assert found is not None
    assert (found.passes, found.by_calls) == expected


@pytest.mark.parametrize(("field", "more"), [("refiner_checkpoint", {}), ("hr_checkpoint_name", HIRES)])
def test_unknown_checkpoints_are_refused_in_a1111s_words(field: str, more: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="Could not find checkpoint with name nothing") as caught:
        planned(here(), **{field: "nothing"}, **more)
    assert (caught.value.fact("status"), caught.value.fact("error")) == (422, "Exception")


@pytest.mark.parametrize("name", ["bad", "flux"])
def test_checkpoints_that_cannot_join_are_refused(name: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        planned(here(), refiner_checkpoint=name)
    assert caught.value.fact("param") == "refiner_checkpoint"


def test_a_checkpoint_for_the_second_pass() -> None:
    plan = planned(here(), hr_checkpoint_name="refiner_v1", **HIRES)
    assert plan.work.hires is not None
    assert plan.work.hires.checkpoint == CheckpointRef(name="refiner_v1", path="/models/xl/refiner_v1.safetensors")
    assert planned(here(), hr_checkpoint_name="refiner_v1").work.hires is None
    same = planned(here(), hr_checkpoint_name="Use same checkpoint", **HIRES).work.hires
    assert same is not None
    assert same.checkpoint is None


def told(*, refined: bool, **fields: Any) -> dict[str, Any]:
    plan = planned(here(), **fields)
    finished = answer.Finished(pictures=(), card=CARDS[0], timestamp="20250131000000", refined=refined)
    entries: dict[str, Any] = answer.info(plan, finished, [])["extra_generation_params"]
    return entries


def test_the_infotext_names_a_refiner_that_took_over() -> None:
    fields = {"refiner_checkpoint": "refiner_v1", "refiner_switch_at": 0.7}
    assert told(refined=True, **fields) == {"Refiner": "refiner_v1 [0123456789]", "Refiner switch at": 0.7}
    assert told(refined=False, **fields) == {}


def test_the_infotext_names_what_options_changed_of_it() -> None:
    options = {"hires_fix_refiner_pass": "both passes", "refiner_switch_by_sample_steps": True}
    fields = {"refiner_checkpoint": "refiner_v1-long", "refiner_switch_at": 0.5, "override_settings": options}
    entries = list(told(refined=True, **fields, **HIRES).items())
    assert entries[-4:] == [
        ("Refiner switch by sampling steps", True),
        ("Hires refiner", "both passes"),
        ("Refiner", "refiner_v1-long"),
        ("Refiner switch at", 0.5),
    ]


def test_the_infotext_names_the_second_pass_checkpoint_before_its_sampler() -> None:
    entries = told(refined=False, hr_checkpoint_name="refiner_v1", hr_sampler_name="Euler a", **HIRES)
    assert list(entries.items())[1:3] == [
        ("Hires checkpoint", "refiner_v1 [0123456789]"),
        ("Hires sampler", "Euler a"),
    ]
