"""What a GGUF header says about a text model: its figures, its quantisation, and whether it writes text at all."""

from collections import Counter
from typing import BinaryIO

from server.core.models import ModelKind, Runtime, TextFacts
from server.registry.probe.adapter import TYPE, probe_adapter
from server.registry.probe.base import BrokenModel, Finding, NotMine
from server.registry.probe.gguf import GgufHeader, read_gguf
from server.registry.probe.gguf_types import BLOCKS, FILE_TYPES
from server.registry.probe.projector import is_projector, probe_projector

CHAT_TEMPLATE = "tokenizer.chat_template"

# Architectures that make one vector of a text; the mean is what they pool to when the file does not say.
ENCODERS = frozenset(
    {
        "bert",
        "modern-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "neo-bert",
        "jina-bert-v2",
        "jina-bert-v3",
        "eurobert",
        "gemma-embedding",
        "llama-embed",
    }
)
POOLINGS = {1: "mean", 2: "cls", 3: "last", 4: "rank"}
# Architectures of GGUF files that no engine here runs by themselves.
PICTURES = frozenset(
    {
        "aura",
        "chroma",
        "cosmos",
        "flux",
        "hidream",
        "hyvid",
        "ltxv",
        "lumina2",
        "pig",
        "qwen_image",
        "sd1",
        "sd3",
        "sdxl",
        "wan",
    }
)
SOUNDS = frozenset({"wavtokenizer-dec", "whisper"})


def probe_gguf(file: BinaryIO, size: int) -> Finding:
    """Return what an open GGUF file is.

    Raises:
        NotMine: not GGUF, or GGUF of something that does not write text.
        BrokenModel: it cannot be loaded.
    """
    header = read_gguf(file, size)
    part, parts = _split(header)
    if part > 1:
        return Finding(kind=ModelKind.TEXT, text=_totals(header), part=part, parts=parts)
    architecture = header.text("general.architecture")
    _refuse_others(header, architecture)
    if is_projector(header):
        return probe_projector(header)
    if header.text("general.type") == TYPE:
        return probe_adapter(header)
    if not header.tensors and parts == 1:
        raise BrokenModel("the file holds a vocabulary but no weights")
    return Finding(
        kind=ModelKind.TEXT,
        runtime=Runtime.LLAMA_CPP,
        architecture=architecture,
        text=text_facts(header),
        metadata=_metadata(header),
        part=part,
        parts=parts,
    )


def text_facts(header: GgufHeader) -> TextFacts:
    """Return the figures of a header; where llama.cpp derives a missing one from others, so does this."""
    architecture = header.text("general.architecture")

    def figure(name: str) -> int:
        return max(0, header.integer(f"{architecture}.{name}"))

    width, heads = figure("embedding_length"), figure("attention.head_count")
    head_size = width // heads if heads else 0
    kv_key = f"{architecture}.attention.head_count_kv"
    return TextFacts(
        context_length=figure("context_length"),
        layers=figure("block_count"),
        width=width,
        heads=heads,
        kv_heads=figure("attention.head_count_kv") if header.has(kv_key) else heads,
        key_length=figure("attention.key_length") or head_size,
        value_length=figure("attention.value_length") or head_size,
        vocabulary=header.lengths.get("tokenizer.ggml.tokens", 0) or figure("vocab_size"),
        parameters=sum(tensor.elements for tensor in header.tensors),
        quantisation=_quantisation(header),
        has_chat_template=header.has(CHAT_TEMPLATE),
        pooling=_pooling(header, architecture),
    )


def _pooling(header: GgufHeader, architecture: str) -> str:
    named = POOLINGS.get(header.integer(f"{architecture}.pooling_type"), "")
    return named or ("mean" if architecture in ENCODERS or architecture.endswith("bert") else "")


def _totals(header: GgufHeader) -> TextFacts:
    return TextFacts(parameters=sum(tensor.elements for tensor in header.tensors))


def _split(header: GgufHeader) -> tuple[int, int]:
    parts = header.integer("split.count")
    if parts <= 1:
        return 1, 1
    part = header.integer("split.no") + 1
    if not 1 <= part <= parts:
        raise BrokenModel(f"the file says that it is part {part} of {parts}")
    return part, parts


def _refuse_others(header: GgufHeader, architecture: str) -> None:
    kind = header.text("general.type")
    if not architecture:
        raise BrokenModel("the header does not name an architecture")
    if kind == "imatrix" or architecture == "imatrix":
        raise NotMine("an importance matrix")
    if architecture == "t5encoder":
        raise NotMine("a text encoder (t5encoder), which is a part of image models")
    if architecture in PICTURES:
        raise NotMine(f"an image model ({architecture}) in GGUF form, which no engine here loads")
    if architecture in SOUNDS:
        raise NotMine(f"a sound model ({architecture})")


def _quantisation(header: GgufHeader) -> str:
    named = FILE_TYPES.get(header.integer("general.file_type")) if header.has("general.file_type") else None
    if named is not None:
        return named
    weights: Counter[int] = Counter()
    for tensor in header.tensors:
        weights[tensor.type] += tensor.elements
    if not weights:
        return ""
    (most, _), *_ = weights.most_common(1)
    return BLOCKS[most].name if most in BLOCKS else ""


def _metadata(header: GgufHeader) -> dict[str, str]:
    shown = {key: str(value) for key, value in header.values.items() if key.startswith("general.")}
    template = header.text(CHAT_TEMPLATE)
    return shown | {CHAT_TEMPLATE: template} if template else shown
