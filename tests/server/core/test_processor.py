from pathlib import Path

import pytest

from server.core.processor import multiplies_bfloat16, read_cpuinfo


def cpuinfo(*flags: str) -> str:
    return "\n".join(f"processor\t: {number}\nflags\t\t: {each}\n" for number, each in enumerate(flags))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["fma avx2 avx512f avx512_bf16"] * 2, True),
        (["amx_tile amx_bf16"], True),
        (["fma avx2 avx512f"], False),
        (["avx512_bf16_not_quite"], False),
        (["avx512_bf16", "avx2"], False),
        ([], False),
    ],
    ids=["avx512", "amx", "without", "another word", "not all", "no flags"],
)
def test_bfloat16_by_flags(flags: list[str], expected: bool) -> None:
    assert multiplies_bfloat16(cpuinfo(*flags)) is expected


def test_a_name_is_no_flag() -> None:
    assert not multiplies_bfloat16("model name : amx_bf16\n")


def test_what_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_cpuinfo(tmp_path / "none") == ""
