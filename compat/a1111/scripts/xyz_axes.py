"""The axes of A1111's X/Y/Z plot, by their place in its list: what each changes in a request.

Values of options that would change the picture and are not offered (UniPC's order, token merging, FP8, faces restored)
are refused when the cells are decided, before any is made.
"""

from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any, Final, Literal

import msgspec

from compat.a1111 import checkpoints, names, wire
from compat.a1111.companions import NO_REFINER
from compat.a1111.options import CHECKPOINT
from compat.a1111.scripts import xyz_values
from compat.a1111.scripts.menu import Menu
from compat.a1111.scripts.xyz_order import reordered
from compat.a1111.workshop import Asked
from server.core.errors import InvalidValue

Kind = Literal["int", "float", "text", "orders"]
Change = Callable[[Asked, Any, Sequence[Any]], Asked]
NOTHING: Final = "Nothing"
SEEDS: Final = ("Seed", "Var. seed")
CHECKPOINTS: Final = {"Checkpoint name": checkpoints.find, "Refiner checkpoint": checkpoints.closest}
"""Axes whose values are checkpoints, and how each finds one by its name."""


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the list. `cost`: axes of a higher one change less often. `only` names the route that has it."""

    label: str
    kind: Kind = "text"
    change: Change | None = None
    cost: float = 0.0
    only: Literal["", "txt2img", "img2img"] = ""
    listed: Callable[[Menu], Sequence[str]] | None = None
    plain: bool = False

    def values(self, text: str, dropdown: Sequence[str], *, as_text: bool, menu: Menu) -> list[Any]:
        """Return the values of the axis.

        Raises:
            InvalidValue: they cannot be read, or one of them is not on the list.
        """
        if self.label == NOTHING:
            return [0]
        found = list(dropdown) if self.listed is not None and dropdown and not as_text else xyz_values.words(text)
        values: list[Any] = found
        match self.kind:
            case "int":
                values = list(xyz_values.integers(found))
            case "float":
                values = list(xyz_values.numbers(found))
            case "orders":
                values = list(xyz_values.orders(found))
        if not values:
            raise InvalidValue.of("script_args", f"the axis {self.label!r} has no values")
        if self.listed is not None:
            self._confirm(values, menu)
        return values

    def title(self, value: Any) -> str:
        """Return what stands beside a row or above a column."""
        if self.label == NOTHING:
            return ""
        if isinstance(value, tuple):
            return ", ".join(value)
        shown = round(value, 8) if isinstance(value, float) else value
        if self.label in CHECKPOINTS:
            return PurePath(str(shown)).name
        return str(shown) if self.plain else f"{self.label}: {shown}"

    def _confirm(self, values: Sequence[Any], menu: Menu) -> None:
        if self.label in CHECKPOINTS:
            find = CHECKPOINTS[self.label]
            unknown = next(
                (one for one in values if one not in NO_REFINER and find(one, menu.checkpoints) is None), None
            )
        else:
            known = {word.lower() for word in (self.listed or _nothing)(menu)}
            unknown = next((one for one in values if str(one).lower() not in known), None)
        if unknown is not None:
            raise InvalidValue.of("script_args", f"Unknown {self.label.lower()}: {str(unknown)[:100]}")


def _nothing(_: Menu) -> Sequence[str]:
    return ()


def _field(name: str) -> Change:
    return lambda request, value, _: msgspec.structs.replace(request, **{name: value})


def _option(name: str) -> Change:
    def change(request: Asked, value: Any, _: Sequence[Any]) -> Asked:
        overrides = (request.override_settings or {}) | {name: value}
        return msgspec.structs.replace(request, override_settings=overrides)

    return change


def _truth_option(name: str) -> Change:
    set_option = _option(name)
    return lambda request, value, values: set_option(request, str(value).strip().lower() == "true", values)


def _replaced(request: Asked, value: Any, values: Sequence[Any]) -> Asked:
    """Put a word in the place of the axis's first word, in both prompts."""
    sought = values[0]
    prompt, negative = request.prompt or "", request.negative_prompt or ""
    if sought not in prompt and sought not in negative:
        text = f"Prompt S/R did not find {sought[:100]} in prompt or negative prompt."
        raise InvalidValue.of("script_args", text)
    return msgspec.structs.replace(
        request, prompt=prompt.replace(sought, value), negative_prompt=negative.replace(sought, value)
    )


def _ordered(request: Asked, value: Any, _: Sequence[Any]) -> Asked:
    return msgspec.structs.replace(request, prompt=reordered(request.prompt or "", value))


def _sampled(request: Asked, value: Any, _: Sequence[Any]) -> Asked:
    return msgspec.structs.replace(request, sampler_name=_spelt(value, [one.name for one in names.SAMPLERS]))


def _styled(request: Asked, value: Any, _: Sequence[Any]) -> Asked:
    return msgspec.structs.replace(request, styles=[*(request.styles or []), *str(value).split(",")])


def _sized(request: Asked, value: Any, _: Sequence[Any]) -> Asked:
    try:
        width, height = (int(side) for side in str(value).lower().split("x"))
    except ValueError:
        raise InvalidValue.of("script_args", f"{str(value)[:40]!r} is no size; write it like 512x768") from None
    return msgspec.structs.replace(request, width=width, height=height)


def _noised(request: Asked, value: Any, _: Sequence[Any]) -> Asked:
    """Set the factor on the first noise; a request without a picture has none, in A1111 either."""
    if isinstance(request, wire.Txt2Img):
        return request
    return msgspec.structs.replace(request, initial_noise_multiplier=value)


