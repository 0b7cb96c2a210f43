"""Requests and contexts for the tests of this door."""

import json
from typing import Any

import msgspec

from compat.a1111 import lenient, wire
from compat.a1111.answer import Finished
from compat.a1111.convert import Context, Plan, plan
from compat.a1111.workshop import Planned, answered, cell_of, sheet_of
from server.core.models import ModelCard, ModelId, ModelKind


def txt2img(**fields: Any) -> wire.Txt2Img:
    """Return a request as it comes out of the wire."""
    return msgspec.convert(lenient.read(json.dumps(fields).encode(), wire.Txt2Img), wire.Txt2Img)


def context(**fields: Any) -> Context:
    """Return a context with model `tiny` whose dice show 7."""
    return Context(**{"model": "tiny", "draw": lambda: 7} | fields)


def planned(given: Context | None = None, **fields: Any) -> Plan:
    """Return the plan of a request."""
    return plan(txt2img(**fields), given or context())


def part(name: str, kind: ModelKind = ModelKind.LORA, **fields: Any) -> ModelCard:
    """Return the card of a LoRA or another part."""
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return ModelCard(**{"id": ModelId(stem), "name": name, "kind": kind, "files": (f"/models/{name}",)} | fields)


def answer_of(plan: Plan, finished: Finished) -> wire.ImagesAnswer:
    """Return what the door answers once the pictures of a plan are there."""
    cell = cell_of(Planned(plan=plan, card=finished.card), finished)
    return answered(plan.request if plan.given is None else plan.given.request, sheet_of(cell))
