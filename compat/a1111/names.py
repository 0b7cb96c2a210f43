"""What A1111 calls its samplers, schedules and latent upscalers, and how it reads what clients send.

The tables are those of version 1.10.1, in its order, which clients see in lists and which decides ambiguous names.

| sampler | schedule field | means |
|---|---|---|
| `DPM++ 2M Karras` | - | DPM++ 2M, Automatic (= Karras) |
| `Euler a Karras` | - | Euler a, Karras |
| `LMS karras` | - | LMS, Karras |
| `Euler a Karras` | `Automatic` | Euler a, Automatic |
| `k_euler`, `euler` | - | DPM++ 2M, Automatic (unknown names and aliases) |
| `Euler SGMUniform` | - | Euler, SGM Uniform |
| `Euler SGM Uniform` | - | DPM++ 2M, Uniform: `Uniform` is cut first and `Euler SGM` is unknown |
"""

from typing import Final

import msgspec


class Sampler(msgspec.Struct, frozen=True, kw_only=True):
    """A sampler: `id` is ours, the rest is what A1111 shows and does.

    `churns`: takes s_churn, s_tmin, s_tmax and s_noise; `noises`: takes s_noise alone. `timesteps`: ignores schedules.
    """

    id: str
    name: str
    aliases: tuple[str, ...]
    options: dict[str, str] = {}
    takes_eta: bool = False
    churns: bool = False
    noises: bool = False
    timesteps: bool = False

    @property
    def schedule(self) -> str:
        """Return the name of the sampler's own schedule, "" when it has none."""
        return self.options.get("scheduler", "")

    @property
    def calls(self) -> int:
        """Return model calls per step, as prompt schedules count them."""
        return 2 if "second_order" in self.options else 1

    @property
    def uses_ensd(self) -> bool:
        """Tell whether the seed delta shows in the infotext."""
        return "uses_ensd" in self.options

    @property
    def discards(self) -> bool:
        """Tell whether the last but one sigma is always dropped."""
        return "discard_next_to_last_sigma" in self.options


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A noise schedule; `name` is also our id, but for `automatic`."""

    name: str
    label: str
    aliases: tuple[str, ...] | None = None
    default_rho: float = -1.0
    need_inner_model: bool = False


_KARRAS: Final = {"scheduler": "karras"}
_EXPONENTIAL: Final = {"scheduler": "exponential"}
_SECOND: Final = {"second_order": "True"}
_BROWNIAN: Final = {"brownian_noise": "True"}
_ENSD: Final = {"uses_ensd": "True"}
_DISCARD: Final = {"discard_next_to_last_sigma": "True"}

SAMPLERS: Final = (
    Sampler(id="dpmpp_2m", name="DPM++ 2M", aliases=("k_dpmpp_2m",), options=_KARRAS),
    Sampler(
        id="dpmpp_sde",
        name="DPM++ SDE",
        aliases=("k_dpmpp_sde",),
        options=_KARRAS | _SECOND | _BROWNIAN,
        takes_eta=True,
        noises=True,
    ),
    Sampler(
        id="dpmpp_2m_sde",
        name="DPM++ 2M SDE",
        aliases=("k_dpmpp_2m_sde",),
        options=_EXPONENTIAL | _BROWNIAN,
        takes_eta=True,
        noises=True,
    ),
    Sampler(
        id="dpmpp_2m_sde_heun",
        name="DPM++ 2M SDE Heun",
        aliases=("k_dpmpp_2m_sde_heun",),
        options=_EXPONENTIAL | _BROWNIAN | {"solver_type": "heun"},
        takes_eta=True,
        noises=True,
    ),
    Sampler(
        id="dpmpp_2s_a",
        name="DPM++ 2S a",
        aliases=("k_dpmpp_2s_a",),
        options=_KARRAS | _ENSD | _SECOND,
        takes_eta=True,
        noises=True,
    ),
    Sampler(
        id="dpmpp_3m_sde",
        name="DPM++ 3M SDE",
        aliases=("k_dpmpp_3m_sde",),
        options=_EXPONENTIAL | _DISCARD | _BROWNIAN,
        takes_eta=True,
        noises=True,
    ),
    Sampler(id="euler_a", name="Euler a", aliases=("k_euler_a", "k_euler_ancestral"), options=_ENSD, takes_eta=True),
    Sampler(id="euler", name="Euler", aliases=("k_euler",), churns=True),
    Sampler(id="lms", name="LMS", aliases=("k_lms",)),
    Sampler(id="heun", name="Heun", aliases=("k_heun",), options=_SECOND, churns=True),
    Sampler(id="dpm2", name="DPM2", aliases=("k_dpm_2",), options=_KARRAS | _DISCARD | _SECOND, churns=True),
    Sampler(
        id="dpm2_a",
        name="DPM2 a",
        aliases=("k_dpm_2_a",),
        options=_KARRAS | _DISCARD | _ENSD | _SECOND,
        takes_eta=True,
        noises=True,
    ),
    Sampler(id="dpm_fast", name="DPM fast", aliases=("k_dpm_fast",), options=_ENSD, takes_eta=True, noises=True),
    Sampler(id="dpm_adaptive", name="DPM adaptive", aliases=("k_dpm_ad",), options=_ENSD, takes_eta=True),
    Sampler(id="restart", name="Restart", aliases=("restart",), options=_KARRAS | _SECOND),
    Sampler(id="ddim", name="DDIM", aliases=("ddim",), takes_eta=True, timesteps=True),
    Sampler(id="ddim_cfgpp", name="DDIM CFG++", aliases=("ddim_cfgpp",), takes_eta=True, timesteps=True),
    Sampler(id="plms", name="PLMS", aliases=("plms",), timesteps=True),
    Sampler(id="unipc", name="UniPC", aliases=("unipc",), timesteps=True),
    Sampler(id="lcm", name="LCM", aliases=("k_lcm",)),
)

AUTOMATIC: Final = Schedule(name="automatic", label="Automatic")

SCHEDULES: Final = (
    AUTOMATIC,
    Schedule(name="uniform", label="Uniform", need_inner_model=True),
    Schedule(name="karras", label="Karras", default_rho=7.0),
    Schedule(name="exponential", label="Exponential"),
    Schedule(name="polyexponential", label="Polyexponential", default_rho=1.0),
    Schedule(name="sgm_uniform", label="SGM Uniform", aliases=("SGMUniform",), need_inner_model=True),
    Schedule(name="kl_optimal", label="KL Optimal"),
    Schedule(name="align_your_steps", label="Align Your Steps"),
    Schedule(name="simple", label="Simple", need_inner_model=True),
    Schedule(name="normal", label="Normal", need_inner_model=True),
    Schedule(name="ddim", label="DDIM", need_inner_model=True),
    Schedule(name="beta", label="Beta", need_inner_model=True),
)

LATENT_UPSCALERS: Final = {
    "Latent": "latent",
    "Latent (antialiased)": "latent_antialiased",
    "Latent (bicubic)": "latent_bicubic",
    "Latent (bicubic antialiased)": "latent_bicubic_antialiased",
    "Latent (nearest)": "latent_nearest",
    "Latent (nearest-exact)": "latent_nearest_exact",
}

PIXEL_UPSCALERS: Final = {"None": "none", "Lanczos": "lanczos", "Nearest": "nearest"}

_SAMPLER_BY_NAME: Final = {sampler.name: sampler for sampler in SAMPLERS}
_SCHEDULE_BY_NAME: Final = {word: one for one in SCHEDULES for word in (one.name, one.label)}


class Sampling(msgspec.Struct, frozen=True):
    """A sampler and the schedule asked for; Automatic stays Automatic."""

    sampler: Sampler
    asked: Schedule

    @property
    def schedule(self) -> Schedule:
        """Return the schedule that Automatic stands for, as the infotext names it."""
        if self.asked is AUTOMATIC and self.sampler.schedule:
            return _SCHEDULE_BY_NAME[self.sampler.schedule]
        return self.asked

    @property
    def schedule_id(self) -> str:
        """Return the core's id: Automatic without a default of the sampler is the model's own, uniform."""
        return "uniform" if self.schedule is AUTOMATIC else self.schedule.name


def find_sampler(name: str | None) -> Sampler | None:
    """Return the sampler of exactly this name."""
    return _SAMPLER_BY_NAME.get(name or "")


def find_schedule(word: str | None) -> Schedule:
    """Return the schedule of this name or label, Automatic for any other word."""
    return _SCHEDULE_BY_NAME.get(word or "", AUTOMATIC)


def resolve(sampler: str | None, schedule: str | None) -> Sampling:
    """Return what a request's sampler and schedule fields mean, as A1111 1.10 does; nothing is an error.

    A schedule at the end of the sampler's name counts unless the schedule field says something.
    """
    name = sampler or SAMPLERS[0].name
    found = find_schedule(schedule)
    for one in SCHEDULES:
        for word in (one.label, one.name, *(one.aliases or ())):
            if name.endswith(" " + word):
                found = one
                name = name[: -len(word) - 1]
                break
    if schedule:
        found = find_schedule(schedule)
    chosen = _SAMPLER_BY_NAME.get(name, SAMPLERS[0])
    if found.name == chosen.schedule:
        found = AUTOMATIC
    return Sampling(chosen, found)
