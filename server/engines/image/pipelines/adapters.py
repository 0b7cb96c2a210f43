"""LoRAs for pipelines: diffusers reads their spellings, the house merges them into the weights.

So no further package is needed, steps cost nothing extra, and the weights come back to the last bit.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from server.core.errors import LoadFailed
from server.engines.image.adapters import Adapters, Groups
from server.engines.image.lora import Layer
from server.engines.image.tensor_files import open_tensors

TEXTS = ("text_encoder", "text_encoder_2", "text_encoder_3")
BODIES = ("transformer", "unet")

LAST = {"lora_A": "lora_A", "lora_B": "lora_B", "down": "lora_down", "up": "lora_up"}
"""Last names of a layer's tensors in diffusers' spellings."""

SAID = "lora_adapter_metadata"
"""Key of a file's metadata under which diffusers writes how a LoRA is scaled, as JSON."""


class PipelineAdapters(Adapters):
    """Owns the changes that LoRAs make to one pipeline."""

    def __init__(self, pipeline: Any, *, allow_pickle: bool) -> None:
        super().__init__(layers_of(pipeline), allow_pickle=allow_pickle)
        self._read = getattr(type(pipeline), "lora_state_dict", None)

    def groups(self, path: Path) -> Groups:
        """Return the tensors of a file by layer; LoadFailed for a file that this family cannot use."""
        if self._read is None:
            raise LoadFailed("this family of models takes no LoRA")
        with open_tensors(path, allow_pickle=self._allow_pickle) as file:
            tensors, said = {name: file.get(name) for name in file.shapes}, file.metadata.get(SAID, "")
        try:
            found = self._read(tensors, return_alphas=True)
        except Exception as error:  # its readers raise whatever their look-ups meet in a file of another kind
            words = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise LoadFailed(f"it is for another kind of model ({words[:120]})") from error
        read, alphas = found if isinstance(found, tuple) else (found, None)
        return scaled(grouped(read, alphas or {}), said)


def layers_of(pipeline: Any) -> dict[str, Layer]:
    """Return all layers with a weight, named `transformer.…` and `text_encoder.…`."""
    found: dict[str, Layer] = {}
    for part in (*TEXTS, *BODIES):
        module = getattr(pipeline, part, None)
        if not isinstance(module, nn.Module):
            continue
        for name, layer in module.named_modules():
            if isinstance(getattr(layer, "weight", None), nn.Parameter):
                found[f"{part}.{name}"] = Layer(layer, is_text=part in TEXTS)
    return found


def grouped(tensors: dict[str, torch.Tensor], alphas: dict[str, Any]) -> Groups:
    """Return tensors in diffusers' spelling by layer and last name.

    >>> list(grouped({"transformer.a.lora_A.weight": torch.ones(1, 1)}, {"transformer.a.alpha": 2.0}).items())
    [('transformer.a', {'lora_A': tensor([[1.]]), 'alpha': tensor(2.)})]
    """
    groups: Groups = {}
    for name, tensor in tensors.items():
        parts = name.removesuffix(".weight").split(".")
        if parts[-1] == "alpha":
            groups.setdefault(".".join(parts[:-1]), {})["alpha"] = tensor
        elif parts[-1] in LAST:
            layer = ".".join(parts[:-1]).removesuffix(".lora").removesuffix(".lora_linear_layer")
            groups.setdefault(layer, {})[LAST[parts[-1]]] = tensor
    for name, alpha in alphas.items():
        layer = name.removesuffix(".alpha")
        if layer in groups:
            groups[layer].setdefault("alpha", torch.tensor(float(alpha)))
    return groups


def scaled(groups: Groups, said: str) -> Groups:
    """Return layers with the alpha that a file's metadata tell for their part, where tensors tell none."""
    try:
        facts = json.loads(said) if said else {}
    except ValueError:
        return groups
    for layer, tensors in groups.items():
        alpha = facts.get(f"{layer.partition('.')[0]}.lora_alpha") if isinstance(facts, dict) else None
        if isinstance(alpha, int | float) and "alpha" not in tensors:
            tensors["alpha"] = torch.tensor(float(alpha))
    return groups
