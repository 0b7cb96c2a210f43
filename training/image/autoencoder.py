"""The VAE: an encoder that is built to compute `averages`, and a decoder that starts as a smooth enlargement.

Both keep red, green and blue in the first channels of a residual stream that no norm touches, so colours come through
unchanged; what is trained are residual blocks of the decoder that make edges sharp. Blocks that are not needed are
there for the layout's sake and add nothing.

The last norm of each half stands in the way of colours: it takes the mean and the deviation of each group of channels
away. So groups of three hold v, -v and a large constant K there. Their mean is K / 3 and their deviation about
sqrt(2) / 3 K, whatever v is; weight and bias of the norm undo both, and SiLU(v) - SiLU(-v) = v.
"""

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import nn

from training.image.averages import LATENT_SCALE, LUMA, SHIFT, SPREAD
from training.image.network import fresh_vae

LARGE = 32.0
"""K; large beside pictures' -1 ... 1, and small enough for half precision."""

TYPICAL_SQUARE = 0.5
"""Mean square of a colour in a picture, for the deviation of a group."""

CERTAIN = -30.0
"""Logarithm of the posterior's variance: none."""

SMOOTH = (0.25, 0.5, 0.25)
GROUP = 3


def built_vae() -> AutoencoderKL:
    """Return the VAE with its encoder done and its decoder ready to be trained."""
    vae = fresh_vae()
    with torch.no_grad():
        _build_encoder(vae)
        _open_decoder(vae)
    return vae


def enlarged(vae: AutoencoderKL, averages: torch.Tensor) -> torch.Tensor:
    """Return pictures [n, 3, 8 h, 8 w] of averages [n, 4, h, w], as the whole decoder gives, without its idle parts."""
    decoder = vae.decoder
    hidden = decoder.conv_in(averages)
    for block in decoder.mid_block.resnets:
        hidden = block(hidden, None)
    for level, up in enumerate(decoder.up_blocks[:3]):
        for block in up.resnets if level < 2 else up.resnets[1:]:
            hidden = block(hidden, None)
        convolution = up.upsamplers[0].conv
        hidden = nn.functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
        rows = None if level < 2 else 3
        hidden = nn.functional.conv2d(hidden, convolution.weight[:rows], convolution.bias[:rows], padding=1)
    return hidden


def trained_parts(vae: AutoencoderKL) -> list[nn.Parameter]:
    """Return the weights that `enlarged` uses."""
    decoder = vae.decoder
    modules = [decoder.conv_in, decoder.mid_block.resnets, *decoder.up_blocks[:2]]
    modules += [decoder.up_blocks[2].resnets[1], decoder.up_blocks[2].upsamplers]
    return [parameter for module in modules for parameter in module.parameters()]


def _build_encoder(vae: AutoencoderKL) -> None:
    encoder = vae.encoder
    blocks = [block for down in encoder.down_blocks for block in down.resnets] + list(encoder.mid_block.resnets)
    for block in blocks:
        _idle(block)
    _idle_attention(encoder.mid_block.attentions[0])
    _clear(encoder.conv_in)
    for colour in range(3):
        encoder.conv_in.weight[colour, colour, 1, 1] = 1
        encoder.conv_in.weight[3, colour, 1, 1] = LUMA[colour]
    steps = [down.downsamplers[0].conv for down in encoder.down_blocks[:3]]
    for step in steps:
        _clear(step)
        for channel in range(4):
            step.weight[channel, channel, :2, :2] = 0.25
    # Of four cells of 2 x 2 pixels keep each corner by itself; then of four such cells take the corners that meet.
    for number, (row, column) in enumerate(((1, 1), (1, 0), (0, 1), (0, 0))):
        steps[1].weight[4 + number, 3, row, column] = 1
        steps[2].weight[4, 4 + number, 1 - row, 1 - column] = 0.25
    for down in encoder.down_blocks:
        shortcut = down.resnets[0].conv_shortcut
        if shortcut is not None:
            _pass_on(shortcut, 8)
    last = encoder.down_blocks[3].resnets[0].conv_shortcut
    signals = torch.zeros(4, last.weight.shape[1])
    signals[:3, :3] = torch.eye(3)
    signals[3, 4], signals[3, 3] = 1, -1
    _to_groups(last, signals)
    _undo_norm(encoder.conv_norm_out)
    _from_groups(encoder.conv_out, 4)
    encoder.conv_out.bias[4:] = CERTAIN
    _clear(vae.quant_conv)
    for row in range(4):
        vae.quant_conv.weight[row, row] = 1 / (SPREAD[row] * LATENT_SCALE)
        vae.quant_conv.bias[row] = -SHIFT[row] / (SPREAD[row] * LATENT_SCALE)
        vae.quant_conv.weight[4 + row, 4 + row] = 1


