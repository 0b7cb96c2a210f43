"""Owners of llama.cpp's model and context: each native object belongs to one Python object and is freed once.

Nothing here knows of requests. Pointers never leave this module but through the methods.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from server.core.errors import LoadFailed
from server.core.models import TextSettings
from server.core.text_settings import kv_types
from server.engines.text.batch import SCORED_ROWS, Batch, Computable
from server.engines.text.native_log import LogTap

_KV_TYPES = {
    "f32": llama_cpp.GGML_TYPE_F32,
    "f16": llama_cpp.GGML_TYPE_F16,
    "bf16": 30,  # ggml's number; the binding has no name for it
    "q8_0": llama_cpp.GGML_TYPE_Q8_0,
    "q5_1": llama_cpp.GGML_TYPE_Q5_1,
    "q5_0": llama_cpp.GGML_TYPE_Q5_0,
    "q4_1": llama_cpp.GGML_TYPE_Q4_1,
    "q4_0": llama_cpp.GGML_TYPE_Q4_0,
    "iq4_nl": llama_cpp.GGML_TYPE_IQ4_NL,
}


_SPLIT_MODES = {
    "none": llama_cpp.LLAMA_SPLIT_MODE_NONE,
    "layer": llama_cpp.LLAMA_SPLIT_MODE_LAYER,
    "row": llama_cpp.LLAMA_SPLIT_MODE_ROW,
    "tensor": llama_cpp.LLAMA_SPLIT_MODE_TENSOR,
}
_ROPE_SCALINGS = {
    "": llama_cpp.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED,
    "none": llama_cpp.LLAMA_ROPE_SCALING_TYPE_NONE,
    "linear": llama_cpp.LLAMA_ROPE_SCALING_TYPE_LINEAR,
    "yarn": llama_cpp.LLAMA_ROPE_SCALING_TYPE_YARN,
    "longrope": llama_cpp.LLAMA_ROPE_SCALING_TYPE_LONGROPE,
}
POOLINGS = {"1": "mean", "2": "cls", "3": "last", "4": "rank"}
_LONGEST_VALUE = 256


class Model:
    """A loaded GGUF file. `pointer` is for the owners of what is made from it."""

    def __init__(
        self,
        path: Path,
        settings: TextSettings,
        report: Callable[[float], None],
        log: LogTap,
        *,
        architecture: str = "",
    ) -> None:
        """Load the weights; blocks until done. `architecture` is needed where settings replace what the file says.

        Raises:
            LoadFailed: llama.cpp refused the file; the message has its own words.
        """
        self.pointer: Any = None
        progress = _Progress(report)
        params = llama_cpp.llama_model_default_params()
        shares = _tensor_split(settings)
        replaced = _replaced(settings, architecture)
        params.n_gpu_layers = settings.gpu_layers
        params.split_mode = _SPLIT_MODES[settings.split_mode]
        params.main_gpu = settings.main_gpu
        params.tensor_split = shares
        params.kv_overrides = replaced
        if settings.use_mlock or not settings.use_mmap:
            params.load_mode = _load_mode(settings)
        params.progress_callback = callback = llama_cpp.llama_progress_callback(progress)
        pointer = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        del callback
        if progress.error is not None:
            if pointer:
                llama_cpp.llama_model_free(pointer)
            raise progress.error
        if not pointer:
            raise LoadFailed(f"llama.cpp could not load {path.name!r}: {reason(log, path)}")
        self.pointer = pointer
        self.context_trained = int(llama_cpp.llama_model_n_ctx_train(pointer))
        self.size = int(llama_cpp.llama_model_size(pointer))
        self.is_decoder = bool(
            llama_cpp.llama_model_has_decoder(pointer) and not llama_cpp.llama_model_has_encoder(pointer)
        )

    @property
    def file_type(self) -> str:
        """Return the quantisation's name as llama.cpp writes it, such as `Q4_K - Medium`."""
        name = llama_cpp.llama_ftype_name(llama_cpp.llama_model_ftype(self.pointer))
        return name.decode("utf-8", "replace") if name else ""

    @property
    def pooling(self) -> str:
        """Return how the model makes one vector of a text: a value of `POOLINGS`, empty when it writes text.

        A model that looks at a text both ways and does not say is taken to want the mean.
        """
        architecture = self.metadata("general.architecture")
        named = POOLINGS.get(self.metadata(f"{architecture}.pooling_type"), "")
        if not named and self.metadata(f"{architecture}.attention.causal") == "false":
            return "mean"
        return named

    def metadata(self, key: str) -> str:
        """Return a short value of the file's header as text, empty when there is none."""
        buffer = ctypes.create_string_buffer(_LONGEST_VALUE)
        count = llama_cpp.llama_model_meta_val_str(self.pointer, key.encode(), buffer, _LONGEST_VALUE)
        return buffer.value.decode("utf-8", "replace") if count >= 0 else ""

    def chat_template(self, name: str | None = None) -> str | None:
        """Return a template in the file's metadata, the one for chats without a name; None when there is none."""
        source = llama_cpp.llama_model_chat_template(self.pointer, None if name is None else name.encode())
        return source.decode("utf-8", "replace") if source else None

    def close(self) -> None:
        """Free the weights; may be called twice. Contexts must be closed before."""
        if self.pointer:
            llama_cpp.llama_model_free(self.pointer)
            self.pointer = None


