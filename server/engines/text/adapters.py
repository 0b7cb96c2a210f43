"""The native side of LoRA adapters: they are loaded with their model, and set on its context."""

import ctypes
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp

from server.core.adapters import NO_ADAPTERS, AdapterSet
from server.core.models import Adapter, AdapterFacts
from server.engines.text.native import Context, Model, reason
from server.engines.text.native_log import LogTap

logger = logging.getLogger(__name__)


class Adapters:
    """All adapters of one model, in the order in which requests count them, and the set that acts on a context.

    The library frees them with their model, which must outlive this. One that cannot be loaded keeps its place with the
    reason, so that the others keep theirs; the model runs without it. `files` are those of the others, by place.
    """

    def __init__(self, model: Model, wanted: Sequence[str | Adapter], log: LogTap) -> None:
        """Load the files; blocks until done. Must come before a context is made of the model."""
        self.size = 0
        self.files: dict[int, Path] = {}
        self._pointers: list[Any] = []
        self._acting = NO_ADAPTERS
        listed: list[AdapterFacts] = []
        for item in wanted:
            adapter = Adapter(name=item) if isinstance(item, str) else item
            pointer, problem = _load(model, adapter, log)
            self._pointers.append(pointer)
            if problem is None:
                self.files[len(listed)] = Path(adapter.file)
                self.size += Path(adapter.file).stat().st_size
            else:
                logger.warning("the adapter %s cannot be used: %s", adapter.name, problem)
            listed.append(AdapterFacts(name=adapter.name, scale=adapter.scale, problem=problem))
        self.facts = tuple(listed)

    def act(self, context: Context, adapters: AdapterSet) -> None:
        """Let the next decodes of a context be computed under a set; nothing happens when they are already."""
        if adapters == self._acting:
            return
        count = len(adapters)
        pointers = (llama_cpp.llama_adapter_lora_p_ctypes * count)(*(self._pointers[number] for number, _ in adapters))
        scales = (ctypes.c_float * count)(*(scale for _, scale in adapters))
        llama_cpp.llama_set_adapters_lora(context.pointer, pointers, count, scales)
        self._acting = adapters


def _load(model: Model, adapter: Adapter, log: LogTap) -> tuple[Any, str | None]:
    """Return the native adapter, or why there is none."""
    if adapter.problem or not adapter.file:
        return None, adapter.problem or "no file is known for it"
    path = Path(adapter.file)
    if not path.is_file():
        return None, "its file is not there"
    log.complaints()
    pointer = llama_cpp.llama_adapter_lora_init(model.pointer, str(path).encode())
    if not pointer:
        return None, reason(log, path).removeprefix("failed to apply lora adapter: ")
    if llama_cpp.llama_adapter_get_alora_n_invocation_tokens(pointer):
        return None, "a text in the prompt switches it on (aLoRA); only adapters that always act can be used"
    return pointer, None
