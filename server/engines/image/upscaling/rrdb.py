"""ESRGAN's network: residual-in-residual dense blocks, as its authors, Real-ESRGAN and BSRGAN publish it.

After Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks" (2018), section 3.1. Files name
its layers in three ways; `canonical` gives them the names of the newest:

| this file | first files (`model.N`) | the authors' second | Real-ESRGAN |
|---|---|---|---|
| `conv_first` | `model.0` | `conv_first` | `conv_first` |
| `body.3.rdb1.conv2` | `model.1.sub.3.RDB1.conv2.0` | `RRDB_trunk.3.RDB1.conv2` | `body.3.rdb1.conv2` |
| `conv_body` | `model.1.sub.N` (the last) | `trunk_conv` | `conv_body` |
| `ups.0`, `ups.1` | `model.3`, `model.6` | `upconv1`, `upconv2` | `conv_up1`, `conv_up2` |
| `conv_hr`, `conv_last` | the last two | `HRconv`, `conv_last` | `conv_hr`, `conv_last` |

A first layer with 12 or 48 input channels takes pixels folded 2x2 or 4x4 into channels, so the scale is that less.
"""

import re
from collections.abc import Mapping
from math import isqrt

import torch
from torch import nn
from torch.nn import functional

from server.core.errors import LoadFailed

State = Mapping[str, torch.Tensor]

COLOURS = 3
SLOPE = 0.2
SHARE = 0.2
"""What a block adds of its own result to its input."""

_FIRST = re.compile(r"model\.(\d+)\.(weight|bias)")
_FIRST_BODY = re.compile(r"model\.1\.sub\.(\d+)\.(?:RDB(\d)\.conv(\d)\.0\.)?(weight|bias)")
_RENAMED = (
    (re.compile(r"^RRDB_trunk\.(\d+)\.RDB(\d)\."), r"body.\1.rdb\2."),
    (re.compile(r"^trunk_conv\."), "conv_body."),
    (re.compile(r"^(?:upconv|conv_up)(\d)\."), lambda match: f"ups.{int(match[1]) - 1}."),
    (re.compile(r"^HRconv\."), "conv_hr."),
)


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees the results of all before it: [batch, width, h, w] to the same."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for number in range(1, 6):
            out = growth if number < 5 else width
            setattr(self, f"conv{number}", nn.Conv2d(width + (number - 1) * growth, out, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's input with a share of its result."""
        seen = [x]
        for number in range(1, 5):
            seen.append(functional.leaky_relu(getattr(self, f"conv{number}")(torch.cat(seen, 1)), SLOPE))
        return x + SHARE * getattr(self, "conv5")(torch.cat(seen, 1))  # noqa: B009 (a registered module)


class Block(nn.Module):
    """Three dense blocks one after the other."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(width, growth) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's input with a share of its result."""
        return x + SHARE * self.rdb3(self.rdb2(self.rdb1(x)))


class RrdbNet(nn.Module):
    """The whole network: [batch, 3, h, w], 0 ... 1, to [batch, 3, h * scale, w * scale]."""

    def __init__(self, *, width: int, growth: int, blocks: int, ups: int, fold: int) -> None:
        super().__init__()
        self.fold = fold
        self.conv_first = nn.Conv2d(COLOURS * fold * fold, width, 3, padding=1)
        self.body = nn.Sequential(*(Block(width, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        self.ups = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(ups))
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, COLOURS, 3, padding=1)

    @property
    def scale(self) -> float:
        """Return how many times larger the result is."""
        return 2 ** len(self.ups) / self.fold

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge; sides that folding does not divide are filled up by mirroring, and cut again."""
        height, width = x.shape[-2:]
        if self.fold > 1:
            beyond = 0, -width % self.fold, 0, -height % self.fold
            mirrored = beyond[1] < width and beyond[3] < height
            x = functional.pad(x, beyond, mode="reflect" if mirrored else "replicate")
            x = functional.pixel_unshuffle(x, self.fold)
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        for up in self.ups:
            x = functional.leaky_relu(up(functional.interpolate(x, scale_factor=2.0, mode="nearest")), SLOPE)
        x = self.conv_last(functional.leaky_relu(self.conv_hr(x), SLOPE))
        return x[..., : round(height * self.scale), : round(width * self.scale)]


def canonical(state: State) -> dict[str, torch.Tensor]:
    """Return the tensors under this file's names; names of other networks stay as they are."""
    if "model.0.weight" in state and any(name.startswith("model.1.sub.") for name in state):
        return _from_first_files(state)
    renamed = {}
    for name, tensor in state.items():
        for pattern, new in _RENAMED:
            name = pattern.sub(new, name)
        renamed[name] = tensor
    return renamed


def is_rrdb(state: State) -> bool:
    """Tell whether tensors with canonical names are those of this network."""
    needed = ("conv_first.weight", "body.0.rdb1.conv1.weight", "conv_body.weight", "conv_hr.weight", "conv_last.weight")
    return all(name in state for name in needed)


def build(state: State) -> RrdbNet:
    """Return the network for tensors with canonical names, without its weights (on the meta device).

    Raises:
        LoadFailed: it is a variation that is not known.
    """
    channels = state["conv_first.weight"].shape[1]
    fold = isqrt(channels // COLOURS)
    if COLOURS * fold * fold != channels or fold not in (1, 2, 4) or state["conv_last.weight"].shape[0] != COLOURS:
        raise LoadFailed("this ESRGAN network is not one for pictures in three colours")
    with torch.device("meta"):
        return RrdbNet(
            width=state["conv_first.weight"].shape[0],
            growth=state["body.0.rdb1.conv1.weight"].shape[0],
            blocks=1 + max(int(name.split(".")[1]) for name in state if name.startswith("body.")),
            ups=len({name.split(".")[1] for name in state if name.startswith("ups.")}),
            fold=fold,
        )


def _from_first_files(state: State) -> dict[str, torch.Tensor]:
    numbers = sorted({int(match[1]) for name in state if (match := _FIRST.fullmatch(name)) and int(match[1]) >= 2})
    places = {0: "conv_first"} | {number: f"ups.{k}" for k, number in enumerate(numbers[:-2])}
    places |= dict(zip(numbers[-2:], ("conv_hr", "conv_last"), strict=False))
    renamed = {}
    for name, tensor in state.items():
        body, plain = _FIRST_BODY.fullmatch(name), _FIRST.fullmatch(name)
        if body is not None and body[2] is not None:
            name = f"body.{body[1]}.rdb{body[2]}.conv{body[3]}.{body[4]}"
        elif body is not None:
            name = f"conv_body.{body[4]}"
        elif plain is not None:
            name = f"{places.get(int(plain[1]), name)}.{plain[2]}"
        renamed[name] = tensor
    return renamed
