"""The handlers of the A1111 door: decode, ask the door, encode. Routes that answer JSON `null` say so explicitly."""

import asyncio
from typing import Any

from litestar import Request, Response, Router, get, post
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, JSONBody

from compat.a1111 import ending, listings, pnginfo, wire
from compat.a1111.body import LenientRequest, reading, sent_in
from compat.a1111.cmd_flags import flags
from compat.a1111.controlnet import routes as controlnet
from compat.a1111.door import Door, Made
from compat.a1111.errors import reply
from compat.a1111.postprocess_wire import BatchAnswer, BatchExtras, SingleAnswer, SingleExtras
from compat.a1111.progress import Clock, pictures_of, progress, task_progress
from compat.a1111.refusals import NotHere
from compat.a1111.saving import MEDIA_TYPES, OutputFolder
from compat.a1111.scripts import table
from compat.a1111.settings import A1111Settings
from compat.a1111.sysinfo import sysinfo
from compat.dialect import Dialect
from server.core.errors import UnknownModel
from server.core.jobs import CancelMode, JobState
from server.core.models import ModelKind
from server.http.auth import owner_of
from server.http.disconnect import unless_disconnected
from server.http.reply import to_response
from server.service.service import Service

PREFIXES = ("/sdapi", "/internal", "/controlnet")
API = "/sdapi/v1"
BEGINNINGS = {"/file=": "/internal/file"}
"""Paths that gradio's way of writing them begins with; `server.http.aliases` turns them round."""

IGNORED_HEADER = "x-hearth-ignored"

NOT_OFFERED = {
    "/create/embedding": "training",
    "/create/hypernetwork": "training",
    "/train/embedding": "training",
    "/train/hypernetwork": "training",
}
"""Routes that answer 501 whatever is sent: a body with `detail`, which is what clients print."""

REFRESHING = ("/refresh-checkpoints", "/refresh-vae", "/refresh-loras", "/refresh-embeddings")

ADMIN = {"admin": True}
"""On a server that others reach without a key, only this machine may change what others get."""

AnyRequest = Request[Any, Any, Any]


def dialect(service: Service, settings: A1111Settings) -> Dialect:
    """Return the door for the application to open."""
    return Dialect(name="a1111", prefixes=PREFIXES, router=router(service, settings), reply=reply)


def router(service: Service, settings: A1111Settings) -> Router:
    """Return the routes of `/sdapi/v1` and `/internal`."""
    door = Door(service, settings)
    shown = [*_options(door), *_models(door), *_menus(door), *_empty()]
    return Router(
        "/",
        route_handlers=[
            Router(
                API, route_handlers=[*_making(door), *_telling(door), *_controlling(door), *shown, *_last(settings)]
            ),
            Router("/internal", route_handlers=_internal(door)),
            Router(
                "/controlnet", route_handlers=controlnet.handlers(door.service, door.options.values, door.addresses)
            ),
        ],
        exception_handlers={Exception: _refuse},
        request_max_body_size=settings.body_limit,
        tags=["AUTOMATIC1111"],
    )


def _refuse(_: AnyRequest, error: Exception) -> Response[bytes]:
    return to_response(reply(error))


def _null() -> Response[bytes]:
    return Response(b"null", status_code=200, media_type="application/json")


def _made(made: Made) -> Response[wire.ImagesAnswer]:
    return Response(made.answer, headers={IGNORED_HEADER: ", ".join(made.ignored)} if made.ignored else {})


def _making(door: Door) -> list[HTTPRouteHandler]:
    @post("/txt2img", status_code=200, request_class=reading(wire.Txt2Img), summary="Make pictures from a prompt")
    async def txt2img(data: JSONBody[wire.Txt2Img], request: AnyRequest) -> Response[wire.ImagesAnswer]:
        return _made(await unless_disconnected(request, door.make(data, owner_of(request), sent_in(request))))

    @post("/img2img", status_code=200, request_class=reading(wire.Img2Img), summary="Make pictures from pictures")
    async def img2img(data: JSONBody[wire.Img2Img], request: AnyRequest) -> Response[wire.ImagesAnswer]:
        return _made(await unless_disconnected(request, door.make(data, owner_of(request), sent_in(request))))

    @post(
        "/extra-single-image",
        status_code=200,
        request_class=reading(SingleExtras),
        summary="Enlarge a finished picture",
    )
    async def extra_single_image(data: JSONBody[SingleExtras], request: AnyRequest) -> SingleAnswer | BatchAnswer:
        return await unless_disconnected(request, door.extras(data, owner_of(request)))

    @post(
        "/extra-batch-images", status_code=200, request_class=reading(BatchExtras), summary="Enlarge finished pictures"
    )
    async def extra_batch_images(data: JSONBody[BatchExtras], request: AnyRequest) -> SingleAnswer | BatchAnswer:
        return await unless_disconnected(request, door.extras(data, owner_of(request)))

    return [txt2img, img2img, extra_single_image, extra_batch_images]


