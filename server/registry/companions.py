"""Files that belong to a checkpoint by their name."""

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
