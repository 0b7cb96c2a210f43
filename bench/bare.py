"""The other side: llama.cpp's decode loop with nothing around it, in a process of its own.

    python -m bench.bare MODEL CLIENTS PROMPT_TOKENS NEW_TOKENS SEED

All prompts are evaluated one after the other, then all sequences advance together; greedy. Prints one JSON line with
the figures that `bench.load.run` gives for a server, without the time that loading took.
"""

import ctypes
import json
import sys
import time
from typing import Any

import llama_cpp
import numpy as np

from bench.load import Load

BATCH = 512


def main() -> None:
    path, clients, prompt_tokens, new_tokens, seed = sys.argv[1], *map(int, sys.argv[2:6])
    load = Load(clients=clients, prompt_tokens=prompt_tokens, new_tokens=new_tokens)
    llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
    context = _context(model, load)
    print(json.dumps(_decode(model, context, load, load.prompts(seed))))


@llama_cpp.llama_log_callback
def _silent(level: int, text: bytes, data: Any) -> None:
    pass


def _context(model: Any, load: Load) -> Any:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = load.clients * (load.prompt_tokens + load.new_tokens + 8)
    params.n_batch = params.n_ubatch = BATCH
    params.n_seq_max = load.clients
    params.n_threads = params.n_threads_batch = _cores()
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
    params.kv_unified = False
    return llama_cpp.llama_init_from_model(model, params)


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0))


def _decode(model: Any, context: Any, load: Load, prompts: list[list[int]]) -> dict[str, float]:
    width = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
    began = time.perf_counter()
    last: list[int] = []
    firsts: list[float] = []
    for sequence, prompt in enumerate(prompts):
        for start in range(0, len(prompt), BATCH):
            part = prompt[start : start + BATCH]
            final = start + len(part) == len(prompt)
            _fill(batch, [(token, start + k, sequence, final and k == len(part) - 1) for k, token in enumerate(part)])
            _check(llama_cpp.llama_decode(context, batch))
        last.append(_greedy(context, -1, width))
        firsts.append(time.perf_counter() - began)
    gaps: list[float] = []
    before = time.perf_counter()
    for step in range(1, load.new_tokens):
        position = load.prompt_tokens + step - 1
        _fill(batch, [(token, position, sequence, True) for sequence, token in enumerate(last)])
        _check(llama_cpp.llama_decode(context, batch))
        last = [_greedy(context, sequence, width) for sequence in range(load.clients)]
        now = time.perf_counter()
        gaps.append(now - before)
        before = now
    took = time.perf_counter() - began
    return {
        "tokens_per_s": load.clients * load.new_tokens / took,
        "first_ms": float(np.median(firsts)) * 1000,
        "gap_ms": float(np.median(gaps)) * 1000 if gaps else 0.0,
    }


def _fill(batch: Any, rows: list[tuple[int, int, int, bool]]) -> None:
    batch.n_tokens = len(rows)
    for k, (token, position, sequence, wanted) in enumerate(rows):
        batch.token[k], batch.pos[k] = token, position
        batch.n_seq_id[k] = 1
        batch.seq_id[k][0] = sequence
        batch.logits[k] = wanted


def _greedy(context: Any, index: int, width: int) -> int:
    return int(np.argmax(np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, index), shape=(width,))))


def _check(code: int) -> None:
    if code != 0:
        raise RuntimeError(f"llama_decode gave {code}")


if __name__ == "__main__":
    main()
