"""What a GGUF header says about a LoRA adapter for a text model.

An adapter names the architecture it was made for, and has for each matrix of the model that it changes two narrow ones,
`NAME.lora_a` [rank, columns] and `NAME.lora_b` [rows, rank] (a record lists the row length first). What is checked is
what the native loader would trust, and what it could not compute with.
"""

import re
from collections.abc import Iterator

from server.core.models import ModelKind, TextFacts
from server.registry.probe.base import Finding, NotMine
from server.registry.probe.gguf import GgufHeader, GgufTensor
from server.registry.probe.gguf_types import BLOCKS

TYPE = "adapter"
ALPHA = "adapter.lora.alpha"
RANK = "adapter.lora.rank"
INVOCATION = "adapter.alora.invocation_tokens"

_BLOCK = re.compile(r"^blk\.(\d+)\.")
_FROM_WIDTH = re.compile(r"\.(attn_q|attn_k|attn_v|attn_qkv|ffn_up|ffn_gate)\.weight\.lora_a$")
_TO_WIDTH = re.compile(r"\.(attn_output|ffn_down)\.weight\.lora_b$")
_WHOLE_NUMBERS = frozenset({"I8", "I16", "I32", "I64"})
_DOUBLE = "F64"


def probe_adapter(header: GgufHeader) -> Finding:
    """Return what a header of the type `adapter` is; raise NotMine when it is no LoRA."""
    kind = header.text("adapter.type")
    if kind != "lora":
        raise NotMine(f"an adapter of the type {kind[:40]!r} for a text model")
    return Finding(
        kind=ModelKind.TEXT_LORA,
        architecture=header.text("general.architecture"),
        text=_facts(header),
        metadata=_metadata(header),
        broken=next(_complaints(header), None),
    )


def _facts(header: GgufHeader) -> TextFacts:
    """Return the width and the fewest layers of a model that this fits, as far as the names of tensors tell."""
    width, layers = 0, 0
    for tensor in header.tensors:
        if block := _BLOCK.match(tensor.name):
            layers = max(layers, int(block[1]) + 1)
        if _FROM_WIDTH.search(tensor.name):
            width = tensor.dims[0]
        elif _TO_WIDTH.search(tensor.name) and len(tensor.dims) > 1:
            width = tensor.dims[1]
    parameters = sum(tensor.elements for tensor in header.tensors)
    return TextFacts(width=width, layers=layers, parameters=parameters)


def _metadata(header: GgufHeader) -> dict[str, str]:
    shown = {key: str(value) for key, value in header.values.items() if key.startswith("general.")}
    rank = next((tensor.dims[1] for tensor in header.tensors if _is_narrow(tensor)), 0)
    return shown | {ALPHA: str(header.values.get(ALPHA, "")), RANK: str(rank)}


def _is_narrow(tensor: GgufTensor) -> bool:
    return tensor.name.endswith(".weight.lora_a") and len(tensor.dims) > 1


def _complaints(header: GgufHeader) -> Iterator[str]:
    if not isinstance(header.values.get(ALPHA, 0.0), float):
        yield f"{ALPHA} is no number with a fraction"
    if header.has(INVOCATION):
        yield "an adapter that a text in the prompt switches on (aLoRA); only those that always act are loaded"
    if not header.tensors:
        yield "the adapter holds no tensors"
    names = {tensor.name for tensor in header.tensors}
    for tensor in header.tensors:
        yield from _complaint(tensor, names)


def _complaint(tensor: GgufTensor, names: set[str]) -> Iterator[str]:
    base, _, half = tensor.name.rpartition(".lora_")
    block = BLOCKS.get(tensor.type)
    if block is None or block.name in _WHOLE_NUMBERS or block.name == _DOUBLE:
        yield f"the tensor {tensor.name[:80]!r} has a type that adapters cannot have"
    if half in ("a", "b") and f"{base}.lora_{'b' if half == 'a' else 'a'}" not in names:
        yield f"of the tensor {base[:80]!r} one half is missing"
    if half not in ("a", "b") and not tensor.name.endswith("_norm.weight"):
        yield f"the tensor {tensor.name[:80]!r} is no part of a LoRA"
