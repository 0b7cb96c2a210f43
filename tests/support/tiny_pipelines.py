"""Tiny models of later families as folders in the layout of the diffusers library, with random weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
WORDS = len(SPECIAL) + 256
TEXT = 32
CHAT = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"

Parts = dict[str, Any]


def write_tiny_pipeline(folder: Path, family: str, **changes: Any) -> Path:
    """Write a model of a family and return its `model_index.json`; `changes` go to its transformer's configuration."""
    torch.manual_seed(7)
    kind, build = FAMILIES[family]
    pipeline = getattr(diffusers, kind)(**build(changes))
    pipeline.save_pretrained(folder)
    return folder / "model_index.json"


def tokenizer(length: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer that knows bytes, for texts of up to `length` tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: number for number, word in enumerate((*SPECIAL, *alphabet))}
    inner = Tokenizer(BPE(vocab=words, merges=[], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    ends = [("<bos>", 1), ("<eos>", 2)]
    inner.post_processor = TemplateProcessing(single="<bos> $A <eos>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=length,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        chat_template=CHAT,
    )


def clip(*, projected: bool) -> Any:
    """Return a CLIP text encoder."""
    config = CLIPTextConfig(
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        hidden_size=TEXT,
        intermediate_size=37,
        projection_dim=TEXT,
        num_attention_heads=4,
        num_hidden_layers=3,
        vocab_size=WORDS,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def t5() -> T5EncoderModel:
    """Return a T5 encoder."""
    return T5EncoderModel(
        T5Config(vocab_size=WORDS, d_model=TEXT, d_kv=8, d_ff=37, num_layers=2, num_heads=4, pad_token_id=0)
    ).eval()


def vae(channels: int, **more: Any) -> AutoencoderKL:
    """Return a VAE of four levels, 8 pixels a cell."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        latent_channels=channels,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **{"scaling_factor": 0.8, "shift_factor": 0.1} | more,
    ).eval()


def _sd3(changes: Parts) -> Parts:
    config: Parts = {
        "sample_size": 32,
        "patch_size": 2,
        "in_channels": 16,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 4,
        "caption_projection_dim": 32,
        "joint_attention_dim": TEXT,
        "pooled_projection_dim": 2 * TEXT,
        "out_channels": 16,
    }
    return {
        "transformer": diffusers.SD3Transformer2DModel(**config | changes).eval(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": vae(16),
        "text_encoder": clip(projected=True),
        "tokenizer": tokenizer(77),
        "text_encoder_2": clip(projected=True),
        "tokenizer_2": tokenizer(77),
        "text_encoder_3": t5(),
        "tokenizer_3": tokenizer(256),
    }


def _flux(changes: Parts) -> Parts:
    config: Parts = {
        "patch_size": 1,
        "in_channels": 16,
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT,
        "pooled_projection_dim": TEXT,
        "guidance_embeds": True,
        "axes_dims_rope": [4, 4, 8],
    }
    return {
        "transformer": diffusers.FluxTransformer2DModel(**config | changes).eval(),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        "vae": vae(4),
        "text_encoder": clip(projected=False),
        "tokenizer": tokenizer(77),
        "text_encoder_2": t5(),
        "tokenizer_2": tokenizer(512),
    }


def _chroma(changes: Parts) -> Parts:
    config: Parts = {
        "patch_size": 1,
        "in_channels": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT,
        "axes_dims_rope": [4, 4, 8],
        "approximator_hidden_dim": 32,
        "approximator_layers": 1,
        "approximator_num_channels": 16,
    }
    return {
        "transformer": diffusers.ChromaTransformer2DModel(**config | changes).eval(),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "vae": vae(4),
        "text_encoder": t5(),
        "tokenizer": tokenizer(512),
    }


def _z_image(changes: Parts) -> Parts:
    config: Parts = {
        "all_patch_size": (2,),
        "all_f_patch_size": (1,),
        "in_channels": 16,
        "dim": 32,
        "n_layers": 2,
        "n_refiner_layers": 1,
        "n_heads": 2,
        "n_kv_heads": 2,
        "cap_feat_dim": TEXT,
        "axes_dims": [8, 4, 4],
        "axes_lens": [1024, 64, 64],
    }
    transformer = diffusers.ZImageTransformer2DModel(**config | changes).eval()
    for name in ("x_pad_token", "cap_pad_token"):
        torch.nn.init.normal_(transformer.get_parameter(name))
    return {
        "transformer": transformer,
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": vae(16),
        "text_encoder": Qwen3Model(_qwen3(layers=3)).eval(),
        "tokenizer": tokenizer(512),
    }


def _qwen_image(changes: Parts) -> Parts:
    config: Parts = {
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 4,
        "num_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT,
        "axes_dims_rope": (8, 4, 4),
    }
    text = {
        "hidden_size": TEXT,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": WORDS,
        "max_position_embeddings": 2048,
        "rope_scaling": {"mrope_section": [2, 3, 3], "rope_type": "default", "type": "default"},
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": TEXT}
    return {
        "transformer": diffusers.QwenImageTransformer2DModel(**config | changes).eval(),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02),
        "vae": diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2, 2, 2],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.5, 2.0, 0.7, 1.0],
        ).eval(),
        "text_encoder": Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(text_config=text, vision_config=vision)
        ).eval(),
        "tokenizer": tokenizer(2048),
    }


def _flux2(changes: Parts) -> Parts:
    config: Parts = {
        "in_channels": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 3 * TEXT,
        "timestep_guidance_channels": 32,
        "axes_dims_rope": (4, 4, 4, 4),
        "guidance_embeds": False,
    }
    autoencoder = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4, use_quant_conv=False
    ).eval()
    autoencoder.bn.running_mean.normal_()
    autoencoder.bn.running_var.uniform_(0.5, 2.0)
    return {
        "transformer": diffusers.Flux2Transformer2DModel(**config | changes).eval(),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        "vae": autoencoder,
        "text_encoder": Qwen3ForCausalLM(_qwen3(layers=28)).eval(),
        "tokenizer": tokenizer(512),
    }


def _lumina2(changes: Parts) -> Parts:
    config: Parts = {
        "in_channels": 4,
        "hidden_size": 32,
        "num_layers": 2,
        "num_refiner_layers": 1,
        "num_attention_heads": 2,
        "num_kv_heads": 1,
        "multiple_of": 16,
        "axes_dim_rope": (8, 4, 4),
        "axes_lens": (512, 64, 64),
        "cap_feat_dim": TEXT,
    }
    return {
        "transformer": diffusers.Lumina2Transformer2DModel(**config | changes).eval(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=6.0),
        "vae": vae(4),
        "text_encoder": _gemma(),
        "tokenizer": tokenizer(256),
    }


def _pixart(changes: Parts) -> Parts:
    config: Parts = {
        "sample_size": 16,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 4,
        "cross_attention_dim": 32,
        "caption_channels": TEXT,
        "use_additional_conditions": False,
    }
    return {
        "transformer": diffusers.PixArtTransformer2DModel(**config | changes).eval(),
        "scheduler": diffusers.DPMSolverMultistepScheduler(),
        "vae": vae(4, shift_factor=None),
        "text_encoder": t5(),
        "tokenizer": tokenizer(300),
    }


def _auraflow(changes: Parts) -> Parts:
    config: Parts = {
        "sample_size": 32,
        "num_mmdit_layers": 1,
        "num_single_dit_layers": 1,
        "attention_head_dim": 8,
        "num_attention_heads": 4,
        "joint_attention_dim": TEXT,
        "caption_projection_dim": 32,
        "pos_embed_max_size": 256,
    }
    return {
        "transformer": diffusers.AuraFlowTransformer2DModel(**config | changes).eval(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=1.73),
        "vae": vae(4, shift_factor=None),
        "text_encoder": UMT5EncoderModel(
            UMT5Config(vocab_size=WORDS, d_model=TEXT, d_kv=8, d_ff=37, num_layers=2, num_heads=4, pad_token_id=0)
        ).eval(),
        "tokenizer": tokenizer(256),
    }


def _sana(changes: Parts) -> Parts:
    config: Parts = {
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 1,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 16,
        "cross_attention_dim": 32,
        "caption_channels": TEXT,
        "sample_size": 8,
    }
    blocks = ("ResBlock", "ResBlock", "ResBlock")
    return {
        "transformer": diffusers.SanaTransformer2DModel(**config | changes).eval(),
        "scheduler": diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        "vae": diffusers.AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=blocks,
            decoder_block_types=blocks,
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            encoder_qkv_multiscales=((), (), ()),
            decoder_qkv_multiscales=((), (), ()),
            encoder_layers_per_block=(1, 1, 1),
            decoder_layers_per_block=(1, 1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            scaling_factor=0.41407,
        ).eval(),
        "text_encoder": _gemma(),
        "tokenizer": tokenizer(300),
    }


def _qwen3(layers: int) -> Qwen3Config:
    return Qwen3Config(
        hidden_size=TEXT,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=WORDS,
        max_position_embeddings=1024,
    )


def _gemma() -> Gemma2Model:
    return Gemma2Model(
        Gemma2Config(
            hidden_size=TEXT,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
            vocab_size=WORDS,
        )
    ).eval()


FAMILIES: dict[str, tuple[str, Callable[[Parts], Parts]]] = {
    "sd3": ("StableDiffusion3Pipeline", _sd3),
    "flux": ("FluxPipeline", _flux),
    "chroma": ("ChromaPipeline", _chroma),
    "z-image": ("ZImagePipeline", _z_image),
    "qwen-image": ("QwenImagePipeline", _qwen_image),
    "flux2": ("Flux2KleinPipeline", _flux2),
    "lumina2": ("Lumina2Pipeline", _lumina2),
    "pix-art-sigma": ("PixArtSigmaPipeline", _pixart),
    "auraflow": ("AuraFlowPipeline", _auraflow),
    "sana": ("SanaPipeline", _sana),
}
"""Class of the pipeline, and what makes its parts."""
