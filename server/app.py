"""The composition root: a configuration becomes a wired server. The only file that knows every room."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from litestar import Litestar, Request, Response
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from server.config import Config, parse_bytes
from server.core.memory import RAM, DeviceProfile, MemoryBudget, PoolId
from server.core.models import ModelKind
from server.doors import ALIASES, BEGINNINGS, body_limits, make_dialects
from server.http import admin, health, house, page
from server.http.aliases import Aliases
from server.http.auth import Keyring, guard
from server.http.gate import Gate, GateRules
from server.http.origins import is_loopback
from server.http.reply import Reply, to_response
from server.registry.catalog import Catalog
from server.registry.devices import default_budget, find_devices, machine_ram
from server.registry.hashes import HashCache
from server.registry.ledger import Ledger
from server.registry.watch import watch
from server.service.loop import Loop
from server.service.scheduler import Scheduler
from server.service.service import Service

logger = logging.getLogger(__name__)

VERSION = "0.1.0"
FIRST_SCAN_S = 0.5


class House:
    """The wired server: `service` is what doors use, `asgi` what a web server runs.

    A `catalog` may be handed in by a test; its cards may have runtimes that no file stands for.
    """

    def __init__(self, config: Config, *, catalog: Catalog | None = None) -> None:
        self.config = config
        state = state_folder(config)
        self._hashes = hashes = HashCache(state / "hashes.json" if state else None)
        self.catalog = catalog or make_catalog(config, hashes)
        devices = find_devices()
        budget = make_budget(config, devices)
        self._loop = Loop(Scheduler(budget), make_ledger(config, self.catalog, devices, hashes, state))
        self.service = Service(
            self.catalog, self._loop, budget=budget, queue_limit=config.server.queue_limit, machine_ram=machine_ram
        )
        self.dialects = make_dialects(self.service, config, self.catalog, state)
        self.litestar = self._litestar()
        gate = Gate(self.litestar, reply_to=self.reply_to, rules=gate_rules(config, body_limits(self.dialects)))
        self.asgi = Aliases(gate, ALIASES, BEGINNINGS)

    def reply_to(self, path: str, error: Exception) -> Reply:
        """Say what went wrong in the words of the door that a path belongs to."""
        for dialect in self.dialects:
            if dialect.answers(path):
                return dialect.reply(error)
        return house.reply(error)

    async def drain(self) -> None:
        """Take nothing new, refuse what waits and let running jobs end, for at most the configured time; then end all.

        Who still reads a stream by then is told in it.
        """
        self.service.stop_accepting()
        await self._loop.drain(self.config.server.drain_s)
        await self._loop.close()

    def _litestar(self) -> Litestar:
        def answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
            return to_response(self.reply_to(request.scope["path"], error))

        config = self.config
        exposed = is_exposed(config)
        return Litestar(
            route_handlers=[
                *(dialect.router for dialect in self.dialects),
                health.router(self.service, warnings(config)),
                admin.router(self.service, open_to_all=exposed),
                page.router(),
            ],
            guards=[guard(Keyring(config.auth.keys), exposed=exposed)],
            exception_handlers={Exception: answer},
            lifespan=[self._lifespan],
            logging_config=None,
            request_max_body_size=None,  # the gate's business, by path
            openapi_config=OpenAPIConfig(
                title="Hearth",
                version=VERSION,
                path="/docs",
                render_plugins=[JsonRenderPlugin(path="/openapi.json")],
            ),
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Litestar) -> AsyncIterator[None]:
        self._loop.start()
        scan = asyncio.create_task(self.service.rescan(), name="first scan")
        # A big folder must not delay the first answer to /health.
        await asyncio.wait([scan], timeout=FIRST_SCAN_S)
        tasks: list[asyncio.Task[None]] = [scan]
        tasks.append(asyncio.create_task(watch(self.catalog, self.config.models.rescan_s), name="watch"))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            self._hashes.close()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._loop.close()


def state_folder(config: Config) -> Path | None:
    """Return the folder for what the server remembers, None (with a warning) when it cannot be had."""
    folder = config.state_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    except OSError as error:
        logger.warning("state folder %s cannot be made (%s): nothing is remembered", folder, error.strerror)
        return None
    return folder


def make_catalog(config: Config, hashes: HashCache | None = None) -> Catalog:
    """Return the catalog of the configured folders, not scanned yet."""
    return Catalog(
        [Path(folder).expanduser() for folder in config.models.folders],
        hashes=hashes or HashCache(),
        aliases=config.models.aliases,
        projectors=chosen_projectors(config),
        starter=config.models.starter,
        converted=converted_folder(config),
        allow_pickle=config.image.allow_pickle,
    )


def converted_folder(config: Config) -> Path:
    """Return where the GGUF files lie that are made of models of 2023; it need not be there yet."""
    named = config.models.converted_dir
    return Path(named).expanduser().absolute() if named else config.state_dir().absolute() / "converted"


def chosen_projectors(config: Config) -> dict[str, str]:
    """Return by which file text models see: by their names, and under the empty name for all others."""
    named = {name: table["mmproj"] for name, table in config.models.settings.items() if "mmproj" in table}
    return {"": config.text.mmproj} | {name: file for name, file in named.items() if isinstance(file, str)}


def make_budget(config: Config, devices: Sequence[DeviceProfile]) -> MemoryBudget:
    """Return what loaded models may hold: the machine's memory less a reserve, or what the configuration says."""
    limits: dict[str, int] = {}
    if config.memory.ram != "auto":
        limits[RAM] = parse_bytes(config.memory.ram)
    if config.memory.vram != "auto":
        pools: set[PoolId] = {device.pool for device in devices if device.pool != RAM}
        limits.update(dict.fromkeys(pools, parse_bytes(config.memory.vram)))
    return default_budget(devices, limits)


def make_ledger(
    config: Config, catalog: Catalog, devices: Sequence[DeviceProfile], hashes: HashCache, state: Path | None
) -> Ledger:
    """Return the ledger, which knows how cards are loaded and what they hold."""
    return Ledger(
        text=config.text,
        image=config.image,
        overrides=config.models.settings,
        pinned=config.models.pinned,
        devices=devices,
        hashes=hashes,
        vae_for=catalog.automatic_vae,
        preview_for=catalog.preview_decoder,
        adapters_for=catalog.text_adapters,
        draft_for=catalog.text_model,
        limits=make_budget(config, devices).limits,
        checkpoints=lambda: catalog.cards(ModelKind.CHECKPOINT),
        file=state / "footprints.json" if state else None,
        jobs_file=state / "jobs.json" if state else None,
    )


def gate_rules(config: Config, limits: dict[str, int]) -> GateRules:
    """Return what the gate lets through."""
    return GateRules(
        bound=config.server.host,
        machine=socket.gethostname(),
        hosts=config.server.allowed_hosts,
        origins=config.server.allowed_origins,
        keyed=bool(config.auth.keys),
        body_limits=limits,
        timed=("/sdapi",),
    )


def is_exposed(config: Config) -> bool:
    """Tell whether others than this machine reach the server and no key is set."""
    return not is_loopback(config.server.host) and not config.auth.keys


def warnings(config: Config) -> tuple[str, ...]:
    """Return what whoever runs the server should know."""
    if is_exposed(config):
        return (f"listening on {config.server.host} without a key: set [auth] keys",)
    return ()
