"""Names of files that keep slots."""

import pytest

from server.core.slots import LONGEST_NAME, is_file_name


@pytest.mark.parametrize("name", ["x.bin", "a b.bin", "chat-7", "ÄÖ.bin", "日本.slot", "x" * LONGEST_NAME])
def test_names_that_are_taken(name: str) -> None:
    assert is_file_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a..b", "x.", " x", "x ", "é" * 128, "x" * (LONGEST_NAME + 1)]
)
def test_names_of_no_file_of_their_own(name: str) -> None:
    assert not is_file_name(name)


@pytest.mark.parametrize("sign", [*'/\\:*?"<>|', "\0", "\n", "\x7f", "\x85", "\uff0e", "\u2215", "\ud800", "\ufeff"])
@pytest.mark.parametrize("form", ["{}x", "a{}b", "x{}"])
def test_signs_that_some_system_reads_otherwise(sign: str, form: str) -> None:
    assert not is_file_name(form.format(sign))
