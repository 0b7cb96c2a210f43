"""Routes that change what is loaded and how: `/lora-adapters`, `/models/load`, `/models/unload`."""

import asyncio
import logging
from typing import Any

import msgspec
from litestar import get, post
from litestar.params import FromQuery, JSONBody

from compat.llama_server import wire
from compat.llama_server.adapters import list_from_core, scales_to_core
from compat.llama_server.facts import Facts
from compat.llama_server.settings import LlamaServerSettings
from server.http.json_body import JsonBody, reading
from server.http.refusals import body_error
from server.service.service import Service

logger = logging.getLogger(__name__)

_ADMIN = {"admin": True}
_DONE = wire.Success()


class ScalesBody(JsonBody):
    """A request whose body is a list of adapters with their scales."""

    async def json(self) -> Any:
        """Return the decoded list; raise InvalidValue with the path of what is wrong."""
        try:
            return msgspec.json.decode(await self.body(), type=wire.LoraScales)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise body_error(error) from None


class Loads:
    """Loads that nobody waits for any more; they go on, as llama-server's do."""

    def __init__(self, service: Service, patience_s: float) -> None:
        self._service = service
        self._patience_s = patience_s
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, model: str) -> None:
        """Return when the model is loaded, or when patience has ended; raise what was found wrong until then."""
        task = asyncio.create_task(self._service.load(model), name=f"load {model[:64]}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait({task}, timeout=self._patience_s)
        for ended in done:
            ended.result()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.info("%s: %s", task.get_name(), task.exception())


def model_routes(service: Service, facts: Facts, settings: LlamaServerSettings) -> list[Any]:
    """Return the handlers."""
    loads = Loads(service, settings.patience_s)

    @get("/lora-adapters", summary="List the adapters of a model")
    async def adapters(model: FromQuery[str | None] = None) -> list[wire.LoraAdapter]:
        return list_from_core(service.adapters(facts.model(model)))

    @post(
        "/lora-adapters",
        status_code=200,
        opt=_ADMIN,
        request_class=ScalesBody,
        summary="Set which adapters of a model act on requests that name none",
    )
    async def set_adapters(data: JSONBody[wire.LoraScales], model: FromQuery[str | None] = None) -> wire.Success:
        service.set_adapters(facts.model(model), scales_to_core(data, ""))
        return _DONE

    @post("/models/load", status_code=200, opt=_ADMIN, request_class=reading(wire.NamedModel), summary="Load a model")
    async def load(data: JSONBody[wire.NamedModel]) -> wire.Success:
        await loads.begin(data.model)
        return _DONE

    @post(
        "/models/unload", status_code=200, opt=_ADMIN, request_class=reading(wire.NamedModel), summary="Unload a model"
    )
    async def unload(data: JSONBody[wire.NamedModel]) -> wire.Success:
        await service.unload(data.model)
        return _DONE

    return [adapters, set_adapters, load, unload]
