"""What `hearth check` and `hearth openapi` say: problems of a configuration, descriptions of the doors."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from server.app import House, make_catalog, make_ledger, warnings
from server.config import Config
from server.core.errors import LoadFailed, UnknownModel
from server.core.models import Adapter, ModelKind, TextSettings
from server.registry.catalog import Catalog
from server.registry.hashes import HashCache

HOUSE = "hearth"


def problems(config: Config) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with the configuration or in the model folders."""
    yield from warnings(config)
    yield from _folder_problems(config)
    catalog = make_catalog(config)
    catalog.scan()
    folders = {str(Path(folder).expanduser()) for folder in config.models.folders}
    for skipped in catalog.skipped():
        if str(skipped.path) not in folders:
            yield f"{skipped.path} is left out: {skipped.reason}"
    for card in catalog.cards():
        if card.broken is not None:
            yield f"{card.name} cannot be used: {card.broken}"
    yield from _setting_problems(config, catalog)
    if not list(catalog.cards(ModelKind.TEXT, ModelKind.CHECKPOINT)):
        yield "no chat model and no checkpoint was found; `hearth pull REPO` fetches one"
    for key, name in _named(config):
        try:
            catalog.find(name)
        except UnknownModel as error:
            yield f"{key}: {error}"


def _folder_problems(config: Config) -> Iterator[str]:
    for folder in map(Path, config.models.folders):
        place = folder.expanduser()
        if not place.is_dir():
            yield f"models folder {folder} does not exist"
        elif not os.access(place, os.R_OK | os.X_OK):
            yield f"models folder {folder} cannot be read"


def _setting_problems(config: Config, catalog: Catalog) -> Iterator[str]:
    """Yield what is wrong with how models would be loaded."""
    ledger = make_ledger(config, catalog, (), HashCache(), None)
    for card in catalog.cards(ModelKind.TEXT, ModelKind.CHECKPOINT):
        try:
            settings = ledger.settings(card)
        except LoadFailed as error:
            yield str(error)
            continue
        for adapter in settings.loras or () if isinstance(settings, TextSettings) else ():
            if isinstance(adapter, Adapter) and adapter.problem:
                yield f"the adapter {adapter.name!r} of model {card.id!r} cannot be used: {adapter.problem}"


def _named(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the keys that name models, with the names."""
    models = config.models
    for key in ("default_text", "default_image", "default_embedder", "default_reranker"):
        if name := getattr(models, key):
            yield f"models.{key}", name
    yield from (("models.pinned", name) for name in models.pinned)
    yield from ((f"models.aliases.{alias}", name) for alias, name in models.aliases.items())
    yield from ((f"models.settings.{name}", name) for name in models.settings)


def descriptions(config: Config) -> dict[str, str]:
    """Return the OpenAPI description of each door (`openai`, `a1111`) and of the house's own routes, as JSON text."""
    house = House(config)
    whole = house.litestar.openapi_schema.to_schema()
    doors = {dialect.name: dialect for dialect in house.dialects}

    def door_of(path: str) -> str:
        return next((name for name, dialect in doors.items() if dialect.answers(path)), HOUSE)

    parts = {}
    for name in (*doors, HOUSE):
        paths = {path: item for path, item in whole["paths"].items() if door_of(path) == name}
        parts[name] = _readable(
            _with_used_schemas(whole, paths) | {"info": whole["info"] | {"title": f"Hearth: {name}"}}
        )
    return parts


def _with_used_schemas(whole: dict[str, Any], paths: dict[str, Any]) -> dict[str, Any]:
    schemas = whole.get("components", {}).get("schemas", {})
    wanted: set[str] = set()
    found = _references(paths)
    while found - wanted:
        wanted |= found
        found = set().union(*(_references(schemas[name]) for name in wanted if name in schemas))
    kept = {name: schemas[name] for name in sorted(wanted) if name in schemas}
    return {"openapi": whole["openapi"], "info": whole["info"], "paths": paths, "components": {"schemas": kept}}


def _references(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"].rsplit("/", 1)[-1]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*(_references(value) for value in part.values()))
    if isinstance(part, list):
        return set().union(*(_references(value) for value in part))
    return set()


def _readable(description: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(description, order="sorted"), indent=2).decode() + "\n"