def _open_decoder(vae: AutoencoderKL) -> None:
    decoder = vae.decoder
    _clear(vae.post_quant_conv)
    for row in range(4):
        vae.post_quant_conv.weight[row, row] = SPREAD[row] * LATENT_SCALE
        vae.post_quant_conv.bias[row] = SHIFT[row]
    decoder.conv_in.weight[:3] = 0
    decoder.conv_in.bias[:3] = 0
    for colour in range(3):
        decoder.conv_in.weight[colour, colour, 1, 1] = 1
    for block in [*decoder.mid_block.resnets, *(block for up in decoder.up_blocks for block in up.resnets)]:
        _idle(block)
    _idle_attention(decoder.mid_block.attentions[0])
    for up in decoder.up_blocks[:3]:
        _smooth(up.upsamplers[0].conv)
    decoder.up_blocks[2].upsamplers[0].conv.weight[3:] = 0
    decoder.up_blocks[2].upsamplers[0].conv.bias[3:] = 0
    narrowing = decoder.up_blocks[1].resnets[0].conv_shortcut
    narrowing.weight[:3] = 0
    narrowing.bias[:3] = 0
    for colour in range(3):
        narrowing.weight[colour, colour] = 1
    last = decoder.up_blocks[3].resnets[0].conv_shortcut
    _to_groups(last, torch.eye(3, last.weight.shape[1]))
    _undo_norm(decoder.conv_norm_out)
    _from_groups(decoder.conv_out, 3)


def _to_groups(layer: nn.Conv2d, signals: torch.Tensor) -> None:
    """Let a 1 x 1 convolution give the groups v, -v, K for each row of `signals` [n, channels in]; the rest 0, 0, K."""
    _clear(layer)
    layer.bias[GROUP - 1 :: GROUP] = LARGE
    for number, signal in enumerate(signals):
        layer.weight[GROUP * number, :, 0, 0] = signal
        layer.weight[GROUP * number + 1, :, 0, 0] = -signal


def _undo_norm(norm: nn.GroupNorm) -> None:
    norm.weight.fill_((2 / 9 * LARGE**2 + 2 / 3 * TYPICAL_SQUARE) ** 0.5)
    norm.bias.fill_(LARGE / 3)


def _from_groups(layer: nn.Conv2d, signals: int) -> None:
    _clear(layer)
    for number in range(signals):
        layer.weight[number, GROUP * number, 1, 1] = 1
        layer.weight[number, GROUP * number + 1, 1, 1] = -1


def _idle(block: nn.Module) -> None:
    """Let a residual block add nothing (yet)."""
    _clear(block.get_submodule("conv2"))


def _idle_attention(attention: nn.Module) -> None:
    _clear(attention.get_submodule("to_out.0"))


def _smooth(layer: nn.Conv2d) -> None:
    """Let the convolution after a doubling smooth the colours and nothing else."""
    row = torch.tensor(SMOOTH)
    layer.weight[:3] = 0
    layer.bias[:3] = 0
    for colour in range(3):
        layer.weight[colour, colour] = row[:, None] * row[None, :]


def _pass_on(layer: nn.Conv2d, channels: int) -> None:
    _clear(layer)
    for channel in range(channels):
        layer.weight[channel, channel] = 1


def _clear(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.zero_()
