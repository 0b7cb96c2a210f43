"""How weights are stored in the containers of 2023, by the type codes of their tensor records, and in GGUF."""

from typing import NamedTuple

F32, F16, Q4_0, Q4_1, Q4_2, Q4_3, Q5_0, Q5_1, Q8_0, Q6_K = 0, 1, 2, 3, 4, 5, 6, 7, 8, 14


class Kind(NamedTuple):
    """A storage type: `weights` of them lie in `size` bytes."""

    name: str
    weights: int
    size: int


GGUF: dict[int, Kind] = {
    F32: Kind("F32", 1, 4),
    F16: Kind("F16", 1, 2),
    Q4_0: Kind("Q4_0", 32, 18),
    Q4_1: Kind("Q4_1", 32, 20),
    Q5_0: Kind("Q5_0", 32, 22),
    Q5_1: Kind("Q5_1", 32, 24),
    Q8_0: Kind("Q8_0", 32, 34),
    10: Kind("Q2_K", 256, 84),
    11: Kind("Q3_K", 256, 110),
    12: Kind("Q4_K", 256, 144),
    13: Kind("Q5_K", 256, 176),
    Q6_K: Kind("Q6_K", 256, 210),
}
"""The types that GGUF has under the same codes; ggjt v3 stores them byte for byte alike."""

_WHOLE = {code: GGUF[code] for code in (F32, F16)}
_WIDE_SCALES = {Q4_0: Kind("Q4_0", 32, 20), Q4_1: Kind("Q4_1", 32, 24)}
_FIRST = _WHOLE | _WIDE_SCALES
_V2 = _FIRST | {Q5_0: GGUF[Q5_0], Q5_1: GGUF[Q5_1], Q8_0: Kind("Q8_0", 32, 36)}
_V1 = _V2 | {Q4_2: Kind("Q4_2", 16, 10), Q4_3: Kind("Q4_3", 16, 12)}

CONTAINERS: dict[tuple[str, int], dict[int, Kind]] = {
    ("ggml", 0): _FIRST,
    ("ggmf", 1): _FIRST,
    ("ggjt", 1): _V1,
    ("ggjt", 2): _V2,
    ("ggjt", 3): GGUF,
}
"""What each container (its name and version) holds."""

ERAS: dict[str, str] = {
    "ggml": "March 2023",
    "ggmf v1": "March 2023",
    "ggjt v1": "April 2023",
    "ggjt v2": "May 2023",
    "ggjt v3": "May to August 2023",
}
"""When files in a container were made."""

FILE_TYPES: dict[int, tuple[str, int]] = {
    0: ("F32", F32),
    1: ("F16", F16),
    2: ("Q4_0", Q4_0),
    3: ("Q4_1", Q4_1),
    4: ("Q4_1", Q4_1),
    5: ("Q4_2", Q4_2),
    6: ("Q4_3", Q4_3),
    7: ("Q8_0", Q8_0),
    8: ("Q5_0", Q5_0),
    9: ("Q5_1", Q5_1),
    10: ("Q2_K", 10),
    11: ("Q3_K_S", 11),
    12: ("Q3_K_M", 11),
    13: ("Q3_K_L", 11),
    14: ("Q4_K_S", 12),
    15: ("Q4_K_M", 12),
    16: ("Q5_K_S", 13),
    17: ("Q5_K_M", 13),
    18: ("Q6_K", Q6_K),
}
"""The file types of a header: their names and the code that most of their tensors have."""

GONE = frozenset({4, 5, 6})
"""File types that GGUF does not have."""


def target(code: int, columns: int) -> int:
    """Return the type that weights of this one become in GGUF, in rows of so many.

    Two types have no twin there: blocks of 16 weights with 4 bits. Q4_2 fits into Q6_K almost exactly; Q4_3, and Q4_2
    in rows that are no multiple of 256, become Q8_0. Their own loss is more than ten times what that adds.
    """
    if code not in (Q4_2, Q4_3):
        return code
    if code == Q4_2 and columns % GGUF[Q6_K].weights == 0:
        return Q6_K
    return Q8_0 if columns % GGUF[Q8_0].weights == 0 else F16


def target_size(code: int, columns: int, rows: int) -> int:
    """Return the bytes of such a tensor in GGUF."""
    kind = GGUF[target(code, columns)]
    return columns // kind.weights * kind.size * rows


def file_type(header: int, code: int) -> int:
    """Return GGUF's number for a file most of whose weights have the GGUF type `code`; `header` is the old file's."""
    if header not in GONE and header in FILE_TYPES and FILE_TYPES[header][1] == code:
        return header
    # Of several with one main code (Q4_K_S, Q4_K_M) the one that mixes most usually.
    usual = {11: 12, 12: 15, 13: 17}
    return usual.get(code) or next(number for number, (_, main) in FILE_TYPES.items() if main == code)
