import pytest

from compat.a1111.checkpoints import find, model_name, short_hash, title
from server.core.models import ModelKind
from tests.compat.a1111.asked import part

SHA = "bcb9e564ddf46e31" + "0" * 48
HASHED = part("sub/deliberate_v2.safetensors", ModelKind.CHECKPOINT, sha256=SHA, aliases=("mine", "9aba26abdf"))
PLAIN = part("tiny.ckpt", ModelKind.CHECKPOINT)


def test_names() -> None:
    assert title(HASHED) == "sub/deliberate_v2.safetensors [bcb9e564dd]"
    assert title(PLAIN) == "tiny.ckpt"
    assert model_name(HASHED) == "sub_deliberate_v2"
    assert (short_hash(HASHED), short_hash(PLAIN)) == ("bcb9e564dd", None)


@pytest.mark.parametrize(
    "name",
    [
        "sub/deliberate_v2.safetensors [bcb9e564dd]",
        "sub/deliberate_v2.safetensors",
        "sub_deliberate_v2",
        "deliberate_v2",
        "deliberate_v2 [bcb9e564dd]",
        "bcb9e564dd",
        SHA,
        "mine",
        "9aba26abdf",
        "sub/deliberate_v2.safetensors [0123456789]",
    ],
)
def test_a_checkpoint_has_many_names(name: str) -> None:
    assert find(name, [PLAIN, HASHED]) is HASHED


@pytest.mark.parametrize("name", ["", "Tiny", "tiny.safetensors", "deliberate", " [bcb9e564dd]"])
def test_other_names_find_nothing(name: str) -> None:
    assert find(name, [PLAIN, HASHED]) is None
