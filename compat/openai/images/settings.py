"""What the owner of the server may set about the picture routes."""

import msgspec

MIB = 1024**2


class ImagesSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the picture routes.

    `default_model` makes pictures for requests that name no checkpoint of ours ("" = the loaded one that was used last,
    else the first by name). A picture's URL holds for `url_s` seconds; all that URLs lead to take `url_bytes` at most.
    """

    default_model: str = ""
    url_s: float = 3600.0
    url_bytes: int = 256 * MIB
