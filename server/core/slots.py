"""Work on the cache of one slot of a text model: it is kept in a file, taken back from it, or forgotten.

Slot `k` is the cache of the newest request that asked for it by that number; where none did, the k-th of the model.
"""

from typing import Literal

import msgspec

SlotAction = Literal["save", "restore", "erase"]

SLOTS_OFF = "This server does not support slots action; set slots_dir in [text]"
"""What is told where no folder is set."""

LONGEST_NAME = 255
_REFUSED = frozenset('/\\:*?"<>|\uff0e\u2215\u2216\ufffd\ufeff')


class SlotRequest(msgspec.Struct, frozen=True, kw_only=True, tag="slot"):
    """What is to be done with slot `slot` (from 0). `filename` is a name in the folder of the model's settings.

    What holds the text of another `scope` (see ChatRequest) is left as it is: a slot counts as empty, a file as taken.
    """

    model: str
    slot: int
    action: SlotAction
    filename: str = ""
    scope: str = ""


class SlotDone(msgspec.Struct, frozen=True, kw_only=True, tag="slot_done"):
    """It is done: so many tokens were saved, restored or forgotten, so many bytes of a file written or read."""

    slot: int
    tokens: int
    bytes: int = 0
    took_ms: float = 0.0


def is_file_name(name: str) -> bool:
    """Tell whether a text can be the name of a slot's file.

    The rules are llama.cpp's (`fs_validate_filename`): not empty, at most 255 bytes, no separators nor signs that look
    like them, nothing that some system reads otherwise, no `..`. A leading dot is refused as well, for unfinished files
    have one.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return (
        0 < size <= LONGEST_NAME
        and not any(_is_control(char) or char in _REFUSED for char in name)
        and not name.startswith((".", " "))
        and not name.endswith((".", " "))
        and ".." not in name
    )


def _is_control(char: str) -> bool:
    return char < " " or "\x7f" <= char <= "\x9f"
