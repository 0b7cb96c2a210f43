"""What is written beside the code says what the code does: README, the example configuration, the API descriptions."""

import contextlib
import io
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.app import House
from server.cli import main
from server.config import Config, ServerConfig
from server.inspection import descriptions

ROOT = Path(__file__).parents[2]
OPENAPI = ROOT / "openapi"
README = (ROOT / "README.md").read_text()
UNDESCRIBED = ("/", "/docs", "/docs/openapi.json", "/docs/{path}")
METHODS = ("get", "head", "post", "put", "patch", "delete")


def verbs() -> set[str]:
    """Return the verbs that the command itself names."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        main(["--help"])
    return set(re.findall(r"^    (\w+)", said.getvalue(), re.MULTILINE))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return Config(server=ServerConfig(state_dir=str(tmp_path_factory.mktemp("state"))))


@pytest.fixture(scope="module")
def described(config: Config) -> dict[str, Any]:
    return {name: json.loads(text) for name, text in descriptions(config).items()}


def test_the_readme_tells_every_verb() -> None:
    known = verbs()
    assert "serve" in known
    assert [verb for verb in known if f"`hearth {verb}" not in README] == []


def test_the_readme_tells_no_verb_that_is_not_there() -> None:
    told = set(re.findall(r"`hearth (\w+)", README))
    assert told - verbs() == set()


def test_the_example_has_every_section_and_key() -> None:
    example = tomllib.loads((ROOT / "config.example.toml").read_text())
    assert set(example) == {field.name for field in msgspec.structs.fields(Config)}
    text = (ROOT / "config.example.toml").read_text()
    for section in msgspec.structs.fields(Config):
        for field in msgspec.structs.fields(section.type):
            shown = re.search(rf"^(# )?{field.name} = |^\[{section.name}\.{field.name}\]", text, re.MULTILINE)
            assert shown, f"[{section.name}] {field.name} is not in the example"


def test_what_the_readme_links_to_is_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_the_written_descriptions_are_what_the_code_gives(config: Config) -> None:
    fresh = descriptions(config)
    written = {file.stem: file.read_text() for file in OPENAPI.glob("*.json")}
    assert set(written) == set(fresh), "run `make openapi`"
    for name, text in fresh.items():
        assert written[name] == text, f"openapi/{name}.json is stale: run `make openapi`"


def test_every_route_is_described(config: Config, described: dict[str, Any]) -> None:
    """All that a client can call is in one of the files, with each method, but for the page and the files."""
    told = set()
    for description in described.values():
        for path, item in description["paths"].items():
            told |= {(path, method) for method in item if method in METHODS}
    there = set()
    for route in House(config).litestar.routes:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
        there |= {(path, str(method).lower()) for method in getattr(route, "methods", ())}
    missing = {(path, method) for path, method in there - told if method in METHODS and path not in UNDESCRIBED}
    assert missing == set()


def test_descriptions_stand_alone(described: dict[str, Any]) -> None:
    """Each file has all schemas that it refers to, no others, and no path of another door."""
    seen: set[str] = set()
    for name, description in described.items():
        schemas = set(description["components"]["schemas"])
        text = json.dumps(description)
        assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) == schemas, name
        assert description["paths"], name
        assert seen.isdisjoint(description["paths"])
        seen |= set(description["paths"])
        assert description["info"]["title"] == f"Hearth: {name}"
