from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from server.core.image import ControlUnit
from server.engines.image.control.steering import Acting, Steering
from server.engines.image.guidance import Eps
from server.engines.image.offload import Seats
from server.engines.image.samplers import Step
from server.engines.image.unet_call import Additions, Steer, UNetInputs

ROWS = UNetInputs(
    inputs=torch.zeros(3, 4, 2, 2),
    times=torch.zeros(3),
    text=torch.zeros(3, 1, 1),
    added=None,
    prompted=torch.tensor([1.0, 1.0, 0.0]),
)


class FakeNet:
    """Outputs of ones: three tensors of a way down, and a middle."""

    def __init__(self, kind: Any = "controlnet", *, is_pooled: bool = False) -> None:
        self.kind = kind
        self.is_pooled = is_pooled
        self.channels = 3
        self.module = nn.Identity()

    def outputs(self, call: UNetInputs, hint: torch.Tensor) -> list[torch.Tensor]:
        ramp = torch.arange(4.0).reshape(1, 1, 2, 2).expand(3, 1, 2, 2)
        return [ramp if self.is_pooled else torch.ones(3, 1, 2, 2)] * 4

    def softness(self, count: int) -> list[float]:
        return [0.5**place for place in range(count)]


class FakeUNet:
    """Remembers what it was given in each call."""

    def __init__(self) -> None:
        self.given: list[Additions | None] = []
        self._steer: Steer | None = None

    @contextmanager
    def steered(self, steer: Steer) -> Iterator[None]:
        self._steer = steer
        yield
        self._steer = None

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        assert self._steer is not None
        self.given.append(self._steer(ROWS))
        return x

    def eps(self, x: torch.Tensor, t: float) -> Eps:
        return Eps(self(x, torch.tensor(t)), x)


def unit(**fields: Any) -> ControlUnit:
    return ControlUnit(**{"name": "c", "path": "/c"} | fields)


def acting(network: FakeNet | None = None, *, region: Any = None, softened: bool = False, **fields: Any) -> Acting:
    return Acting(
        unit=unit(**fields),
        network=network or FakeNet(),
        hint=torch.zeros(1, 3, 16, 16),
        region=region,
        softened=softened,
    )


def steering(*units: Acting, steps: int = 4) -> tuple[Steering, FakeUNet]:
    unet = FakeUNet()
    return Steering(units, steps=steps, unet=unet, seats=Seats(torch.device("cpu"), "none")), unet  # type: ignore[arg-type]


def acts(start: float, end: float, calls_a_step: int = 1, steps: int = 4) -> list[bool]:
    """Tell for each call of a pass whether the unit acted."""
    pass_, unet = steering(acting(start=start, end=end), steps=steps)
    model = pass_.around(unet)
    x = torch.zeros(1)
    for step in range(steps):
        for _ in range(calls_a_step):
            model(x, torch.tensor(1.0))
        pass_.after_step(Step(step, x, x, 1.0))
    return [given is not None for given in unet.given]


@pytest.mark.parametrize(
    "start, end, wanted",
    [
        (0.0, 1.0, [True] * 4),
        (0.25, 1.0, [False, False, True, True]),
        (0.5, 1.0, [False, False, False, True]),
        (0.0, 0.0, [True, True, False, False]),
        (0.0, 0.25, [True, True, True, False]),
        (0.25, 0.25, [False, False, True, False]),
        (0.8, 1.0, [False] * 4),
    ],
)
def test_shares_of_calls(start: float, end: float, wanted: list[bool]) -> None:
    assert acts(start, end) == wanted


def test_second_calls_of_a_step_find_the_counter_moved() -> None:
    assert acts(0.5, 1.0, calls_a_step=2) == [False, False, False, False, False, True, True, True]


def added(*units: Acting) -> Additions:
    pass_, unet = steering(*units)
    pass_.around(unet).eps(torch.zeros(1), 3.0)
    (given,) = unet.given
    assert given is not None
    return given


def means(given: Additions) -> list[float]:
    assert given.middle is not None
    return [float(each.mean()) for each in (*given.down, given.middle)]


@pytest.mark.parametrize(
    "fields, wanted",
    [
        ({"weight": 0.5}, [0.5] * 4),
        ({"mode": "prompt", "weight": 2.0}, [2.0, 1.0, 0.5, 0.25]),
        ({"mode": "balanced", "softened": True}, [1.0, 0.5, 0.25, 0.125]),
        ({"layer_weights": (1.0, 2.0), "mode": "prompt", "weight": 9.0}, [1.0, 2.0, 0.0, 0.0]),
    ],
)
def test_weights(fields: dict[str, Any], wanted: list[float]) -> None:
    assert means(added(acting(**fields))) == pytest.approx(wanted)


def test_the_mode_control_leaves_negative_prompts_alone() -> None:
    given = added(acting(mode="control"))
    assert given.down[0][:, 0, 0, 0].tolist() == [1.0, 1.0, 0.0]
    assert added(acting(mode="prompt")).down[0][:, 0, 0, 0].tolist() == [1.0] * 3


def test_pooled_models_add_the_same_all_over_and_to_prompts_alone() -> None:
    given = added(acting(FakeNet(is_pooled=True)))
    assert given.down[0][0].unique().tolist() == [1.5]
    assert given.down[0][2].unique().tolist() == [0.0]


def test_regions() -> None:
    region = torch.zeros(1, 1, 16, 16)
    region[..., :8] = 1
    assert added(acting(region=region)).down[0][0, 0].tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_units_add_up_each_kind_in_its_place() -> None:
    given = added(acting(weight=0.5), acting(weight=0.25), acting(FakeNet("adapter"), weight=2.0))
    assert means(given) == [0.75] * 4
    assert len(given.down) == 3
    assert [float(each.mean()) for each in given.inside] == [2.0] * 4
    alone = added(acting(FakeNet("adapter")))
    assert (alone.down, alone.middle) == ((), None)
