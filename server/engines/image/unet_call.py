"""The UNet as denoisers call it: float32 outside, its own dtype inside, extra inputs where they belong."""

import logging

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from server.engines.image.denoisers import Condition
from server.engines.image.layouts.family import SIZE_COUNT, Family
from server.engines.image.offload import Seats

logger = logging.getLogger(__name__)


class UNetCall:
    """Calls one UNet. Takes the seat before each call, and slices its attention for good once memory ran out."""

    def __init__(self, unet: UNet2DConditionModel, family: Family, dtype: torch.dtype, seats: Seats) -> None:
        self._unet = unet
        self._sizes = SIZE_COUNT[family.sizes]
        self._dtype = dtype
        self._seats = seats
        self._is_sliced = False

    def __call__(self, x: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Run the network once, without gradients, on latents [rows, C, h, w] at times [rows]."""
        self._seats.take(self._unet)
        try:
            return self._call(x, t, condition)
        except torch.OutOfMemoryError:
            if self._is_sliced:
                raise
            logger.warning("the UNet's attention does not fit; it runs in slices from now on")
            self._is_sliced = True
            self._unet.set_attention_slice("max")
        return self._call(x, t, condition)

    def _call(self, x: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        with torch.no_grad():
            out: torch.Tensor = self._unet(
                self._inputs(x, condition).to(self._dtype),
                t,
                encoder_hidden_states=condition.text.to(self._dtype),
                added_cond_kwargs=self._added(condition),
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
