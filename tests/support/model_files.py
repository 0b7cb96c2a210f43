"""Tiny model files for tests: true headers, written field by field, with holes where the weights would be."""

import json
import struct
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

F32, F16, Q4_0 = 0, 1, 2
_BLOCKS = {F32: (1, 4), F16: (1, 2), Q4_0: (32, 18)}
_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1}

KeyValue = bool | int | float | str | Sequence[str] | Sequence[int]
Shapes = Mapping[str, Sequence[int]]

LLAMA: dict[str, KeyValue] = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "general.file_type": 1,
    "llama.context_length": 2048,
    "llama.embedding_length": 64,
    "llama.block_count": 2,
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 4,
    "tokenizer.ggml.tokens": ["<s>", "</s>", "a", "b"],
    "tokenizer.chat_template": "{{ messages }}",
}
LLAMA_TENSORS: dict[str, tuple[Sequence[int], int]] = {
    "token_embd.weight": ((64, 4), F16),
    "blk.0.attn_q.weight": ((64, 64), F16),
    "output_norm.weight": ((64,), F32),
}


def gguf_bytes(
    kv: Mapping[str, KeyValue] = LLAMA,
    tensors: Mapping[str, tuple[Sequence[int], int]] = LLAMA_TENSORS,
    *,
    version: int = 3,
    alignment: int = 32,
) -> tuple[bytes, int]:
    """Return a GGUF header, padded to its data, and how many bytes of data follow."""
    out = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(kv))]
    for key, value in kv.items():
        out += [_text(key), _value(value)]
    offset = 0
    for name, (dims, kind) in tensors.items():
        out += [_text(name), struct.pack("<I", len(dims)), struct.pack(f"<{len(dims)}Q", *dims)]
        out.append(struct.pack("<IQ", kind, offset))
        weights, size = _BLOCKS[kind]
        offset += -(-(prod(dims) // weights * size) // alignment) * alignment
    header = b"".join(out)
    return header + bytes(-len(header) % alignment), offset


def write_gguf(
    path: Path,
    kv: Mapping[str, KeyValue] = LLAMA,
    tensors: Mapping[str, tuple[Sequence[int], int]] = LLAMA_TENSORS,
    *,
    version: int = 3,
) -> Path:
    """Write a GGUF file whose weights are a hole."""
    header, data = gguf_bytes(kv, tensors, version=version)
    return _write(path, header, data)


def safetensors_header(
    tensors: Mapping[str, tuple[str, Sequence[int]]], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, int]:
    """Return a safetensors header and how many bytes of data follow."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata is not None else {}
    at = 0
    for name, (dtype, shape) in tensors.items():
        size = prod(shape) * _BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text, at


def write_safetensors_header(
    path: Path, tensors: Mapping[str, tuple[str, Sequence[int]]], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a safetensors file whose weights are a hole."""
    header, data = safetensors_header(tensors, metadata)
    return _write(path, header, data)


def write_raw_safetensors(path: Path, header: object, data: int = 0) -> Path:
    """Write a safetensors file with any JSON as its header, or any bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return _write(path, struct.pack("<Q", len(text)) + text, data)


def typed(shapes: Shapes, dtype: str = "F16") -> dict[str, tuple[str, Sequence[int]]]:
    """Give all tensors one type."""
    return {name: (dtype, shape) for name, shape in shapes.items()}


def sd1(
    width: int = 32, context: int = 48, *, channels: int = 4, vae: bool = True, encoder: bool = True
) -> dict[str, Sequence[int]]:
    """Return some tensors of an SD1 checkpoint: first convolution, one transformer, VAE ends, one encoder layer."""
    unet = "model.diffusion_model."
    shapes: dict[str, Sequence[int]] = {
        f"{unet}input_blocks.0.0.weight": (width, channels, 3, 3),
        f"{unet}input_blocks.1.1.proj_in.weight": (width, width, 1, 1),
        f"{unet}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (width, context),
    }
    if vae:
        shapes["first_stage_model.decoder.conv_in.weight"] = (16, 4, 3, 3)
        shapes["first_stage_model.encoder.conv_in.weight"] = (16, 3, 3, 3)
    if encoder:
        shapes["cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight"] = (context, context)
    return shapes


def lora(rank: int = 4, context: int = 768) -> dict[str, Sequence[int]]:
    """Return one pair of matrices of a LoRA in kohya's naming."""
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    return {f"{layer}.lora_down.weight": (rank, context), f"{layer}.lora_up.weight": (320, rank), f"{layer}.alpha": ()}


def _write(path: Path, header: bytes, data: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + data)
    return path


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: KeyValue) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if value and isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(_text(str(item)) for item in value)
    return struct.pack("<IIQ", 9, 5, len(value)) + b"".join(struct.pack("<i", int(item)) for item in value)


def write_diffusers_folder(folder: Path) -> Path:
    """Write an SD1 model as a folder of the diffusers library, with next to no weights."""
    index = {"_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "PNDMScheduler"]}
    files = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
    for number, (part, name) in enumerate(files.items()):
        write_safetensors_header(folder / part / f"{name}.safetensors", {"x.weight": ("F16", (8 >> number,))})
        index[part] = ["some", "Class"]
    (folder / "unet" / "config.json").write_text(json.dumps({"in_channels": 4, "cross_attention_dim": 768}))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def write_flux_folder(folder: Path) -> Path:
    """Write a Flux model as a folder of the diffusers library, with next to no weights."""
    index: dict[str, object] = {"_class_name": "FluxPipeline", "scheduler": ["diffusers", "X"]}
    names = {"transformer": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
    for number, (part, name) in enumerate((names | {"text_encoder_2": "model"}).items()):
        count = (32, 8, 4, 2)[number]
        write_safetensors_header(folder / part / f"{name}.safetensors", {"x.weight": ("BF16", (count,))})
        index[part] = ["some", "Class"]
    config = {"in_channels": 64, "joint_attention_dim": 4096, "guidance_embeds": True}
    heads = {"num_attention_heads": 24, "attention_head_dim": 128}
    (folder / "transformer" / "config.json").write_text(json.dumps(config | heads))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
