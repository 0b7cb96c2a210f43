import json
import platform
from pathlib import Path

from compat.a1111.settings import A1111Settings
from compat.a1111.sysinfo import sysinfo
from tests.support.fake_service import FakeService


def test_facts_that_tell_nothing_of_anybody() -> None:
    text = sysinfo(A1111Settings(output_dir="/home/anna/out", models_dir="/home/anna/models"), FakeService().memory())
    told = json.loads(text)
    assert told["Version"] == "v1.10.1"
    assert told["Python"] == platform.python_version()
    assert any(line.startswith("msgspec==") for line in told["Packages"])
    assert "anna" not in text
    assert platform.node() not in text or len(platform.node()) < 4
    assert str(Path.cwd()) not in text
