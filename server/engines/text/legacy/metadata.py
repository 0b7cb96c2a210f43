"""What the header of a converted file says: figures that no old header has are told by shapes, names and dates."""

from collections.abc import Sequence

from server.core.ggml.checkpoint import Checkpoint, quantisation, training
from server.core.ggml.types import CONTAINERS, GGUF, file_type, target
from server.engines.text.legacy.gguf_file import ARRAY, BOOL, F32, I32, STRING, U32, Value
from server.engines.text.legacy.pieces import Token

QUANTISATION_VERSION = 2


def origin(checkpoint: Checkpoint) -> str:
    """Return what the file was, and what of it could not be kept: weights of the type that most of them have."""
    code = checkpoint.main_type()
    becomes = target(code, checkpoint.hyper.width)
    if becomes != code:
        kept = f"requantised to {GGUF[becomes].name}"
    elif CONTAINERS[checkpoint.container, checkpoint.version][code].size > GGUF[code].size:
        kept = "scales rounded to 16 bits"
    else:
        kept = "weights unchanged"
    return f"converted from {checkpoint.label}, {quantisation(checkpoint)}; {kept}"


def metadata(checkpoint: Checkpoint, tokens: Sequence[Token], name: str) -> dict[str, Value]:
    """Return the key-values for a model that came in a file `name`."""
    hyper = checkpoint.hyper
    trained = training(checkpoint, name)
    main = target(checkpoint.main_type(), hyper.width)
    return {
        "general.architecture": Value(STRING, "llama"),
        "general.name": Value(STRING, name.removesuffix(".bin")),
        "general.description": Value(STRING, origin(checkpoint)),
        "general.file_type": Value(U32, file_type(hyper.file_type, main)),
        "general.quantization_version": Value(U32, QUANTISATION_VERSION),
        "llama.context_length": Value(U32, trained.context),
        "llama.embedding_length": Value(U32, hyper.width),
        "llama.block_count": Value(U32, hyper.layers),
        "llama.feed_forward_length": Value(U32, checkpoint.feed_forward),
        "llama.attention.head_count": Value(U32, hyper.heads),
        "llama.attention.head_count_kv": Value(U32, checkpoint.kv_heads),
        "llama.attention.layer_norm_rms_epsilon": Value(F32, trained.epsilon),
        "llama.rope.dimension_count": Value(U32, checkpoint.head_size),
        "llama.vocab_size": Value(U32, hyper.vocabulary),
        "tokenizer.ggml.model": Value(STRING, "llama"),
        "tokenizer.ggml.tokens": Value(ARRAY, [token.text for token in tokens], STRING),
        "tokenizer.ggml.scores": Value(ARRAY, [token.score for token in tokens], F32),
        "tokenizer.ggml.token_type": Value(ARRAY, [token.kind for token in tokens], I32),
        "tokenizer.ggml.bos_token_id": Value(U32, 1),
        "tokenizer.ggml.eos_token_id": Value(U32, 2),
        "tokenizer.ggml.unknown_token_id": Value(U32, 0),
        "tokenizer.ggml.add_bos_token": Value(BOOL, True),
        "tokenizer.ggml.add_eos_token": Value(BOOL, False),
    }