def _telling(door: Door) -> list[HTTPRouteHandler]:
    @post("/png-info", status_code=200, request_class=reading(wire.PngInfoRequest), summary="Read a picture's texts")
    async def png_info(data: JSONBody[wire.PngInfoRequest]) -> wire.PngInfoAnswer:
        asked = await door.addresses.fetched(data)
        return pnginfo.describe(asked.image, door.styles.all().values())

    @post(
        "/interrogate",
        status_code=200,
        request_class=reading(wire.InterrogateRequest),
        summary="Say what a picture shows",
    )
    async def interrogate(data: JSONBody[wire.InterrogateRequest], request: AnyRequest) -> wire.CaptionAnswer:
        return await unless_disconnected(request, door.caption(data, owner_of(request)))

    return [png_info, interrogate]


def _controlling(door: Door) -> list[HTTPRouteHandler]:
    @get("/progress", summary="How far the running job is")
    async def get_progress(request: AnyRequest, skip_current_image: FromQuery[bool] = False) -> wire.ProgressAnswer:
        views = pictures_of(door.service.jobs(), owner_of(request))
        between = door.runs.between(owner_of(request))
        return progress(views, door.notes, Clock.now(), with_image=not skip_current_image, between=between)

    @post("/interrupt", status_code=200, summary="Finish the running job now")
    async def interrupt(request: AnyRequest) -> dict[str, str]:
        door.end(CancelMode.STOP, owner_of(request))
        return {}

    @post("/skip", status_code=200, summary="Finish the running batch now")
    async def skip(request: AnyRequest) -> Response[bytes]:
        door.end(CancelMode.SKIP, owner_of(request))
        return _null()

    return [get_progress, interrupt, skip]


def _options(door: Door) -> list[HTTPRouteHandler]:
    @get("/options", summary="All options")
    async def get_options() -> dict[str, Any]:
        return door.shown_options()

    @post("/options", status_code=200, request_class=LenientRequest, opt=ADMIN, summary="Change options")
    async def set_options(data: JSONBody[dict[str, Any]]) -> Response[bytes]:
        await door.set_options(data)
        return _null()

    @get("/cmd-flags", summary="Start-up flags")
    async def cmd_flags() -> dict[str, Any]:
        return flags(door.settings)

    @get("/memory", summary="Memory in bytes")
    async def memory() -> wire.MemoryAnswer:
        return listings.memory(door.service.memory())

    return [get_options, set_options, cmd_flags, memory]


def _models(door: Door) -> list[HTTPRouteHandler]:
    models = door.service.models

    @get("/sd-models", summary="Checkpoints")
    async def sd_models() -> list[wire.ModelItem]:
        return listings.checkpoints(models(ModelKind.CHECKPOINT))

    @get(["/sd-vae", "/sd-modules"], summary="VAE files")
    async def sd_vae() -> list[wire.VaeItem]:
        return listings.vaes(models(ModelKind.VAE))

    @get("/loras", summary="LoRA files")
    async def loras() -> list[wire.LoraItem]:
        return listings.loras(models(ModelKind.LORA))

    @get("/embeddings", summary="Textual inversions")
    async def embeddings() -> wire.EmbeddingsAnswer:
        return listings.embeddings(models(ModelKind.EMBEDDING), door.selected())

    @get("/hypernetworks", summary="Hypernetworks")
    async def hypernetworks() -> list[wire.PathItem]:
        return listings.hypernetworks(models(ModelKind.HYPERNETWORK))

    @post("/unload-checkpoint", status_code=200, opt=ADMIN, summary="Free the checkpoints' memory")
    async def unload_checkpoint() -> dict[str, str]:
        await door.unload()
        return {}

    @post("/reload-checkpoint", status_code=200, summary="Load the current checkpoint")
    async def reload_checkpoint() -> dict[str, str]:
        await door.reload()
        return {}

    @post([*REFRESHING], status_code=200, summary="Read the model folders again")
    async def refresh() -> Response[bytes]:
        await door.service.rescan()
        return _null()

    return [sd_models, sd_vae, loras, embeddings, hypernetworks, unload_checkpoint, reload_checkpoint, refresh]