class Context:
    """The caches of all sequences and the buffers of one computation.

    Every sequence has a stream of its own in the cache, which keeps unrelated sequences from paying for each other.
    `can_cut` tells whether it can forget the end of a text and keep the rest; known after `try_out`.
    """

    def __init__(
        self, model: Model, settings: TextSettings, *, context: int, threads: int, log: LogTap, at_once: int = 0
    ) -> None:
        """Allocate room for `settings.slots` sequences of `context` tokens, and to compute `at_once` in any case.

        Raises:
            LoadFailed: llama.cpp refused these settings or found no memory for them.
        """
        self.pointer: Any = None
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = context * settings.slots
        params.n_seq_max = settings.slots
        params.n_batch = params.n_ubatch = max(settings.batch, settings.slots, at_once)
        # A row of logits per sequence, and some for prompts that are scored; one per token would reserve n_batch rows.
        params.n_outputs_max = min(params.n_batch, settings.slots + SCORED_ROWS)
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = (
            llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO
            if settings.flash_attention
            else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        params.type_k, params.type_v = map(kv_type, kv_types(settings))
        set_positions(params, settings)
        params.kv_unified = False
        params.swa_full = True  # what layers with a window no longer look at is needed again when a text is cut
        params.no_perf = True
        pointer = llama_cpp.llama_init_from_model(model.pointer, params)
        if not pointer:
            raise LoadFailed(f"llama.cpp could not make a context: {reason(log)}")
        self.pointer = pointer
        self._memory: Any = llama_cpp.llama_get_memory(pointer)
        self._width = int(llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model.pointer)))
        self._rows: npt.NDArray[np.float32] = np.zeros((0, self._width), np.float32)
        self._rows_at = 0
        self.batch_size = int(llama_cpp.llama_n_batch(pointer))
        self.rows = int(params.n_outputs_max)
        self.can_cut = False
        self.length = int(llama_cpp.llama_n_ctx_seq(pointer))

    @property
    def has_memory(self) -> bool:
        """Tell whether the model keeps a cache at all; encoders do not."""
        return bool(self._memory)

    def decode(self, batch: Computable) -> int:
        """Compute the batch; blocks. Return 0, 1 when the cache has no room, or another code for a failure."""
        return int(llama_cpp.llama_decode(self.pointer, batch.native))

    def decode_whole(self, batch: Computable) -> int:
        """Compute a batch whose places look at each other, both ways; blocks, returns as `decode`."""
        llama_cpp.llama_set_causal_attn(self.pointer, False)
        try:
            return self.decode(batch)
        finally:
            llama_cpp.llama_set_causal_attn(self.pointer, True)

    def try_out(self, token: int) -> int:
        """Compute a token twice and take the second back; blocks, returns as `decode`. Leaves nothing behind.

        States as recurrent models have them know nothing of how they were a token ago, and architectures with such
        layers are many; so it is tried, not looked up.
        """
        batch = Batch(1)
        for position in range(2):
            batch.set_next([0], [position], [token])
            if code := self.decode(batch):
                return code
        self.synchronise()
        self.can_cut = self.trim(0, 1)
        self.clear()
        return 0

    def synchronise(self) -> None:
        """Wait until the last batch is computed; accelerators work on after `decode` has returned."""
        llama_cpp.llama_synchronize(self.pointer)

    def logits(self, count: int) -> npt.NDArray[np.float32]:
        """Return the logits [count, vocabulary] of the last batch's outputs, in the order of the batch.

        It is a view of the library's buffer: valid until the next `decode`, and free to be changed.
        """
        address = ctypes.cast(llama_cpp.llama_get_logits(self.pointer), ctypes.c_void_p).value or 0
        if address != self._rows_at or count > len(self._rows):
            buffer = (ctypes.c_float * (count * self._width)).from_address(address)
            self._rows = np.ctypeslib.as_array(buffer).reshape(count, self._width)
            self._rows_at = address
        return self._rows[:count]

    def copy(self, source: int, target: int) -> None:
        """Make the cache of `target` equal to that of `source`. Streams are only copied whole; trim it afterwards."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def trim(self, sequence: int, length: int) -> bool:
        """Forget everything of a sequence from position `length` on; False when the model cannot forget a part."""
        return bool(llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1))

    def save(self, sequence: int, tokens: npt.NDArray[np.int32], path: str) -> int:
        """Write a sequence's cache and the tokens [n] it stands for to a file; return its bytes, 0 when that failed."""
        ids = np.ascontiguousarray(tokens, np.int32)
        return int(llama_cpp.llama_state_seq_save_file(self.pointer, path.encode(), sequence, _ids(ids), len(ids)))

    def restore(self, sequence: int, path: str, room: int) -> npt.NDArray[np.int32] | None:
        """Take a sequence's cache from such a file; return the tokens [n <= `room`] it stands for, None if refused.

        What the sequence held before is lost in any case. The library trusts the file: a damaged one may end the
        process.
        """
        ids = np.zeros(max(1, room), np.int32)
        count = ctypes.c_size_t()
        read = llama_cpp.llama_state_seq_load_file(
            self.pointer, path.encode(), sequence, _ids(ids), room, ctypes.byref(count)
        )
        return ids[: count.value].copy() if read else None

    def clear(self) -> None:
        """Forget all sequences."""
        llama_cpp.llama_memory_clear(self._memory, True)

    def close(self) -> None:
        """Free the caches; may be called twice."""
        if self.pointer:
            self._rows = np.zeros((0, self._width), np.float32)
            llama_cpp.llama_free(self.pointer)
            self.pointer = None


