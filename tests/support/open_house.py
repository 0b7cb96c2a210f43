"""The whole app over fake engines: our own House behind a real socket, in the test's own event loop."""

import asyncio
import base64
import contextlib
import io
import json
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest
import uvicorn
from PIL import Image

from server.app import House
from server.config import AuthConfig, Config, MemoryConfig, ModelsConfig, OpenAiConfig, ServerConfig
from server.core.memory import MIB, RAM
from server.core.models import Adapter, ImageFacts, ImageSettings, ModelCard, TextSettings
from server.engines.fake import colour
from server.registry.catalog import Catalog
from server.service.decisions import Load, SchedulerEvent
from server.service.scheduler import Scheduler
from tests.support.aio import children
from tests.support.fakes import FakeShelf, image_model, text_model
from tests.support.waiting import eventually

LONG = 100_000
SIDE = 16


class Shelf(FakeShelf):
    """Cards of fakes, with what the House asks of a catalog besides."""

    def preview_decoder(self, _: ModelCard) -> str | None:
        return None

    def text_adapters(self, _: ModelCard, __: object) -> tuple[Adapter, ...]:
        """Know no adapters."""
        return ()

    def text_model(self, _: str) -> ModelCard | None:
        """Know no draft models."""
        return None

    def automatic_vae(self, _: ModelCard) -> str | None:
        """Know no VAE."""
        return None

    def styles_file(self) -> Path | None:
        """Know no styles."""
        return None


def talker(folder: Path, name: str = "talker", *, resident_mb: int = 100, **settings: object) -> ModelCard:
    """Return a fake text model's card, so large that the house expects at least what it will claim to hold.

    Its context is so long that a request with `ignore_eos` goes on for minutes when `step_ms` is 2 or more.
    """
    card = text_model(folder, name, **{"resident_mb": resident_mb, "context": LONG, **settings})
    return msgspec.structs.replace(card, size=resident_mb * MIB)


def painter(folder: Path, name: str = "painter", *, resident_mb: int = 100, **settings: object) -> ModelCard:
    """Return a fake checkpoint's card; the house expects about 600 MiB of any."""
    card = image_model(folder, name, resident_mb=resident_mb, **settings)
    return msgspec.structs.replace(card, image=ImageFacts(family="sd1", dtype="F16", bytes_unet=MIB))


@dataclass
class OpenHouse:
    """A served house. `client` speaks to it; `another` makes further clients with connections of their own."""

    url: str
    house: House
    client: httpx.AsyncClient

    def another(self, key: str = "") -> httpx.AsyncClient:
        """Return a client; the caller closes it."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(base_url=self.url, timeout=60, trust_env=False, headers=headers)

    async def jobs(self, *states: str) -> list[dict[str, Any]]:
        """Return the jobs in these states as the side door tells them, all with none given."""
        told = (await self.client.get("/hearth/v1/jobs")).json()["jobs"]
        return [job for job in told if not states or job["state"] in states]

    async def job_in(self, state: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many jobs are in a state and return them."""

        async def there() -> tuple[list[dict[str, Any]], ...]:
            found = await self.jobs(state)
            return (found,) if len(found) == count else ()

        (found,) = await eventually(there)
        return found

    async def none_live(self) -> None:
        """Wait until no job waits or runs."""

        async def quiet() -> bool:
            return not await self.jobs("waiting", "running")

        await eventually(quiet)


@contextlib.asynccontextmanager
async def open_house(
    folder: Path,
    *cards: ModelCard,
    budget_mb: int = 4000,
    queue_limit: int = 512,
    keys: Sequence[str] = (),
    drain_s: float = 5.0,
) -> AsyncIterator[OpenHouse]:
    """Serve a house over fake models on a free port; workers are real child processes."""
    config = Config(
        server=ServerConfig(state_dir=str(folder / "state"), queue_limit=queue_limit, drain_s=drain_s),
        auth=AuthConfig(keys=tuple(keys)),
        models=ModelsConfig(folders=(str(folder),), rescan_s=0),
        memory=MemoryConfig(ram=budget_mb * MIB),
        text=TextSettings(gpu_layers=0),
        image=ImageSettings(device="cpu"),
        openai=OpenAiConfig(patience_s=30),
    )
    house = House(config, catalog=cast("Catalog", Shelf(*cards)))
    async with _served(house) as url, httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        if keys:
            client.headers["authorization"] = f"Bearer {keys[0]}"
        yield OpenHouse(url, house, client)


@contextlib.asynccontextmanager
async def real_house(models: Path, state: Path, text: TextSettings) -> AsyncIterator[OpenHouse]:
    """Serve a house over the models in a folder, with real engines, on a free port."""
    config = Config(
        server=ServerConfig(state_dir=str(state)),
        models=ModelsConfig(folders=(str(models),), rescan_s=0, starter="never"),
        memory=MemoryConfig(ram=4000 * MIB),
        text=text,
    )
    house = House(config)
    async with _served(house) as url, httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        yield OpenHouse(url, house, client)


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to the test runner."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def _served(house: House) -> AsyncIterator[str]:
    settings = uvicorn.Config(house.asgi, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=5)
    # With its protocol named, as `serve` has it: else asyncio leaves Nagle's delay of 40 ms on every answer.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(2048)
        server = _Server(settings)
        serving = asyncio.create_task(server.serve([listening]), name="the open house")
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


@dataclass
class MemoryBook:
    """What the scheduler said after each event.

    `used` bytes of RAM, the models whose loads it ordered, and how many worker processes lived that it did not count.
    """

    used: list[int] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    uncounted: list[int] = field(default_factory=list)


def keep_book(monkeypatch: pytest.MonkeyPatch) -> MemoryBook:
    """Return a book that is written at every change of any scheduler from now on."""
    book = MemoryBook()
    decide = Scheduler.on
    before = children()

    def on(self: Scheduler, event: SchedulerEvent, now: float) -> Any:
        actions = decide(self, event, now)
        book.used.append(self.used().get(RAM, 0))
        book.loads += [action.model for action in actions if isinstance(action, Load)]
        counted = len(self.residents()) + bool(self._memory.spare.held)
        book.uncounted.append(len(children() - before) - counted)
        return actions

    monkeypatch.setattr(Scheduler, "on", on)
    return book


def chat_body(text: str, model: str = "talker", **fields: Any) -> dict[str, Any]:
    """Return a chat request; a fake repeats its text."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def endless_body(model: str = "talker", text: str = "on and on") -> dict[str, Any]:
    """Return a streamed chat request that goes on for minutes."""
    return chat_body(text, model, ignore_eos=True, stream=True)


def picture_body(prompt: str, model: str = "painter", **fields: Any) -> dict[str, Any]:
    """Return a txt2img request for one checkpoint."""
    wanted = {"sd_model_checkpoint": model}
    return {"prompt": prompt, "steps": 2, "width": SIDE, "height": SIDE, "override_settings": wanted, **fields}


def picture_of(answer: httpx.Response, index: int = 0) -> Image.Image:
    """Return a picture of a txt2img answer."""
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(base64.b64decode(answer.json()["images"][index])))


def is_picture_of(answer: httpx.Response, prompt: str, seed: int) -> bool:
    """Tell whether an answer holds the fake's picture of this prompt and seed."""
    picture = picture_of(answer)
    return picture.size == (SIDE, SIDE) and picture.getpixel((0, 0)) == colour(prompt, seed)


def said(lines: Sequence[str]) -> str:
    """Return the text of a chat stream's lines; fail when it holds an error."""
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert not [event for event in events if "error" in event], events
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
