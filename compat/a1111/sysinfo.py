"""`/internal/sysinfo`: what people paste into bug reports.

The facts tell nothing of the machine's owner: no paths, no environment, no options, no names of hosts.
"""

import json
import os
import platform
from importlib import metadata
from typing import Final

from compat.a1111.settings import A1111Settings
from server.core.memory import readable
from server.service.service import MemoryView

PACKAGES: Final = (
    *("torch", "torchvision", "diffusers", "transformers", "safetensors", "numpy", "pillow", "spandrel"),
    *("llama_cpp_python", "litestar", "msgspec", "uvicorn"),
)
"""Packages whose versions matter. None of them is imported for that."""


def sysinfo(settings: A1111Settings, memory: MemoryView) -> str:
    """Return the text, JSON with A1111's keys as far as they can be filled."""
    used = max(memory.ram_total - memory.ram_free, 0)
    facts = {
        "Platform": f"{platform.system()}-{platform.machine()}",
        "Python": platform.python_version(),
        "Version": settings.version,
        "CPU": {"model": platform.processor() or platform.machine(), "count logical": os.cpu_count() or 0},
        "RAM": {"total": readable(memory.ram_total), "used": readable(used), "free": readable(memory.ram_free)},
        "Exceptions": [],
        "Extensions": [],
        "Inactive extensions": [],
        "Packages": [f"{name}=={version}" for name in PACKAGES if (version := _version(name)) is not None],
    }
    return json.dumps(facts, indent=4)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
