"""Another VAE for one job: loaded when the job begins, given back when it ends.

So a loaded model never grows. A job that names one is reserved the room for it, and its file mostly still lies in the
page cache when the next job wants it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from server.core.errors import InvalidValue, LoadFailed
from server.engines.image.attention import settle
from server.engines.image.building import build_vae
from server.engines.image.parts import Parts
from server.engines.image.placement import release
from server.engines.image.ready_memory import ReadyMemory
from server.engines.image.tensor_files import open_tensors


@contextmanager
def with_vae(parts: Parts, path: str | None, *, allow_pickle: bool) -> Iterator[Parts]:
    """Lend the parts with the VAE of a file, a VAE's or a whole checkpoint's; None = as they are.

    Raises:
        InvalidValue: the file cannot be read or holds no VAE that fits.
    """
    if path is None:
        yield parts
        return
    place = parts.placement
    try:
        with open_tensors(Path(path), allow_pickle=allow_pickle) as tensors:
            model = build_vae(tensors, ReadyMemory().cast(place.precision.vae))
    except LoadFailed as error:
        raise InvalidValue.of("vae", f"the VAE cannot be used: {error.message}") from None
    place.seats.admit([model])
    settle(model, place)
    try:
        yield replace(parts, vae=parts.vae.of(model), vae_module=model)
    finally:
        place.seats.clear()
        del model
        release(place)
