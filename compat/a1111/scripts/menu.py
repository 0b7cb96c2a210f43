"""What an axis of a plot may be set to where A1111 offers a list."""

import msgspec

from server.core.models import ModelCard


class Menu(msgspec.Struct, frozen=True, kw_only=True):
    """Names as clients see them, and the checkpoints, which have many names each."""

    checkpoints: tuple[ModelCard, ...] = ()
    upscalers: tuple[str, ...] = ()
    vaes: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
