"""The native side of embeddings and reranking: several texts, one sequence each, computed and pooled in one call."""

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from server.core.errors import Broken, LoadFailed
from server.core.models import TextSettings
from server.engines.text.batch import Batch
from server.engines.text.native import POOLINGS, Model, reason, set_positions
from server.engines.text.native_log import LogTap
from server.engines.text.prefix import Tokens

MOST_TEXTS = 64
# Up to here the scores of all pairs of tokens take little memory. Flash attention rounds to half precision, in ways
# that depend on what else is in the call: 3e-4 in a vector of length 1 was seen.
EXACT_LENGTH = 2048

Vectors = npt.NDArray[np.float32]


class EmbeddingContext:
    """Buffers for the texts of one call: at most `MOST_TEXTS`, of `length` tokens together, which share one cache.

    A text must be computed in one piece, since pooling sees no other, so the micro-batch is as long as the context.
    `packed` is how many tokens short texts are packed to; attention computes all pairs of what is packed together.
    """

    def __init__(self, model: Model, settings: TextSettings, *, length: int, threads: int, log: LogTap) -> None:
        """Allocate the buffers.

        Raises:
            LoadFailed: llama.cpp refused these settings or found no memory for them.
        """
        self.pointer: Any = None
        self.length = length
        self.packed = min(length, settings.batch)
        texts = min(MOST_TEXTS, length, int(llama_cpp.llama_max_parallel_sequences()))
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = max(length, texts)
        params.n_seq_max = texts
        params.n_threads = params.n_threads_batch = threads
        params.embeddings = True
        params.pooling_type = int(next(number for number, name in POOLINGS.items() if name == model.pooling))
        params.kv_unified = True
        set_positions(params, settings)
        params.no_perf = True
        params.flash_attn_type = (
            llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO
            if settings.flash_attention and length > EXACT_LENGTH
            else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        pointer = llama_cpp.llama_init_from_model(model.pointer, params)
        if not pointer:
            raise LoadFailed(f"llama.cpp could not make a context: {reason(log)}")
        self.pointer = pointer
        self.texts = texts
        self.width = (
            int(llama_cpp.llama_model_n_cls_out(model.pointer))
            if model.pooling == "rank"
            else int(llama_cpp.llama_model_n_embd_out(model.pointer))
        )
        self._memory: Any = llama_cpp.llama_get_memory(pointer)
        self._batch = Batch(int(llama_cpp.llama_n_batch(pointer)))
        self._log = log

    def compute(self, texts: Sequence[Tokens]) -> Vectors:
        """Return the pooled outputs [texts, width]; blocks.

        Raises:
            Broken: llama.cpp could not compute them.
        """
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, False)
        self._batch.clear()
        for number, tokens in enumerate(texts):
            self._batch.add_prompt(number, 0, tokens, outputs=len(tokens))
        if code := int(llama_cpp.llama_decode(self.pointer, self._batch.native)):
            raise Broken(f"the model could not compute the embeddings (llama_decode gave {code}): {reason(self._log)}")
        llama_cpp.llama_synchronize(self.pointer)
        return np.stack([self._pooled(number) for number in range(len(texts))])

    def _pooled(self, number: int) -> Vectors:
        row = llama_cpp.llama_get_embeddings_seq(self.pointer, number)
        if not row:
            raise Broken("the model computed no embedding")
        buffer = ctypes.cast(row, ctypes.POINTER(ctypes.c_float * self.width)).contents
        return np.array(np.ctypeslib.as_array(buffer), np.float32)

    def close(self) -> None:
        """Free the buffers; may be called twice."""
        if self.pointer:
            llama_cpp.llama_free(self.pointer)
            self.pointer = None
