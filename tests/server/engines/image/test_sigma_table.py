"""Check vectors recorded from A1111, and the way from sigma to time and back."""

import pytest
import torch

from server.core.image import Denoise
from server.engines.image.schedules import sigmas
from server.engines.image.sigma_table import SigmaTable, alphas_cumprod, zero_terminal_snr

pytestmark = pytest.mark.torch

TABLE = SigmaTable.of(alphas_cumprod())
TIMES = [999, 961.7328, 921.0421, 876.3138, 826.7906, 771.552, 709.5298, 639.6147, 560.9753, 473.7491]
TIMES += [380.1319, 285.3177, 197.0809, 123.3954, 69.2571, 34.6975, 15.4816, 5.9918, 1.7829, 0]


def test_levels() -> None:
    picked = TABLE.sigmas[[0, 1, 500, 998, 999]].tolist()
    assert picked == pytest.approx([0.02916753, 0.04131448, 1.61827886, 14.52627563, 14.61464214], rel=1e-6)
    assert TABLE.sigmas.dtype == torch.float32


def test_levels_of_a_table_kept_in_half_precision() -> None:
    picked = SigmaTable.of(alphas_cumprod().half().float()).sigmas[[0, 1, 500, 998, 999]].tolist()
    assert picked == pytest.approx([0.03125, 0.03829956, 1.61816406, 14.5234375, 14.609375], rel=1e-3)


def test_times_of_karras() -> None:
    schedule = sigmas(TABLE, Denoise(schedule="karras"), 20)[:-1]
    assert TABLE.t(schedule).tolist() == pytest.approx(TIMES, abs=2e-3)


def test_quantised_times_are_the_nearest() -> None:
    schedule = sigmas(TABLE, Denoise(schedule="karras"), 20)[:-1]
    table = SigmaTable.of(alphas_cumprod(), quantised=True)
    assert table.t(schedule).tolist() == [round(time) for time in TIMES]


def test_time_and_sigma_are_inverse() -> None:
    times = torch.linspace(0, 999, 77)
    assert torch.allclose(TABLE.t(TABLE.sigma(times)), times, atol=1e-2)


def test_sigmas_outside_are_clipped() -> None:
    assert TABLE.t(torch.tensor([1e-3, 100.0])).tolist() == [0.0, 999.0]
    assert TABLE.t(torch.tensor(100.0)).shape == ()


def test_consistency_table() -> None:
    table = SigmaTable.consistency(alphas_cumprod())
    assert len(table.sigmas) == 50
    assert table.highest == TABLE.highest
    assert table.t(table.sigmas).tolist() == list(range(19, 1000, 20))
    assert table.sigma(torch.tensor([19.0, 999.0])).tolist() == pytest.approx([table.lowest, table.highest], rel=1e-6)
    assert table.t(torch.tensor([1e-3])).tolist() == [19]


def test_zero_terminal_snr() -> None:
    alphas = alphas_cumprod()
    rescaled = zero_terminal_snr(alphas)
    assert float(rescaled[0]) == pytest.approx(float(alphas[0]), rel=1e-5)
    assert float(rescaled[-1]) == pytest.approx(4.8973451890853435e-08)
    assert bool((rescaled[1:] < rescaled[:-1]).all())
    assert float(alphas[-1]) > 1e-3
