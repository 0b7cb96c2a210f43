"""One CLIP text encoder with its projection, where it has one (OpenCLIP-G), as a module that moves as one."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from server.engines.image.layouts.family import TextRule


@dataclass(frozen=True)
class TextStates:
    """What one call gives: the chosen hidden state [rows, 77, width], and the pooled vector [rows, n] if asked for."""

    hidden: torch.Tensor
    pooled: torch.Tensor | None = None


class TextTower(nn.Module):
    """A text model of transformers, read by a family's rule."""

    def __init__(self, config: CLIPTextConfig, rule: TextRule) -> None:
        super().__init__()
        self.rule = rule
        self.model = CLIPTextModel(config)
        width = config.hidden_size
        self.projection = nn.Linear(width, config.projection_dim, bias=False) if rule.pooled else None

    @property
    def width(self) -> int:
        """Return the channels of a token."""
        width: int = self.model.config.hidden_size
        return width

    @property
    def layers(self) -> int:
        """Return how many layers there are, so how far clip skip can go."""
        layers: int = self.model.config.num_hidden_layers
        return layers

    def forward(self, tokens: torch.Tensor, from_end: int, normed: bool) -> TextStates:
        """Return the hidden state `from_end` layers before the end (1 = last) for token ids [rows, 77].

        The pooled vector is that of the last layer at the first end token (the highest id), projected.
        """
        ending = self.bare.get_submodule("final_layer_norm")
        raw: list[torch.Tensor] = []  # transformers gives the last layer only after the norm
        hook = ending.register_forward_pre_hook(lambda module, args: raw.append(args[0]))
        try:
            out = self.model(input_ids=tokens, output_hidden_states=True)
        finally:
            hook.remove()
        hidden = raw[-1] if from_end == 1 else out.hidden_states[-from_end]
        if normed:
            hidden = out.last_hidden_state if from_end == 1 else ending(hidden)
        return TextStates(hidden, self._pooled(out.last_hidden_state, tokens))

    @property
    def bare(self) -> nn.Module:
        """Return the module with `embeddings`, `encoder`, `final_layer_norm`: transformers 4 nests it, 5 does not."""
        return bare_text_model(self.model)

    def _pooled(self, last: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor | None:
        if self.projection is None:
            return None
        rows = torch.arange(len(tokens), device=tokens.device)
        pooled: torch.Tensor = self.projection(last[rows, tokens.argmax(dim=-1)])
        return pooled


def bare_text_model(model: CLIPTextModel) -> nn.Module:
    """Return the part of a text model that holds its layers."""
    inner: nn.Module = getattr(model, "text_model", model)
    return inner
