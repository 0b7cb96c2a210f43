"""Names of converted files change with the files they are made of, and only with those."""

import re

from server.core.ggml.imports import LEFTOVER, SUFFIX, converted_name, place_of

MAIN = "/models/text/ggml-model-q4_0.bin"


def test_the_name_is_of_the_files_identity() -> None:
    name = converted_name((MAIN,), 4_000, 17)
    assert name == converted_name([MAIN], 4_000, 17)
    others = [
        converted_name((MAIN,), 4_001, 17),
        converted_name((MAIN,), 4_000, 18),
        converted_name((MAIN, f"{MAIN}.1"), 4_000, 17),
        converted_name(("/models/text/other/ggml-model-q4_0.bin",), 4_000, 17),
    ]
    assert len({name, *others}) == 5
    assert all(other.startswith(place_of(MAIN)) for other in others[:3])
    assert not others[3].startswith(place_of(MAIN))


def test_names_are_plain_whatever_the_files_are_called() -> None:
    for main in ("/m/x y\u2028/../é 猫.bin", f"/m/{'x' * 250}.bin", "/m/..bin", "/m/\udcff.bin"):
        name = converted_name((main,), 1, 1)
        assert re.fullmatch(r"[A-Za-z0-9._+-]+", name) and len(name) < 200
        assert name.endswith(SUFFIX) and LEFTOVER not in name
