"""The configuration: a TOML file, then the environment, then flags, read once into one frozen value.

Unknown keys are errors that name the key and, if one is close, the one meant. Nothing else reads the environment.
`config.example.toml` shows every key with its default.
"""

import difflib
import os
import re
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from server.core.image_memory import MODES, PIXELS
from server.core.memory import GIB, KIB, MIB
from server.core.models import LARGEST_RESULT, ImageSettings, TextSettings
from server.core.text_settings import problems
from server.registry.starters import Starter

EXIT_BAD_CONFIG = 78  # EX_CONFIG of sysexits.h
DEFAULT_FILES = ("config.toml",)


class ConfigError(Exception):
    """The configuration cannot be used; the text says where and why."""


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server listens and what it lets in. Times in seconds; `state_dir` empty = the usual place."""

    host: str = "127.0.0.1"
    port: int = 7860
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    queue_limit: int = 512
    drain_s: float = 60.0
    state_dir: str = ""
    log_level: str = "info"


class AuthConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Keys that open both doors; none means that nobody needs one."""

    keys: tuple[str, ...] = ()


class ModelsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which models there are.

    The `default_` models answer requests that name none. `aliases` maps further names to model names; `settings` maps a
    model name to keys of `[text]` or `[image]` that differ for it; `pinned` models stay once they are loaded. `starter`
    says when the models that ship with the server are listed: `auto` where there is no other of their kind.
    `rescan_s` 0 switches watching off. `converted_dir` is where models of 2023 are converted to, empty = `converted` in
    the state folder.
    """

    folders: tuple[str, ...] = ("models",)
    default_text: str = ""
    default_image: str = ""
    default_embedder: str = ""
    default_reranker: str = ""
    pinned: tuple[str, ...] = ()
    rescan_s: float = 5.0
    starter: Starter = "never"
    converted_dir: str = ""
    aliases: dict[str, str] = {}
    settings: dict[str, dict[str, bool | int | float | str | list[Any]]] = {}


class MemoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How much loaded models may hold together: `auto`, or bytes such as `8 GiB`. `vram` holds for each device."""

    ram: str | int = "auto"
    vram: str | int = "auto"


class OpenAiConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The doors for text. A streamed answer starts with comments when its model is not ready after `patience_s`.

    With `strict`, fields that have no effect are refused instead of being named in a header. With `fetch_images`,
    pictures may be named by addresses, which the server then fetches.
    """

    patience_s: float = 5.0
    ping_s: float = 15.0
    strict: bool = False
    fetch_images: bool = False


class A1111Config(msgspec.Struct, frozen=True, kw_only=True):
    """The AUTOMATIC1111 door. `options_file` empty = in the state folder.

    `output_dir` is where pictures are saved, empty = `outputs` in the state folder. A live preview is made
    `previews_every` model calls: 0 = never, -1 = as the options say. `caption_model` is the chat model with eyes that
    `interrogate` asks, empty = none; `server_stop` lets clients end the server.
    """

    options_file: str = ""
    output_dir: str = ""
    previews_every: int = -1
    caption_model: str = ""
    server_stop: bool = False


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    server: ServerConfig = ServerConfig()
    auth: AuthConfig = AuthConfig()
    models: ModelsConfig = ModelsConfig()
    memory: MemoryConfig = MemoryConfig()
    text: TextSettings = TextSettings()
    image: ImageSettings = ImageSettings()
    openai: OpenAiConfig = OpenAiConfig()
    a1111: A1111Config = A1111Config()

    def state_dir(self) -> Path:
        """Return the folder for what the server remembers."""
        return Path(self.server.state_dir).expanduser()


def read_config(
    file: Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Config:
    """Return the configuration of a file (or `config.toml` if there is one), the environment and flags.

    `flags` maps dotted keys (`server.port`) to values; None means not given.

    Raises:
        ConfigError: with file, line or key, and what to do.
    """
    data = _read_toml(_find(file, environment))
    for key, value in _from_environment(environment).items():
        _put(data, key, value)
    for key, value in (flags or {}).items():
        if value is not None:
            _put(data, key, value)
    _rename_vram(data)
    _refuse_unknown(data, Config, "")
    _refuse_unknown_model_settings(data)
    try:
        config = msgspec.convert(data, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the configuration is wrong: {error}") from error
    _check_values(config)
    if not config.server.state_dir:
        server = msgspec.structs.replace(config.server, state_dir=default_state_dir(environment))
        config = msgspec.structs.replace(config, server=server)
    return config


def parse_bytes(text: str | int) -> int:
    """Return a byte count written as `8 GiB`, `512MiB`, `6G` or a number of bytes.

    Raises:
        ConfigError: it is not one.
    """
    if isinstance(text, int):
        return text
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if match is None:
        raise ConfigError(f"{text!r} is not a number of bytes; write it like 8 GiB")
    unit = {"": 1, "K": KIB, "M": MIB, "G": GIB}[match[2].upper()]
    return int(float(match[1]) * unit)


def _find(file: Path | None, environment: Mapping[str, str]) -> Path | None:
    if file is not None:
        return file
    if named := environment.get("HEARTH_CONFIG"):
        return Path(named)
    return next((Path(name) for name in DEFAULT_FILES if Path(name).is_file()), None)


def _read_toml(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if models := environment.get("HEARTH_MODELS"):
        found["models.folders"] = models.split(os.pathsep)
    if host := environment.get("HEARTH_HOST"):
        found["server.host"] = host
    if port := environment.get("HEARTH_PORT"):
        if not port.isdigit():
            raise ConfigError(f"HEARTH_PORT is {port!r}, not a port number")
        found["server.port"] = int(port)
    if keys := environment.get("HEARTH_API_KEY"):
        found["auth.keys"] = keys.split(",")
    if starter := environment.get("HEARTH_STARTER"):
        found["models.starter"] = starter
    if state := environment.get("HEARTH_STATE_DIR"):
        found["server.state_dir"] = state
    return found


def default_state_dir(environment: Mapping[str, str]) -> str:
    """Return where state goes when nobody says: systemd's folder, XDG's, or below the home folder."""
    if systemd := environment.get("STATE_DIRECTORY"):
        return systemd.split(":")[0]
    if xdg := environment.get("XDG_STATE_HOME"):
        return str(Path(xdg) / "hearth")
    home = environment.get("HOME")
    return str(Path(home) / ".local" / "state" / "hearth") if home else str(Path(".hearth").absolute())


def _put(data: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise ConfigError(f"[{section}] must be a table")
    data[key] = value


def _rename_vram(data: dict[str, Any]) -> None:
    """Let the memory mode be called `vram`, too: in `[image]` and among the settings of a model."""
    models = data.get("models", {})
    settings = models.get("settings", {}) if isinstance(models, dict) else {}
    tables = [data.get("image"), *(settings.values() if isinstance(settings, dict) else ())]
    for table in tables:
        if not isinstance(table, dict) or "vram" not in table:
            continue
        if "offload" in table:
            raise ConfigError("vram and offload are two names of one key; give one of them")
        table["offload"] = table.pop("vram")


def _refuse_unknown(data: Any, wanted: Any, path: str) -> None:
    if not (isinstance(data, dict) and isinstance(wanted, type) and issubclass(wanted, msgspec.Struct)):
        return
    hints = typing.get_type_hints(wanted)
    for key, value in data.items():
        if key not in hints:
            raise ConfigError(unknown_key(f"{path}{key}", key, list(hints)))
        _refuse_unknown(value, hints[key], f"{path}{key}.")


def _refuse_unknown_model_settings(data: dict[str, Any]) -> None:
    """Check the keys of `[models.settings.NAME]`: they are those of `[text]` and `[image]`."""
    known = {field.name for kind in (TextSettings, ImageSettings) for field in msgspec.structs.fields(kind)}
    models = data.get("models", {})
    tables = models.get("settings", {}) if isinstance(models, dict) else {}
    for name, table in tables.items() if isinstance(tables, dict) else ():
        for key in table if isinstance(table, dict) else ():
            if key not in known:
                raise ConfigError(unknown_key(f"models.settings.{name}.{key}", key, sorted(known)))


def unknown_key(path: str, key: str, known: list[str]) -> str:
    """Return the sentence for a key that does not exist."""
    close = difflib.get_close_matches(key, known, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}"
    return f"unknown key {path!r} in the configuration{meant}"


def _check_values(config: Config) -> None:
    rules = (
        ("server.port", 0 <= config.server.port <= 65535, "must be 0 ... 65535"),
        ("server.queue_limit", config.server.queue_limit >= 1, "must be at least 1"),
        ("server.drain_s", config.server.drain_s >= 0, "must not be negative"),
        ("server.log_level", config.server.log_level in ("debug", "info", "warning", "error"), "is not a level"),
        ("models.rescan_s", config.models.rescan_s >= 0, "must not be negative"),
        ("image.threads", 0 <= config.image.threads <= 1024, "must be 0 ... 1024"),
        ("image.offload", config.image.offload in MODES, f"must be one of {', '.join(MODES)}"),
        ("image.sdxl_offload", config.image.sdxl_offload in ("", *MODES), f"must be one of {', '.join(MODES)}"),
        ("image.spares", set(config.image.spares) <= set(PIXELS), f"takes the families {', '.join(PIXELS)}"),
        ("image.memory_limit", config.image.memory_limit >= 0, "must not be negative"),
        ("image.largest_result", 0 < config.image.largest_result <= LARGEST_RESULT, f"must be 1 ... {LARGEST_RESULT}"),
        ("auth.keys", all(config.auth.keys), "must not hold an empty key"),
    )
    for key, holds, text in rules:
        if not holds:
            raise ConfigError(f"{key} {text}")
    for key, text in problems(config.text):
        raise ConfigError(f"text.{key} {text}")
    for limit in (config.memory.ram, config.memory.vram):
        if limit != "auto":
            parse_bytes(limit)
