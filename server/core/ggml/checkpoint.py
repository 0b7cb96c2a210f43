"""The files of one model: whether they are complete and fit together, and what the model is.

Large models of March 2023 came in parts, as the original checkpoints were split for several devices: each part has the
header, the vocabulary, all names and all one-dimensional tensors; of matrices it has some columns or some rows.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from server.core.ggml.reading import GgmlError, Hyper, Part, Record
from server.core.ggml.types import CONTAINERS, F32, FILE_TYPES, target_size
from server.core.models import TextFacts

EMBEDDINGS = "tok_embeddings.weight"
_PREFIX = re.compile(r"layers\.(\d+)\.(.+)")
_FREQUENCIES = "rope.freqs"
_LLAMA_2 = re.compile(r"llama[-_. ]?2(?!\d)", re.IGNORECASE)

_TOP = {EMBEDDINGS: "token_embd.weight", "norm.weight": "output_norm.weight", "output.weight": "output.weight"}
_LAYER = {
    "attention_norm.weight": "attn_norm.weight",
    "attention.wq.weight": "attn_q.weight",
    "attention.wk.weight": "attn_k.weight",
    "attention.wv.weight": "attn_v.weight",
    "attention.wo.weight": "attn_output.weight",
    "ffn_norm.weight": "ffn_norm.weight",
    "feed_forward.w1.weight": "ffn_gate.weight",
    "feed_forward.w2.weight": "ffn_down.weight",
    "feed_forward.w3.weight": "ffn_up.weight",
}
"""Names of 2023 and in GGUF. Rows stay where they are: GGUF's llama turns the same neighbouring pairs."""

_BY_COLUMNS = frozenset({EMBEDDINGS, "attention.wo.weight", "feed_forward.w2.weight"})


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor of the model: its name in GGUF, its whole shape, and where it lies.

    `records` has one for each part that holds some of it; `by_columns` tells that those lie side by side, not one below
    the other.
    """

    name: str
    code: int
    columns: int
    rows: int
    flat: bool
    by_columns: bool
    records: tuple[Record, ...]


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A whole model. `kv_heads` and `feed_forward` are told by shapes; no header has them."""

    label: str
    container: str
    version: int
    hyper: Hyper
    kv_heads: int
    feed_forward: int
    tensors: tuple[Tensor, ...]

    @property
    def head_size(self) -> int:
        """Return the width of a head."""
        return self.hyper.width // self.hyper.heads

    def main_type(self) -> int:
        """Return the type code that most weights have."""
        weights: Counter[int] = Counter()
        for tensor in self.tensors:
            weights[tensor.code] += tensor.columns * tensor.rows
        return weights.most_common(1)[0][0]

    def weights_size(self) -> int:
        """Return the bytes that the weights take once they are converted."""
        return sum(target_size(tensor.code, tensor.columns, tensor.rows) for tensor in self.tensors)


class Training(msgspec.Struct, frozen=True):
    """What no header says: how long texts were in training, and the epsilon of the norms."""

    context: int
    epsilon: float


def parts_of(first: Part) -> int:
    """Return in how many files the model lies whose first this is; the width of its embeddings tells."""
    record = next((record for record in first.records if record.name == EMBEDDINGS), None)
    if record is None:
        raise GgmlError(f"it lacks the tensor {EMBEDDINGS!r}: it is no llama model, or cut short")
    if first.hyper.width % record.columns:
        raise GgmlError(f"the tensor {EMBEDDINGS!r} has {record.columns} columns, the model {first.hyper.width}")
    return first.hyper.width // record.columns


