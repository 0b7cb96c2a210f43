"""Files that belong to a checkpoint by their name, and to a family by theirs."""

from collections.abc import Iterable
from pathlib import PurePath

from server.core.models import ModelCard


def automatic_vae(card: ModelCard, vaes: Iterable[ModelCard]) -> str | None:
    """Return the file of the VAE whose name starts with the checkpoint's stem, None when there is none.

    As A1111's `Automatic` does; among several the one beside the checkpoint comes first, then the shortest name.
    """
    stem = card.stem.casefold()
    folder = PurePath(card.files[0]).parent
    fitting = [vae for vae in vaes if vae.broken is None and PurePath(vae.files[0]).name.casefold().startswith(stem)]
    best = min(
        fitting, key=lambda vae: (PurePath(vae.files[0]).parent != folder, len(vae.name), vae.name), default=None
    )
    return best.files[0] if best is not None else None


def preview_decoder(card: ModelCard, decoders: Iterable[ModelCard]) -> str | None:
    """Return the file of the TAESD decoder for a checkpoint's latents: `taesdxl...` for SDXL, `taesd...` for SD1 and 2.

    Files named `encoder` are not what previews need.
    """
    family = card.image.family if card.image is not None else ""
    start = "taesdxl" if family.startswith("sdxl") else "taesd"
    if not family.startswith(("sd1", "sd2", "sdxl")):
        return None
    fitting = [
        decoder
        for decoder in decoders
        if decoder.broken is None and _kind(decoder) == start and "encoder" not in decoder.stem.casefold()
    ]
    best = min(fitting, key=lambda decoder: (len(decoder.name), decoder.name), default=None)
    return best.files[0] if best is not None else None


def _kind(decoder: ModelCard) -> str:
    """Return the leading word of a decoder's name, without what follows `_` or `-`."""
    return decoder.stem.casefold().replace("-", "_").split("_", 1)[0]
