"""`POST /slots/{id_slot}?action=`: what was computed of a prompt is kept in a file, taken back, or forgotten.

Slots are found by the `id_slot` that requests gave; see `server.core.slots`. Our files can be restored here alone.
"""

from collections.abc import AsyncIterable
from typing import Any, get_args

from litestar import Response, post
from litestar.params import FromPath, FromQuery, JSONBody

from compat.llama_server import wire
from compat.llama_server.facts import Facts
from compat.llama_server.settings import LlamaServerSettings
from server.core.errors import InvalidValue, ProtocolError, Unsupported
from server.core.jobs import Event
from server.core.slots import SLOTS_OFF, SlotAction, SlotDone, SlotRequest, is_file_name
from server.http.asking import gathered
from server.http.json_body import JsonBody, ignored_header, refuse_ignored
from server.service.service import Service

Told = wire.SlotSaved | wire.SlotRestored | wire.SlotErased
_ACTIONS: tuple[SlotAction, ...] = get_args(SlotAction)


class SlotBody(JsonBody):
    """A request whose body may be left out: not every action needs a file."""

    wanted = wire.SlotFile

    async def body(self) -> bytes:
        """Return the bytes of the body, those of an empty object when there are none."""
        try:
            return await super().body()
        except InvalidValue:
            return b"{}"


def slot_to_core(id_slot: str, action: str | None, body: wire.SlotFile, model: str) -> SlotRequest:
    """Return what is to be done as core work for a model; raise InvalidValue with llama-server's words."""
    if not (id_slot.isascii() and id_slot.isdecimal() and len(id_slot) < 10):
        raise InvalidValue.of("id_slot", "Invalid slot ID")
    wanted = next((known for known in _ACTIONS if known == action), None)
    if wanted is None:
        raise InvalidValue.of("action", "Invalid action")
    if wanted != "erase" and not is_file_name(body.filename):
        raise InvalidValue.of("filename", "Invalid filename")
    return SlotRequest(model=model, slot=int(id_slot), action=wanted, filename=body.filename)


def told_from_core(done: SlotDone, work: SlotRequest) -> Told:
    """Return the answer in the shape of its action."""
    took = round(done.took_ms, 3)
    match work.action:
        case "save":
            return wire.SlotSaved(
                id_slot=done.slot,
                filename=work.filename,
                n_saved=done.tokens,
                n_written=done.bytes,
                timings=wire.SaveTimings(took),
            )
        case "restore":
            return wire.SlotRestored(
                id_slot=done.slot,
                filename=work.filename,
                n_restored=done.tokens,
                n_read=done.bytes,
                timings=wire.RestoreTimings(took),
            )
        case "erase":
            return wire.SlotErased(id_slot=done.slot, n_erased=done.tokens)


async def collect(events: AsyncIterable[Event]) -> SlotDone:
    """Return how it went; raise ProtocolError when that is not told."""
    async for event in events:
        if isinstance(event, SlotDone):
            return event
    raise ProtocolError("a job on a slot ended without a result")


def slot_routes(service: Service, facts: Facts, settings: LlamaServerSettings) -> list[Any]:
    """Return the handler. Files are written for it, so without keys it answers this machine alone."""

    @post(
        "/slots/{id_slot:str}",
        status_code=200,
        opt={"admin": True},
        request_class=SlotBody,
        summary="Save, restore or erase what was computed in a slot",
    )
    async def act(
        id_slot: FromPath[str],
        data: JSONBody[wire.SlotFile],
        request: JsonBody,
        action: FromQuery[str | None] = None,
        model: FromQuery[str | None] = None,
    ) -> Response[Told]:
        if not settings.saves_slots:
            raise Unsupported.of("action", SLOTS_OFF)
        refuse_ignored(request.ignored, strict=settings.strict)
        work = slot_to_core(id_slot, action, data, facts.model(data.model or model))
        done = await gathered(service, work, request, collect)
        return Response(told_from_core(done, work), headers=ignored_header(request.ignored))

    return [act]