def assemble(parts: Sequence[Part]) -> Checkpoint:
    """Return the model that these files hold, in their order.

    Raises:
        GgmlError: something is missing, contradicts the header, or the parts are not of one model.
    """
    first = parts[0]
    for number, part in enumerate(parts[1:], start=1):
        if not _are_of_one_model(first, part):
            raise GgmlError(f"part {number} is not of the same model as the first")
    tables = [{record.name: record for record in part.records} for part in parts]
    tensors = tuple(_tensors(first, tables))
    shapes = {tensor.name: tensor for tensor in tensors}
    missing = [name for name in _expected(first.hyper.layers) if name not in tables[0]]
    if missing:
        raise GgmlError(f"{len(missing)} of its tensors are missing, {missing[0]!r} first; is the file cut short?")
    hyper = first.hyper
    feed_forward = shapes["blk.0.ffn_gate.weight"].rows
    kv_rows = shapes["blk.0.attn_k.weight"].rows
    head_size = hyper.width // hyper.heads
    if kv_rows % head_size or not 0 < kv_rows <= hyper.width or hyper.heads % (kv_rows // head_size):
        raise GgmlError(f"keys of {kv_rows} values cannot be shared by {hyper.heads} heads of {head_size}")
    _check_shapes(tensors, hyper, feed_forward, kv_rows)
    return Checkpoint(
        label=first.label,
        container=first.container,
        version=first.version,
        hyper=hyper,
        kv_heads=kv_rows // head_size,
        feed_forward=feed_forward,
        tensors=tensors,
    )


def training(checkpoint: Checkpoint, name: str) -> Training:
    """Return what is known of how the model of a file `name` was trained.

    LLaMA used an epsilon of 1e-6 and texts of 2048 tokens, Llama 2 (18 July 2023, so in ggjt v3 alone) 1e-5 and 4096.
    Which one a file holds can only be seen by its shared keys or its name.
    """
    grouped = checkpoint.kv_heads < checkpoint.hyper.heads
    if checkpoint.version == 3 and (grouped or _LLAMA_2.search(name) is not None):
        return Training(4096, 1e-5)
    return Training(2048, 1e-6)


def facts(checkpoint: Checkpoint, name: str) -> TextFacts:
    """Return the figures of the model in a file `name`."""
    hyper = checkpoint.hyper
    return TextFacts(
        context_length=training(checkpoint, name).context,
        layers=hyper.layers,
        width=hyper.width,
        heads=hyper.heads,
        kv_heads=checkpoint.kv_heads,
        key_length=checkpoint.head_size,
        value_length=checkpoint.head_size,
        vocabulary=hyper.vocabulary,
        parameters=sum(tensor.columns * tensor.rows for tensor in checkpoint.tensors),
        quantisation=quantisation(checkpoint),
        container=checkpoint.label,
        weights=checkpoint.weights_size(),
    )


def quantisation(checkpoint: Checkpoint) -> str:
    """Return what the file's quantisation is called: as the header says where that is true."""
    name, main = FILE_TYPES[checkpoint.hyper.file_type]
    most = checkpoint.main_type()
    return name if most == main else CONTAINERS[checkpoint.container, checkpoint.version][most].name


def _are_of_one_model(first: Part, other: Part) -> bool:
    return (first.container, first.version, first.hyper, first.pieces) == (
        other.container,
        other.version,
        other.hyper,
        other.pieces,
    )


def _tensors(first: Part, tables: Sequence[Mapping[str, Record]]) -> Iterator[Tensor]:
    for record in first.records:
        if _FREQUENCIES in record.name:
            continue
        name = _gguf_name(record.name, first.hyper.layers)
        records = tuple(_alike(record, table, number) for number, table in enumerate(tables))
        flat = record.name in first.flat
        if flat and record.code != F32:
            raise GgmlError(f"the tensor {record.name!r} has one dimension and is not in float32")
        by_columns = _is_split_by_columns(record.name)
        count = 1 if flat else len(tables)
        yield Tensor(
            name=name,
            code=record.code,
            columns=record.columns * (count if by_columns else 1),
            rows=record.rows * (1 if by_columns else count),
            flat=flat,
            by_columns=by_columns,
            records=records[:count],
        )


def _gguf_name(name: str, layers: int) -> str:
    top = _TOP.get(name)
    if top is not None:
        return top
    found = _PREFIX.fullmatch(name)
    inner = _LAYER.get(found[2]) if found else None
    if found is None or inner is None:
        raise GgmlError(f"it has a tensor {name[:80]!r}, which no llama model has")
    if int(found[1]) >= layers:
        raise GgmlError(f"it has a tensor {name[:80]!r}, and only {layers} layers")
    return f"blk.{int(found[1])}.{inner}"


def _is_split_by_columns(name: str) -> bool:
    found = _PREFIX.fullmatch(name)
    return (found[2] if found else name) in _BY_COLUMNS


def _alike(record: Record, table: Mapping[str, Record], number: int) -> Record:
    other = table.get(record.name)
    if other is None:
        raise GgmlError(f"part {number} lacks the tensor {record.name!r}")
    if (other.code, other.columns, other.rows) != (record.code, record.columns, record.rows):
        raise GgmlError(f"the tensor {record.name!r} of part {number} has another type or shape than that of the first")
    return other


def _expected(layers: int) -> Iterator[str]:
    yield from _TOP
    for layer in range(layers):
        for inner in _LAYER:
            yield f"layers.{layer}.{inner}"


def _check_shapes(tensors: Iterable[Tensor], hyper: Hyper, feed_forward: int, kv_rows: int) -> None:
    width = hyper.width
    wide = {
        "token_embd.weight": (width, hyper.vocabulary),
        "output.weight": (width, hyper.vocabulary),
        "attn_q.weight": (width, width),
        "attn_k.weight": (width, kv_rows),
        "attn_v.weight": (width, kv_rows),
        "attn_output.weight": (width, width),
        "ffn_gate.weight": (width, feed_forward),
        "ffn_up.weight": (width, feed_forward),
        "ffn_down.weight": (feed_forward, width),
    }
    for tensor in tensors:
        inner = tensor.name.split(".", 2)[2] if tensor.name.startswith("blk.") else tensor.name
        shape = wide.get(inner, (width, 1))
        if (tensor.columns, tensor.rows) != shape or tensor.flat is (inner in wide):
            got = f"{tensor.columns} x {tensor.rows}"
            raise GgmlError(f"the tensor {tensor.name!r} has the shape {got}, not {shape[0]} x {shape[1]}")
