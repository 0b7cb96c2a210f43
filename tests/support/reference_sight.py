"""What llama.cpp's own helper for pictures makes of a prompt: the reference for the engine's."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp import mtmd_cpp
from PIL import Image

MARK = "<__media__>"


def greedy_tokens(
    model_file: Path,
    projector_file: Path,
    prompt: str,
    images: Sequence[Image.Image],
    *,
    count: int,
    context: int = 512,
) -> list[int]:
    """Return the `count` most likely tokens after a prompt in which each picture stands as `MARK`."""
    model = llama_cpp.llama_model_load_from_file(str(model_file).encode(), llama_cpp.llama_model_default_params())
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = context
    params.n_threads = params.n_threads_batch = 1
    native = llama_cpp.llama_init_from_model(model, params)
    eyes = mtmd_cpp.mtmd_init_from_file(str(projector_file).encode(), model, mtmd_cpp.mtmd_context_params_default())
    try:
        past = _evaluate(native, eyes, prompt, images)
        return _continue(native, model, past, count)
    finally:
        mtmd_cpp.mtmd_free(eyes)
        llama_cpp.llama_free(native)
        llama_cpp.llama_model_free(model)


def _evaluate(native: Any, eyes: Any, prompt: str, images: Sequence[Image.Image]) -> int:
    bitmaps = [_bitmap(image) for image in images]
    data = prompt.encode()
    text = mtmd_cpp.mtmd_input_text(text=data, text_len=len(data), add_special=True, parse_special=True)
    chunks = mtmd_cpp.mtmd_input_chunks_init()
    try:
        held = (ctypes.c_void_p * len(bitmaps))(*bitmaps)
        assert mtmd_cpp.mtmd_tokenize(eyes, chunks, ctypes.byref(text), held, len(bitmaps)) == 0
        past = llama_cpp.llama_pos(0)
        assert mtmd_cpp.mtmd_helper_eval_chunks(eyes, native, chunks, 0, 0, 512, True, ctypes.byref(past)) == 0
        return int(past.value)
    finally:
        mtmd_cpp.mtmd_input_chunks_free(chunks)
        for bitmap in bitmaps:
            mtmd_cpp.mtmd_bitmap_free(bitmap)


def _bitmap(image: Image.Image) -> Any:
    pixels = np.ascontiguousarray(image.convert("RGB"), np.uint8)
    return mtmd_cpp.mtmd_bitmap_init(image.width, image.height, pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))


def _continue(native: Any, model: Any, past: int, count: int) -> list[int]:
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    size = llama_cpp.llama_vocab_n_tokens(vocabulary)
    batch = llama_cpp.llama_batch_init(1, 0, 1)
    found: list[int] = []
    for number in range(count):
        row = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(native, -1), shape=(size,))
        found.append(int(row.argmax()))
        if llama_cpp.llama_vocab_is_eog(vocabulary, found[-1]):
            break
        batch.n_tokens = 1
        batch.token[0], batch.pos[0], batch.logits[0] = found[-1], past + number, 1
        batch.n_seq_id[0], batch.seq_id[0][0] = 1, 0
        assert llama_cpp.llama_decode(native, batch) == 0
    llama_cpp.llama_batch_free(batch)
    return found
