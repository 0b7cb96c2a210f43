"""How the LDM numbers the blocks of a UNet, and how diffusers nests them: one table from the levels alone.

Input block 0 is the first convolution; then, level by level, the residual blocks (each with its transformer) and one
block that halves the size. Output blocks go back up, each level with one residual block more; the block that doubles
the size shares the number of the last one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from server.engines.image.layouts.shapes import KeyMap

RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}

ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}

LONGEST = 4
"""Parts of the longest LDM module name in the table (`output_blocks.2.1.conv`)."""


@dataclass(frozen=True)
class Level:
    """One resolution: its width in channels, residual blocks, and transformer depth (0 = no attention)."""

    width: int
    resnets: int
    depth: int
    shrinks: bool


Modules = dict[str, str]
"""LDM module name to diffusers' module name."""


def modules_of(levels: Sequence[Level]) -> Modules:
    """Return the table of a UNet with these levels, finest first."""
    return {**ENDS, **_input(levels), **_middle(), **_output(levels)}


def key_map(names: Iterable[str], modules: Modules) -> KeyMap:
    """Map LDM tensor names to diffusers'; unknown names are left out."""
    known = {}
    for name in names:
        module = _module_of(name, modules)
        if module is None:
            continue
        new, rest = modules[module], name[len(module) + 1 :]
        if not _is_resnet(new):
            known[name] = f"{new}.{rest}"
            continue
        inner = next((part for part in RESNET if rest.startswith(part + ".")), None)
        if inner is not None:
            known[name] = f"{new}.{RESNET[inner]}{rest[len(inner) :]}"
    return known


def inverse_key_map(names: Iterable[str], modules: Modules) -> KeyMap:
    """Return the same map (LDM to diffusers), made from diffusers' tensor names."""
    inner = {new: old for old, new in RESNET.items()}
    known = {}
    for old, new in modules.items():
        for name in names:
            if not name.startswith(new + "."):
                continue
            rest = name[len(new) + 1 :]
            if _is_resnet(new):
                part, _, last = rest.partition(".")
                rest = f"{inner[part]}.{last}"
            known[f"{old}.{rest}"] = name
    return known


def _is_resnet(module: str) -> bool:
    return ".resnets." in f".{module}"


def _module_of(name: str, modules: Modules) -> str | None:
    parts = name.split(".")
    candidates = (".".join(parts[:length]) for length in range(min(LONGEST, len(parts) - 1), 1, -1))
    return next((prefix for prefix in candidates if prefix in modules), None)


def _input(levels: Sequence[Level]) -> Modules:
    modules: Modules = {}
    block = 1
    for number, level in enumerate(levels):
        for resnet in range(level.resnets):
            modules[f"input_blocks.{block}.0"] = f"down_blocks.{number}.resnets.{resnet}"
            if level.depth:
                modules[f"input_blocks.{block}.1"] = f"down_blocks.{number}.attentions.{resnet}"
            block += 1
        if level.shrinks:
            modules[f"input_blocks.{block}.0.op"] = f"down_blocks.{number}.downsamplers.0.conv"
            block += 1
    return modules


def _middle() -> Modules:
    return {
        "middle_block.0": "mid_block.resnets.0",
        "middle_block.1": "mid_block.attentions.0",
        "middle_block.2": "mid_block.resnets.1",
    }


def _output(levels: Sequence[Level]) -> Modules:
    modules: Modules = {}
    block = 0
    for up, level in enumerate(reversed(levels)):
        for resnet in range(level.resnets + 1):
            modules[f"output_blocks.{block}.0"] = f"up_blocks.{up}.resnets.{resnet}"
            if level.depth:
                modules[f"output_blocks.{block}.1"] = f"up_blocks.{up}.attentions.{resnet}"
            block += 1
        if up < len(levels) - 1:
            place = 2 if level.depth else 1
            modules[f"output_blocks.{block - 1}.{place}.conv"] = f"up_blocks.{up}.upsamplers.0.conv"
    return modules
