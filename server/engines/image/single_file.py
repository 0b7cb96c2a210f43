"""Single files in the LDM layout: one file holds all parts, or lacks some that a spare checkpoint lends."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from server.core.errors import LoadFailed
from server.engines.base import Report
from server.engines.image import building, prediction
from server.engines.image.layouts import family as families
from server.engines.image.layouts import sidecar
from server.engines.image.layouts.family import TextRule
from server.engines.image.loaded import Checkpoint, Sources, check_widths
from server.engines.image.placement import Precision
from server.engines.image.ready_memory import Cast
from server.engines.image.sigma_table import alphas_cumprod, zero_terminal_snr
from server.engines.image.tensor_files import Tensors, open_tensors
from server.engines.image.text_tower import TextTower

Part = TypeVar("Part")


def load_file(path: Path, *, precision: Precision, sources: Sources, report: Report) -> Checkpoint:
    """Load a single-file checkpoint.

    Raises:
        LoadFailed: unreadable, damaged, incomplete or of a family that is not served; the sentence says which.
    """
    extra = sidecar.read(path)
    with ExitStack() as stack:
        tensors = stack.enter_context(open_tensors(path, allow_pickle=sources.allow_pickle))
        family = families.detect(tensors.shapes)
        lender = _Lender(stack, family.name, sources)
        report(0.05)
        texts = tuple(_text(tensors, rule, extra, sources.cast(precision.model), lender) for rule in family.texts)
        report(0.2)
        unet, names = building.build_unet(tensors, family, extra, sources.cast(precision.model))
        report(0.85)
        vae = load_vae(sources, precision.vae) or _own_vae(tensors, sources.cast(precision.vae), lender)
        told = prediction.said(extra, tensors.metadata, tensors.shapes)
        if told is None and family is not families.SD2:
            told = "eps"
        alphas = alphas_cumprod(extra.first_beta or 0.00085, extra.last_beta or 0.012)
        if prediction.ZERO_TERMINAL_MARK in tensors.shapes:
            alphas = zero_terminal_snr(alphas)
    check_widths(unet, texts, family)
    return Checkpoint(
        unet=unet,
        vae=vae,
        texts=texts,
        unet_names=names,
        family=family,
        latent_scale=extra.latent_scale or family.latent_scale,
        alphas_cumprod=alphas,
        prediction=told,
        converted=sources.ready.converted,
    )


def load_vae(sources: Sources, dtype: torch.dtype) -> AutoencoderKL | None:
    """Return the VAE that replaces the checkpoint's own, None when there is none."""
    if sources.vae is None:
        return None
    with open_tensors(sources.vae, allow_pickle=sources.allow_pickle) as tensors:
        return building.build_vae(tensors, sources.cast(dtype))


class _Lender:
    """Opens the spare checkpoint of a family when a part is missing, once."""

    def __init__(self, stack: ExitStack, family: str, sources: Sources) -> None:
        self._stack = stack
        self._family = family
        self._sources = sources
        self._opened: Tensors | None = None

    def borrow(self, part: str, prefix: str, build: Callable[[Tensors], Part]) -> Part:
        """Build a part from the spare; LoadFailed when there is none or it lacks the part, too."""
        path = self._sources.spares.get(self._family)
        if path is None:
            raise LoadFailed(
                f"the checkpoint has no {part}, and there is no spare for the family {self._family}: name a checkpoint "
                f"that lends it in the configuration, [image.spares] {self._family} = FILE"
            )
        if self._opened is None:
            opening = open_tensors(Path(path).expanduser(), allow_pickle=self._sources.allow_pickle)
            self._opened = self._stack.enter_context(opening)
        if not any(name.startswith(prefix) for name in self._opened.shapes) and part != "VAE":
            raise LoadFailed(f"the checkpoint has no {part}, and its spare {Path(path).name} has none either")
        return build(self._opened)


def _text(tensors: Tensors, rule: TextRule, extra: sidecar.Sidecar, cast: Cast, lender: _Lender) -> TextTower:
    def build(source: Tensors) -> TextTower:
        return building.build_text(source, rule, extra, cast)

    if any(name.startswith(rule.prefix) for name in tensors.shapes):
        return build(tensors)
    return lender.borrow("text encoder", rule.prefix, build)


def _own_vae(tensors: Tensors, cast: Cast, lender: _Lender) -> AutoencoderKL:
    if any(name.startswith(families.VAE) for name in tensors.shapes):
        return building.build_vae(tensors, cast)
    return lender.borrow("VAE", families.VAE, lambda source: building.build_vae(source, cast))
