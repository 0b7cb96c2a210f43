"""The unions that meet in one message: complete, told apart by unique tags, and able to travel."""

import importlib
import pkgutil
from collections import Counter
from typing import get_args

import msgspec
import pytest

import server.core
from server.core.image import ImageEvent
from server.core.jobs import Event, Outcome, Work
from server.core.text import GenerationEvent

MODULES = [importlib.import_module(f"server.core.{found.name}") for found in pkgutil.iter_modules(server.core.__path__)]


def structs() -> list[type[msgspec.Struct]]:
    return [
        kind
        for module in MODULES
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
    ]


def test_tags_are_unique_in_the_whole_language() -> None:
    tags = Counter(kind.__struct_config__.tag for kind in structs() if kind.__struct_config__.tag is not None)
    assert [tag for tag, count in tags.items() if count > 1] == []
    assert len(tags) > 10


def test_all_values_are_frozen() -> None:
    assert [kind.__name__ for kind in structs() if not kind.__struct_config__.frozen] == []


def test_the_events_of_every_kind_of_work_can_be_carried() -> None:
    assert set(get_args(GenerationEvent)) <= set(get_args(Event))
    assert set(get_args(ImageEvent)) <= set(get_args(Event))


@pytest.mark.parametrize("union", [Work, Event, Outcome], ids=["Work", "Event", "Outcome"])
def test_unions_can_be_decoded_and_all_members_have_tags(union: object) -> None:
    msgspec.msgpack.Decoder(union)
    assert [kind.__name__ for kind in get_args(union) if kind.__struct_config__.tag is None] == []