def set_positions(params: Any, settings: TextSettings) -> None:
    """Put how positions are encoded into a context's parameters; 0 there means what the file says."""
    params.rope_scaling_type = _ROPE_SCALINGS[settings.rope_scaling]
    params.rope_freq_base = settings.rope_frequency_base
    params.rope_freq_scale = settings.rope_frequency_scale
    params.yarn_orig_ctx = settings.yarn_original_context


def _ids(tokens: npt.NDArray[np.int32]) -> Any:
    return tokens.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token))


def _load_mode(settings: TextSettings) -> int:
    if settings.use_mlock:
        return llama_cpp.LLAMA_LOAD_MODE_MMAP_MLOCK if settings.use_mmap else llama_cpp.LLAMA_LOAD_MODE_MLOCK
    return llama_cpp.LLAMA_LOAD_MODE_NONE


def _tensor_split(settings: TextSettings) -> Any:
    """Return the shares as the library wants them: one for each device that it could have; None for its own choice."""
    if not settings.tensor_split:
        return None
    count = max(int(llama_cpp.llama_max_devices()), len(settings.tensor_split))
    return (ctypes.c_float * count)(*settings.tensor_split)


def _replaced(settings: TextSettings, architecture: str) -> Any:
    """Return what settings say in place of the file's header, ended by an empty entry; None when they say nothing."""
    if not settings.norm_epsilon or not architecture:
        return None
    entries = (llama_cpp.llama_model_kv_override * 2)()
    entries[0].key = f"{architecture}.attention.layer_norm_rms_epsilon".encode()
    entries[0].tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_FLOAT
    entries[0].value.val_f64 = settings.norm_epsilon
    return entries


def kv_type(name: str) -> int:
    """Return ggml's number for a cache type such as `f16` or `q8_0`; raise LoadFailed for an unknown one."""
    try:
        return int(_KV_TYPES[name])
    except KeyError:
        raise LoadFailed(f"kv_type {name!r} is not one of {', '.join(_KV_TYPES)}") from None


class _Progress:
    """The library's progress callback: passes on whole percents, stops the load when the listener fails."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self._percent = -1
        self.error: Exception | None = None

    def __call__(self, fraction: float, _: object) -> bool:
        if int(fraction * 100) != self._percent:
            self._percent = int(fraction * 100)
            try:
                self._report(fraction)
            except Exception as error:  # an exception cannot pass through C; it is raised again after the load
                self.error = error
                return False
        return True


def reason(log: LogTap, path: Path | None = None) -> str:
    """Return what the library complained of, without the path of a file."""
    lines = log.complaints()
    text = lines[0] if lines else "it gave no reason"
    return text.replace(str(path), path.name) if path is not None else text
