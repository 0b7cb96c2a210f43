"""The UNet as denoisers call it: float32 outside, its own dtype inside, extra inputs where they belong."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

from server.engines.image.denoisers import Condition
from server.engines.image.layouts.family import SIZE_COUNT, Family
from server.engines.image.offload import Seats

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class UNetInputs:
    """What a UNet is about to be called with: latents and all, in its dtype; `prompted` as in `Condition`."""

    inputs: torch.Tensor
    times: torch.Tensor
    text: torch.Tensor
    added: dict[str, torch.Tensor] | None
    prompted: torch.Tensor | None


@dataclass(frozen=True, kw_only=True)
class Additions:
    """What is added to a UNet's tensors: to all that its way down hands over, to its middle, to its levels' ends.

    `around` are contexts that are entered with the UNet for the time of the call.
    """

    down: tuple[torch.Tensor, ...] = ()
    middle: torch.Tensor | None = None
    inside: tuple[torch.Tensor, ...] = ()
    around: tuple[Callable[[nn.Module], AbstractContextManager[None]], ...] = ()


NOTHING = Additions()

Steer = Callable[[UNetInputs], Additions | None]
"""Asked before each call for what is to be added."""


class UNetCall:
    """Calls one UNet. Takes the seat before each call, and slices its attention for good once memory ran out."""

    def __init__(self, unet: UNet2DConditionModel, family: Family, dtype: torch.dtype, seats: Seats) -> None:
        self._unet = unet
        self._sizes = SIZE_COUNT[family.sizes]
        self._dtype = dtype
        self._seats = seats
        self._is_sliced = False
        self._steer: Steer | None = None

    @contextmanager
    def steered(self, steer: Steer) -> Iterator[None]:
        """While it lasts, `steer` is asked for additions before each call."""
        self._steer = steer
        try:
            yield
        finally:
            self._steer = None

    def __call__(self, x: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Run the network once, without gradients, on latents [rows, C, h, w] at times [rows]."""
        call = UNetInputs(
            inputs=self._inputs(x, condition).to(self._dtype),
            times=t,
            text=condition.text.to(self._dtype),
            added=self._added(condition),
            prompted=condition.prompted,
        )
        additions = NOTHING if self._steer is None else self._steer(call) or NOTHING
        self._seats.take(self._unet)
        try:
            return self._call(call, additions)
        except torch.OutOfMemoryError:
            if self._is_sliced:
                raise
            logger.warning("the UNet's attention does not fit; it runs in slices from now on")
            self._is_sliced = True
            self._unet.set_attention_slice("max")
        return self._call(call, additions)

    def _call(self, call: UNetInputs, additions: Additions) -> torch.Tensor:
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            for enter in additions.around:
                stack.enter_context(enter(self._unet))
            out: torch.Tensor = self._unet(
                call.inputs,
                call.times,
                encoder_hidden_states=call.text,
                added_cond_kwargs=call.added,
                down_block_additional_residuals=additions.down or None,
                mid_block_additional_residual=additions.middle,
                down_intrablock_additional_residuals=list(additions.inside) or None,
                return_dict=False,
            )[0]
        return out.float()

    def _inputs(self, x: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Return latents with what the UNet sees besides; nothing but zeros where nobody says."""
        missing = self._unet.config.in_channels - x.shape[1]
        if missing == 0:
            return x
        seen = condition.image
        if seen is None:
            seen = x.new_zeros(x.shape[0], missing, *x.shape[2:])
        return torch.cat([x, seen.to(x)], dim=1)

    def _added(self, condition: Condition) -> dict[str, torch.Tensor] | None:
        """Return the pooled text and the sizes apart; sizes pass through half precision where A1111's do."""
        if condition.vector is None or not self._sizes:
            return None
        sizes = condition.vector[:, -self._sizes :]
        if self._dtype == torch.float16:
            sizes = sizes.half().float()
        return {"text_embeds": condition.vector[:, : -self._sizes].to(self._dtype), "time_ids": sizes}
