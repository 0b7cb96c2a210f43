"""The tables of types agree with themselves and with what GGUF is known to have."""

import pytest

from server.core.ggml.types import CONTAINERS, ERAS, FILE_TYPES, GGUF, GONE, Q4_2, Q4_3, Q6_K, Q8_0, file_type, target
from server.core.ggml.types import target_size as size_of
from server.registry.probe.gguf_types import BLOCKS
from server.registry.probe.gguf_types import FILE_TYPES as GGUF_FILE_TYPES


def test_gguf_has_these_types() -> None:
    assert {code: tuple(kind) for code, kind in GGUF.items()} == {code: tuple(BLOCKS[code]) for code in GGUF}


def test_file_types_are_called_as_today() -> None:
    for number, (name, _) in FILE_TYPES.items():
        assert number in GONE or GGUF_FILE_TYPES[number] == name


def test_every_container_has_an_era() -> None:
    assert set(ERAS) == {f"{name} v{version}" if version else name for name, version in CONTAINERS}


@pytest.mark.parametrize(("name", "version"), CONTAINERS)
def test_everything_becomes_a_type_of_gguf_that_its_rows_fit(name: str, version: int) -> None:
    for code, kind in CONTAINERS[name, version].items():
        for columns in (kind.weights, 2 * kind.weights, 256, 4096):
            if columns % kind.weights == 0:
                made = GGUF[target(code, columns)]
                assert columns % made.weights == 0
                assert size_of(code, columns, 3) == 3 * columns // made.weights * made.size


def test_what_gguf_lacks() -> None:
    assert (target(Q4_2, 4096), target(Q4_2, 64), target(Q4_3, 4096)) == (Q6_K, Q8_0, Q8_0)
    assert GGUF[target(Q4_2, 16)].name == "F16"


@pytest.mark.parametrize("code", GGUF)
def test_a_file_type_is_of_the_type_that_most_weights_have(code: int) -> None:
    for header in FILE_TYPES:
        number = file_type(header, code)
        assert number not in GONE and FILE_TYPES[number][1] == code
        assert number == header or FILE_TYPES[header][1] != code or header in GONE
