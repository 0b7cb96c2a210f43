import pytest

from compat.a1111.cmd_flags import flags
from compat.a1111.settings import A1111Settings
from tests.support.shared import golden, needs_shared


def test_settings_show() -> None:
    settings = A1111Settings(models_dir="/m", listen=True, port=1, styles_files=("a.csv",), max_batches=3)
    shown = flags(settings)
    assert (shown["models_dir"], shown["lora_dir"], shown["listen"], shown["port"]) == ("/m", "/m/Lora", True, "1")
    assert (shown["styles_file"], shown["max_batch_count"]) == (["a.csv"], 3)
    assert flags(A1111Settings())["lora_dir"] == "models/Lora"


@needs_shared
@pytest.mark.golden
def test_all_flags_of_the_original_are_there_in_their_types() -> None:
    ours, theirs = flags(A1111Settings()), golden("a1111-get/get-cmd-flags.json")["body"]
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value is None or theirs[name] is None or type(value) is type(theirs[name]), name
