"""Which samplers there are, by neutral id, and the facts about them that the engine needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from server.engines.image.samplers.base import Sampler
from server.engines.image.samplers.ddim import ddim, ddim_cfgpp
from server.engines.image.samplers.dpm2 import dpm2, dpm2_ancestral
from server.engines.image.samplers.dpm_solver import dpm_adaptive, dpm_fast
from server.engines.image.samplers.dpmpp import dpmpp_2m, dpmpp_2s_ancestral
from server.engines.image.samplers.dpmpp_sde import dpmpp_2m_sde, dpmpp_2m_sde_heun, dpmpp_3m_sde, dpmpp_sde
from server.engines.image.samplers.euler import euler, euler_ancestral
from server.engines.image.samplers.heun import heun
from server.engines.image.samplers.lcm import lcm
from server.engines.image.samplers.lms import lms
from server.engines.image.samplers.plms import plms
from server.engines.image.samplers.restart import restart
from server.engines.image.samplers.unipc import unipc

Kind = Literal["sigma", "timestep"]


@dataclass(frozen=True, kw_only=True)
class SamplerInfo:
    """A sampler and what is true of it.

    Attributes:
        run: The generator of steps.
        kind: `sigma`: starts from noise * sigmas[0] and calls the model by sigma. `timestep`: starts from unit noise,
            ignores schedules and calls `model.eps`.
        default_schedule: What "automatic" means for it; None = `uniform`.
        second_order: Makes two model calls a step: prompt schedules then count twice the steps.
        discard_next_to_last: Runs on a schedule of one sigma more with the last but one left out.
        uses_brownian: Noise depends on sigmas, not on the order of draws.
        takes_eta: Eta changes its result; `default_eta` stands where none is given.
        consistency: The model must be wrapped as a consistency model, whose table also makes the schedule.
        own_range: Makes its own sigmas between `SamplerRun.sigma_range`.
        scale_factor: To be multiplied with the guidance scale.
    """

    run: Sampler
    kind: Kind = "sigma"
    default_schedule: str | None = None
    second_order: bool = False
    discard_next_to_last: bool = False
    uses_brownian: bool = False
    takes_eta: bool = False
    default_eta: float = 1.0
    consistency: bool = False
    own_range: bool = False
    scale_factor: float = 1.0


SAMPLERS: Mapping[str, SamplerInfo] = MappingProxyType(
    {
        "euler": SamplerInfo(run=euler),
        "euler_a": SamplerInfo(run=euler_ancestral, takes_eta=True),
        "lms": SamplerInfo(run=lms),
        "heun": SamplerInfo(run=heun, second_order=True),
        "dpm2": SamplerInfo(run=dpm2, default_schedule="karras", second_order=True, discard_next_to_last=True),
        "dpm2_a": SamplerInfo(
            run=dpm2_ancestral,
            default_schedule="karras",
            second_order=True,
            discard_next_to_last=True,
            takes_eta=True,
        ),
        "dpmpp_2s_a": SamplerInfo(run=dpmpp_2s_ancestral, default_schedule="karras", second_order=True, takes_eta=True),
        "dpmpp_2m": SamplerInfo(run=dpmpp_2m, default_schedule="karras"),
        "dpmpp_sde": SamplerInfo(
            run=dpmpp_sde, default_schedule="karras", second_order=True, uses_brownian=True, takes_eta=True
        ),
        "dpmpp_2m_sde": SamplerInfo(
            run=dpmpp_2m_sde, default_schedule="exponential", uses_brownian=True, takes_eta=True
        ),
        "dpmpp_2m_sde_heun": SamplerInfo(
            run=dpmpp_2m_sde_heun, default_schedule="exponential", uses_brownian=True, takes_eta=True
        ),
        "dpmpp_3m_sde": SamplerInfo(
            run=dpmpp_3m_sde,
            default_schedule="exponential",
            discard_next_to_last=True,
            uses_brownian=True,
            takes_eta=True,
        ),
        "dpm_fast": SamplerInfo(run=dpm_fast, takes_eta=True, own_range=True),
        "dpm_adaptive": SamplerInfo(run=dpm_adaptive, takes_eta=True, own_range=True),
        "restart": SamplerInfo(run=restart, default_schedule="karras", second_order=True),
        "lcm": SamplerInfo(run=lcm, consistency=True),
        "ddim": SamplerInfo(run=ddim, kind="timestep", takes_eta=True, default_eta=0.0),
        "ddim_cfgpp": SamplerInfo(
            run=ddim_cfgpp, kind="timestep", takes_eta=True, default_eta=0.0, scale_factor=1 / 12.5
        ),
        "plms": SamplerInfo(run=plms, kind="timestep"),
        "unipc": SamplerInfo(run=unipc, kind="timestep"),
    }
)
