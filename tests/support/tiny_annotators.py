"""Networks for maps: random weights in the layouts that users have them in."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
)

from server.engines.image.annotators.hed import HedNet


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    """Fill a network with weights that keep its values in range; return it."""
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan = max(parameter[0].numel(), 1) if parameter.dim() > 1 else 64
            parameter.copy_(torch.randn(parameter.shape, generator=dice) * (2 / fan) ** 0.5)
    return network.eval()


def write_network(path: Path, network: nn.Module) -> Path:
    """Write a network's tensors in float16, as a pickle where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    return path


def write_hed(path: Path) -> Path:
    """Write a network for soft edges."""
    return write_network(path, seeded(HedNet()))


def tiny_dpt() -> nn.Module:
    """Return a DPT model of 34,000 weights."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
    config = DPTConfig(
        **sizes,
        image_size=32,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[4, 4, 4, 4],
        fusion_hidden_size=8,
        is_hybrid=False,
    )
    torch.manual_seed(0)
    return DPTForDepthEstimation(config).eval()


def tiny_depth_anything() -> nn.Module:
    """Return a Depth Anything model that is as small."""
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    torch.manual_seed(0)
    return DepthAnythingForDepthEstimation(
        DepthAnythingConfig(
            backbone_config=backbone,
            reassemble_hidden_size=16,
            neck_hidden_sizes=[4, 8, 8, 8],
            fusion_hidden_size=8,
            head_hidden_size=4,
        )
    ).eval()


def write_folder(folder: Path, model: nn.Module, preprocessor: str = "") -> Path:
    """Write a folder of transformers; return its file of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.to_json_file(folder / "config.json")
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(preprocessor)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder / "model.safetensors"