def _faced(request: Asked, value: Any, _: Sequence[Any]) -> Asked:
    wanted = str(value).strip().lower() in ("codeformer", "gfpgan", "true", "yes", "y", "1")
    return msgspec.structs.replace(request, restore_faces=wanted)


def _refiners(menu: Menu) -> Sequence[str]:
    return ("None", *(checkpoints.title(card) for card in menu.checkpoints))


def _spelt(word: str, known: Sequence[str]) -> str:
    """Return a word as the list has it."""
    return next((one for one in known if one.lower() == word.lower()), word)


def _samplers(_: Menu) -> Sequence[str]:
    return [one.name for one in names.SAMPLERS]


def _schedules(_: Menu) -> Sequence[str]:
    return [one.label for one in names.SCHEDULES]


def _upscalers(menu: Menu) -> Sequence[str]:
    return [*names.LATENT_UPSCALERS, *menu.upscalers]


AXES: Final = (
    Axis(label=NOTHING),
    Axis(label="Seed", kind="int", change=_field("seed")),
    Axis(label="Var. seed", kind="int", change=_field("subseed")),
    Axis(label="Var. strength", kind="float", change=_field("subseed_strength")),
    Axis(label="Steps", kind="int", change=_field("steps")),
    Axis(label="Hires steps", kind="int", change=_field("hr_second_pass_steps"), only="txt2img"),
    Axis(label="CFG Scale", kind="float", change=_field("cfg_scale")),
    Axis(label="Image CFG Scale", kind="float", change=_field("image_cfg_scale"), only="img2img"),
    Axis(label="Prompt S/R", change=_replaced, plain=True),
    Axis(label="Prompt order", kind="orders", change=_ordered, plain=True),
    Axis(label="Sampler", change=_sampled, listed=_samplers, plain=True),
    Axis(label="Hires sampler", change=_field("hr_sampler_name"), listed=_samplers, only="txt2img", plain=True),
    Axis(
        label="Checkpoint name",
        change=_option(CHECKPOINT),
        listed=lambda menu: [checkpoints.title(card) for card in menu.checkpoints],
        cost=1.0,
        plain=True,
    ),
    Axis(label="Negative Guidance minimum sigma", kind="float", change=_field("s_min_uncond")),
    Axis(label="Sigma Churn", kind="float", change=_field("s_churn")),
    Axis(label="Sigma min", kind="float", change=_field("s_tmin")),
    Axis(label="Sigma max", kind="float", change=_field("s_tmax")),
    Axis(label="Sigma noise", kind="float", change=_field("s_noise")),
    Axis(label="Schedule type", change=_field("scheduler"), listed=_schedules),
    Axis(label="Schedule min sigma", kind="float", change=_option("sigma_min")),
    Axis(label="Schedule max sigma", kind="float", change=_option("sigma_max")),
    Axis(label="Schedule rho", kind="float", change=_option("rho")),
    Axis(label="Beta schedule alpha", kind="float", change=_option("beta_dist_alpha")),
    Axis(label="Beta schedule beta", kind="float", change=_option("beta_dist_beta")),
    Axis(label="Eta", kind="float", change=_field("eta")),
    Axis(label="Clip skip", kind="int", change=_option("CLIP_stop_at_last_layers")),
    Axis(label="Denoising", kind="float", change=_field("denoising_strength")),
    Axis(label="Initial noise multiplier", kind="float", change=_noised),
    Axis(label="Extra noise", kind="float", change=_option("img2img_extra_noise")),
    Axis(label="Hires upscaler", change=_field("hr_upscaler"), listed=_upscalers, only="txt2img"),
    Axis(label="Cond. Image Mask Weight", kind="float", change=_option("inpainting_mask_weight"), only="img2img"),
    Axis(label="VAE", change=_option("sd_vae"), listed=lambda menu: ("Automatic", "None", *menu.vaes), cost=0.7),
    Axis(label="Styles", change=_styled, listed=lambda menu: menu.styles),
    Axis(label="UniPC Order", kind="int", change=_option("uni_pc_order")),
    Axis(label="Face restore", change=_faced),
    Axis(label="Token merging ratio", kind="float", change=_option("token_merging_ratio")),
    Axis(label="Token merging ratio high-res", kind="float", change=_option("token_merging_ratio_hr")),
    Axis(label="Always discard next-to-last sigma", change=_truth_option("always_discard_next_to_last_sigma")),
    Axis(label="SGM noise multiplier", change=_truth_option("sgm_noise_multiplier")),
    Axis(label="Refiner checkpoint", change=_field("refiner_checkpoint"), listed=_refiners, cost=1.0, plain=True),
    Axis(label="Refiner switch at", kind="float", change=_field("refiner_switch_at")),
    Axis(label="RNG source", change=_option("randn_source"), listed=lambda _: ("GPU", "CPU", "NV")),
    Axis(
        label="FP8 mode",
        change=_option("fp8_storage"),
        listed=lambda _: ("Disable", "Enable for SDXL", "Enable"),
        cost=0.9,
    ),
    Axis(label="Size", change=_sized),
)
"""In A1111 1.10.1's order."""


def axes_of(route: str) -> tuple[Axis, ...]:
    """Return the axes that a route has, in the order that numbers count in."""
    return tuple(axis for axis in AXES if axis.only in ("", route))
