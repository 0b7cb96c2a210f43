"""Configuration: file, environment, flags, and mistakes that name the key."""

import tomllib
from pathlib import Path

import msgspec
import pytest

from server.config import Config, ConfigError, parse_bytes, read_config

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "config.example.toml"
HOME = {"HOME": "/home/somebody"}


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return file


def test_example_shows_every_key_with_its_default() -> None:
    read = msgspec.to_builtins(read_config(EXAMPLE, environment=HOME))
    defaults = msgspec.to_builtins(read_config(Path("/dev/null"), environment=HOME))
    assert read == defaults
    shown = tomllib.loads(EXAMPLE.read_text())
    lines = EXAMPLE.read_text()
    for section in msgspec.structs.fields(Config):
        assert section.name in shown
        for field in msgspec.structs.fields(section.type):
            assert field.name in shown[section.name] or f"# {field.name} =" in lines, f"{section.name}.{field.name}"


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    file = write(tmp_path, '[server]\nport = 1\nhost = "10.0.0.1"\nlog_level = "debug"\n')
    environment = HOME | {"HEARTH_PORT": "2", "HEARTH_HOST": "10.0.0.2", "HEARTH_MODELS": "a:b"}
    config = read_config(file, flags={"server.port": 3, "server.host": None}, environment=environment)
    assert (config.server.port, config.server.host, config.server.log_level) == (3, "10.0.0.2", "debug")
    assert config.models.folders == ("a", "b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1\n", ["server.prot", "did you mean 'port'"]),
        ("[sever]\nport = 1\n", ["sever", "did you mean 'server'"]),
        ('[server]\nport = "x"\n', ["server.port"]),
        ("[server]\nport = 70000\n", ["server.port", "65535"]),
        ("[text]\nslots = 0\n", ["text.slots"]),
        ('[text]\nkv_type_v = "q8_0"\nflash_attention = false\n', ["text.kv_type_v", "flash_attention"]),
        ('[text]\nloras = ["a", {name = "a"}]\n', ["text.loras", "'a'"]),
        ('[text]\nloras = [{nam = "a"}]\n', ["text.loras"]),
        ('[models.settings."x"]\ncontxt = 1\n', ["models.settings.x.contxt", "'context'"]),
        ("[server\n", ["line 1"]),
        ('[memory]\nram = "lots"\n', ["lots", "8 GiB"]),
        ('[auth]\nkeys = [""]\n', ["auth.keys"]),
        ("server = 3\n", ["server"]),
        ('[image]\noffload = "much"\n', ["image.offload", "medium"]),
        ('[image]\nvram = "much"\n', ["image.offload", "medium"]),
        ('[image]\nvram = "low"\noffload = "low"\n', ["vram", "offload"]),
        ('[image]\nsdxl_offload = "much"\n', ["image.sdxl_offload"]),
        ('[image.spares]\nsd9 = "x"\n', ["image.spares", "sdxl_refiner"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(write(tmp_path, text), environment=HOME)
    for word in words:
        assert word in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        read_config(tmp_path / "nowhere.toml", environment=HOME)


def test_when_the_starter_models_are_listed(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, ""), environment=HOME).models.starter == "never"
    file = write(tmp_path, '[models]\nstarter = "always"\n')
    assert read_config(file, environment=HOME).models.starter == "always"
    environment = {"HEARTH_STARTER": "auto", **HOME}
    assert read_config(file, environment=environment).models.starter == "auto"
    flags = {"models.starter": "never"}
    assert read_config(file, environment=environment, flags=flags).models.starter == "never"
    with pytest.raises(ConfigError, match="starter"):
        read_config(file, environment={"HEARTH_STARTER": "often", **HOME})


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"STATE_DIRECTORY": "/var/lib/hearth", **HOME}, "/var/lib/hearth"),
        ({"XDG_STATE_HOME": "/x", **HOME}, "/x/hearth"),
        (HOME, "/home/somebody/.local/state/hearth"),
        ({"HEARTH_STATE_DIR": "/mine", **HOME}, "/mine"),
    ],
)
def test_state_folder(tmp_path: Path, environment: dict[str, str], place: str) -> None:
    assert read_config(write(tmp_path, ""), environment=environment).state_dir() == Path(place)


@pytest.mark.parametrize(
    ("text", "count"),
    [("8 GiB", 8 * 1024**3), ("512MiB", 512 * 1024**2), ("1.5g", 3 * 1024**3 // 2), ("100", 100), (7, 7), ("2K", 2048)],
)
def test_bytes(text: str | int, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "-1", "8 TiBs", "1e9"])
def test_wrong_bytes(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_bytes(text)


def test_the_memory_mode_is_called_vram_too(tmp_path: Path) -> None:
    file = write(tmp_path, '[image]\nvram = "high"\n[models.settings.x]\nvram = "low"\n')
    config = read_config(file, environment=HOME)
    assert config.image.offload == "high"
    assert config.models.settings["x"] == {"offload": "low"}
