"""What is true of Hearth, read from its code and documents, so that no answer names a flag or key that does not exist.

Answers hold placeholders in braces; filling one in checks it:

| placeholder | becomes | stands in |
|---|---|---|
| `{flag:--port}` | the flag | the parser of `hearth` |
| `{verb:pull}` | `hearth pull` | the parser of `hearth` |
| `{key:text.slots}` | `slots` | the configuration's types |
| `{default:text.slots}` | its default | the configuration's types |
| `{route:/health}` | the path | the descriptions in `openapi/` |
| `{doc:models/Lora/}` | itself | the README, the example configuration or `systemd/README.md` |
| `{tool:image_generation}` | itself | the name of the tool that the server runs |
| `{url} {pull} {starter} {parameters}` | address, an example, this model's name and size | |

Doubled braces are braces.
"""

import argparse
import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from compat.openai.picture_tool.names import TYPE
from server.cli import _parser
from server.config import Config
from server.starter import CHAT

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "config.example.toml", "systemd/README.md")
PULL = "hearth pull Qwen/Qwen3-0.6B-GGUF:Q8_0"

_PLACE = re.compile(r"\{\{|\}\}|\{(\w+)(?::([^}]*))?\}")


class NotAFact(Exception):
    """An answer claims something that code and documents do not say."""


class Facts:
    """The facts of a checkout; `parameters` is the size of the model that will tell them, in millions."""

    def __init__(self, root: Path = ROOT, *, parameters: float) -> None:
        self._documents = "\n".join((root / name).read_text(encoding="utf-8") for name in DOCUMENTS)
        self._flags, self._verbs = _command_line()
        self._defaults = dict(_settings(Config(), ""))
        self._routes = {path for file in (root / "openapi").glob("*.json") for path in _paths(file)}
        server = Config().server
        self._words = {
            "url": f"http://{server.host}:{server.port}",
            "pull": self._stands(PULL),
            "starter": CHAT,
            "parameters": f"{parameters:.1f}",
        }

    def fill(self, text: str) -> str:
        """Return an answer with its placeholders filled in.

        Raises:
            NotAFact: one of them is not true of this checkout.
        """
        return _PLACE.sub(self._replace, text)

    def _replace(self, match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        kind, value = match[1], match[2]
        if value is None:
            if kind not in self._words:
                raise NotAFact(f"there is no placeholder {kind!r}")
            return self._words[kind]
        return self._checked(kind, value)

    def _checked(self, kind: str, value: str) -> str:
        match kind:
            case "flag" if value in self._flags:
                return value
            case "verb" if value in self._verbs:
                return f"hearth {value}"
            case "key" if value in self._defaults:
                return value.rsplit(".", 1)[-1]
            case "default" if value in self._defaults:
                return _shown(self._defaults[value])
            case "route" if value in self._routes:
                return value
            case "tool" if value == TYPE:
                return value
            case "doc":
                return self._stands(value)
        raise NotAFact(f"there is no {kind} {value!r}")

    def _stands(self, text: str) -> str:
        if text not in self._documents:
            raise NotAFact(f"no document says {text!r}")
        return text


def _command_line() -> tuple[set[str], set[str]]:
    """Return the flags and the verbs of the `hearth` command."""
    flags: set[str] = set()
    verbs: set[str] = set()
    pending = [_parser(["serve"])]
    while pending:
        for action in pending.pop()._actions:
            flags.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                verbs.update(action.choices)
                pending.extend(action.choices.values())
    return flags, verbs


def _settings(part: msgspec.Struct, path: str) -> Iterator[tuple[str, Any]]:
    for name in typing.get_type_hints(type(part)):
        value = getattr(part, name)
        if isinstance(value, msgspec.Struct):
            yield from _settings(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _paths(file: Path) -> list[str]:
    return list(json.loads(file.read_text(encoding="utf-8"))["paths"])


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