def _menus(door: Door) -> list[HTTPRouteHandler]:
    @get("/samplers", summary="Samplers")
    async def samplers() -> list[wire.SamplerItem]:
        return listings.samplers()

    @get("/schedulers", summary="Noise schedules")
    async def schedulers() -> list[wire.SchedulerItem]:
        return listings.schedulers()

    @get("/upscalers", summary="Upscalers")
    async def upscalers() -> list[wire.UpscalerItem]:
        return listings.upscalers(door.workshop.upscalers())

    @get("/latent-upscale-modes", summary="Latent upscalers")
    async def latent_upscale_modes() -> list[wire.NameItem]:
        return listings.latent_upscalers()

    @get("/prompt-styles", summary="Styles")
    async def prompt_styles() -> list[wire.StyleItem]:
        return listings.styles(door.styles.all())

    @get("/realesrgan-models", summary="Real-ESRGAN models")
    async def realesrgan_models() -> list[wire.ScaledModelItem]:
        return listings.realesrgan_models(door.workshop.upscalers())

    @get("/scripts", summary="Scripts")
    async def scripts() -> wire.ScriptsAnswer:
        return wire.ScriptsAnswer(txt2img=table.titles("txt2img"), img2img=table.titles("img2img"))

    @get("/script-info", summary="Scripts and their arguments")
    async def script_info() -> list[table.Info]:
        return table.infos([one.name for one in door.workshop.upscalers()])

    return [
        *(samplers, schedulers, upscalers, latent_upscale_modes, prompt_styles),
        *(realesrgan_models, scripts, script_info),
    ]


def _empty() -> list[HTTPRouteHandler]:
    @get("/face-restorers", summary="Face restorers: none yet")
    async def face_restorers() -> list[wire.FaceRestorerItem]:
        return []

    @get("/extensions", summary="Extensions: none")
    async def extensions() -> list[dict[str, Any]]:
        return []

    return [face_restorers, extensions]


def _last(settings: A1111Settings) -> list[HTTPRouteHandler]:
    """Return what is refused, and what may end the server."""

    @post([*NOT_OFFERED], status_code=501, summary="Not offered yet")
    async def not_offered(request: AnyRequest) -> None:
        raise NotHere.of(NOT_OFFERED[request.url.path.removeprefix(API).rstrip("/")])

    return [not_offered, *ending.handlers(settings)]


def _internal(door: Door) -> list[HTTPRouteHandler]:
    @get("/ping", summary="Is anybody there")
    async def ping() -> dict[str, str]:
        return {}

    @post(
        "/progress",
        status_code=200,
        request_class=reading(wire.TaskProgressRequest),
        summary="How far the job with a client's task id is",
    )
    async def get_task_progress(data: JSONBody[wire.TaskProgressRequest], request: AnyRequest) -> wire.TaskProgress:
        views = pictures_of(door.service.jobs(), owner_of(request))
        return task_progress(views, data, door.notes, Clock.now(), between=door.runs.between(owner_of(request)))

    @get("/pending-tasks", summary="Task ids that wait")
    async def pending_tasks(request: AnyRequest) -> dict[str, Any]:
        views = pictures_of(door.service.jobs(), owner_of(request))
        tasks = [view.tag for view in views if view.state is JobState.WAITING and view.tag]
        return {"size": len(tasks), "tasks": tasks}

    @get(["/sysinfo", "/sysinfo-download"], media_type="text/plain", summary="Facts for bug reports")
    async def get_sysinfo() -> str:
        return sysinfo(door.settings, door.service.memory())

    @get("/file", summary="A saved picture; clients call it /file=PATH")
    async def get_file(name: FromQuery[str]) -> Response[bytes]:
        return await asyncio.to_thread(_file, door.workshop.folder, name)

    return [ping, get_task_progress, pending_tasks, get_sysinfo, get_file]


def _file(folder: OutputFolder | None, name: str) -> Response[bytes]:
    if folder is None:
        raise NotFoundException
    try:
        path = folder.find(name)
        return Response(path.read_bytes(), media_type=MEDIA_TYPES[path.suffix.lower()])
    except (UnknownModel, OSError):
        raise NotFoundException from None
