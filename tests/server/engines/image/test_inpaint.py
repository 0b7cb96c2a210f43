from typing import Any

import pytest
import torch

from server.core.image import Inpaint, Seeds, SoftInpaint
from server.engines.image.guidance import Eps
from server.engines.image.inpaint import Blend, filled
from server.engines.image.seeds import NoiseSource
from server.engines.image.soft_inpainting import blend

pytestmark = pytest.mark.torch

OLD = torch.full((2, 4, 2, 2), 5.0)
REMADE = torch.tensor([[1.0, 0.0], [0.25, 0.0]])


class Asked:
    """A model that tells what it was asked with and answers the same everywhere."""

    def __init__(self, answer: float = 1.0) -> None:
        self.answer = answer
        self.seen: list[torch.Tensor] = []

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        return torch.full_like(x, self.answer)

    def eps(self, x: torch.Tensor, t: float) -> Eps:
        self.seen.append(x)
        return Eps(torch.full_like(x, self.answer), torch.full_like(x, self.answer))


def test_samplers_by_sigma_get_a_blended_answer() -> None:
    model = Asked(1.0)
    x = torch.zeros(2, 4, 2, 2)
    made = Blend(OLD, REMADE).around(model)(x, torch.tensor(2.0))
    assert made[0, 0].tolist() == [[1.0, 5.0], [0.25 + 0.75 * 5, 5.0]]
    assert torch.equal(model.seen[0], x)


def test_samplers_by_time_ask_with_a_blended_latent() -> None:
    model = Asked(1.0)
    made = Blend(OLD, REMADE).around(model).eps(torch.zeros(2, 4, 2, 2), 30.0)
    assert (made.guided == 1).all()
    assert model.seen[0][0, 0].tolist() == [[0.0, 5.0], [3.75, 5.0]]


def test_the_result_is_blended_once_more() -> None:
    assert Blend(OLD, REMADE).last(torch.zeros(2, 4, 2, 2))[1, 3].tolist() == [[0.0, 5.0], [3.75, 5.0]]


def test_soft_inpainting_blends_by_level_and_leaves_the_result() -> None:
    soft = SoftInpaint()
    kept = Blend(OLD, REMADE, soft)
    x = torch.ones(2, 4, 2, 2)
    assert kept.last(x) is x
    assert torch.equal(kept.around(Asked(1.0))(x, torch.tensor(2.0)), blend(soft, OLD, torch.ones_like(x), REMADE, 2.0))
    model = Asked()
    kept.around(model).eps(x, 300.0)
    assert torch.equal(model.seen[0], blend(soft, OLD, x, REMADE, 300.0))


def asked(content: Any) -> Inpaint:
    return Inpaint(mask=b"", content=content)


def test_what_noise_is_put_on() -> None:
    seeds = Seeds(first=11)
    for content in ("original", "fill"):
        assert filled(OLD, REMADE, asked(content), seeds) is OLD
    assert filled(OLD, REMADE, asked("nothing"), seeds)[0, 0].tolist() == [[0.0, 5.0], [3.75, 5.0]]
    noise = NoiseSource(seeds, (0, 1), (4, 2, 2)).first()
    assert torch.allclose(filled(OLD, REMADE, asked("noise"), seeds), OLD * (1 - REMADE) + noise * REMADE)


def test_that_noise_knows_no_variation() -> None:
    varied = Seeds(first=11, variation=5, variation_strength=0.5)
    made = filled(OLD, torch.ones(2, 2), asked("noise"), varied)
    alone = NoiseSource(Seeds(first=11), (0,), (4, 2, 2)).first()
    assert torch.equal(made, alone.expand(2, -1, -1, -1))
