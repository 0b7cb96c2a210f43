"""`/controlnet/*`: what clients ask the extension before they send units, and maps made without a picture."""

import base64
from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, JSONBody

from compat.a1111.addresses import Addresses
from compat.a1111.body import reading
from compat.a1111.controlnet import models, modules, wire
from compat.a1111.controlnet.networks import Have, network_of
from compat.a1111.controlnet.units import unit_count
from compat.a1111.encoded import MOST_BYTES, picture
from compat.a1111.lenient import BODY, Problem, Unreadable
from compat.a1111.options import OptionValues
from compat.a1111.refusals import Refused, bad_image
from server.core.errors import BadImage, InvalidValue
from server.core.image import ImageReady
from server.core.models import ModelKind
from server.core.pixels import BUILT_IN, MapRequest, PixelWork, PoseRequest
from server.http.auth import owner_of
from server.http.disconnect import unless_disconnected
from server.service.service import Service

VERSION = 3
"""Of the extension's API since 1.1.448."""

AnyRequest = Request[Any, Any, Any]


def handlers(service: Service, options: Callable[[], OptionValues], addresses: Addresses) -> list[HTTPRouteHandler]:
    """Return the handlers below `/controlnet`."""
    return [*_asking(service, options), *_making(service, addresses)]


def _asking(service: Service, options: Callable[[], OptionValues]) -> list[HTTPRouteHandler]:
    @get("/version", summary="Version of the ControlNet API")
    async def version() -> wire.VersionAnswer:
        return wire.VersionAnswer(version=VERSION)

    @get("/model_list", summary="Control models")
    async def model_list(update: FromQuery[bool] = False) -> wire.ModelList:
        if update:
            await service.rescan()
        return wire.ModelList(model_list=list(models.titled(service.models(ModelKind.CONTROLNET))))

    @get("/module_list", summary="Preprocessors")
    async def module_list(alias_names: FromQuery[bool] = False) -> wire.ModuleList:
        return modules.listing(have(service), labels=alias_names)

    @get("/control_types", summary="Preprocessors and control models by type")
    async def control_types() -> wire.ControlTypes:
        return models.control_types(service.models(ModelKind.CONTROLNET))

    @get("/settings", summary="How many units a request may have")
    async def settings() -> wire.SettingsAnswer:
        return wire.SettingsAnswer(control_net_unit_count=unit_count(options()))

    return [version, model_list, module_list, control_types, settings]


def _making(service: Service, addresses: Addresses) -> list[HTTPRouteHandler]:
    @post("/detect", status_code=200, request_class=reading(wire.DetectRequest), summary="Make maps of pictures")
    async def detect(data: JSONBody[wire.DetectRequest], request: AnyRequest) -> wire.PicturesAnswer:
        work = to_core(await addresses.fetched(data), have(service))
        return await unless_disconnected(request, _answered(service, work, owner_of(request)))

    @post("/render_openpose_json", status_code=200, summary="Draw poses")
    async def render_openpose_json(request: AnyRequest) -> wire.PicturesAnswer:
        poses = read_poses(await request.body())
        if not poses:
            return wire.PicturesAnswer(info="No pose data detected.")
        work = PoseRequest(poses=poses)
        return await unless_disconnected(request, _answered(service, work, owner_of(request)))

    return [detect, render_openpose_json]


def have(service: Service) -> Have:
    """Return what is on disk for preprocessors."""
    encoders = service.models(ModelKind.IMAGE_ENCODER)
    return Have(
        sees=any(card.broken is None for card in encoders), annotators=tuple(service.models(ModelKind.ANNOTATOR))
    )


def to_core(data: wire.DetectRequest, there: Have) -> MapRequest:
    """Return the work of a `detect`; `there` is what is on disk for it.

    Raises:
        Refused: in the extension's words, for a module or a picture that is none.
        InvalidValue: the pictures are too large.
    """
    module = modules.find(data.controlnet_module)
    if module is None:
        raise Refused.http("Module not available")
    if module.name in modules.UNSUPPORTED or module.looks:
        raise Refused.http("Module not supported")
    reason = modules.reason(module, there)
    if reason:
        raise Refused.http(f"Module not available: {reason}")
    texts = data.controlnet_input_images or data.controlnet_images
    if not texts:
        raise Refused.http("No image selected")
    if module.needs_mask and not data.controlnet_masks:
        raise Refused.http(f"Preprocessor {module.name} requires `controlnet_masks` param.")
    files = tuple(picture(text) for text in texts)
    masks = tuple(picture(text) for text in data.controlnet_masks) if module.needs_mask else ()
    if sum(map(len, (*files, *masks))) > MOST_BYTES:
        raise InvalidValue.of("controlnet_input_images", f"the pictures are more than {MOST_BYTES} bytes together")
    resolution = modules.resolution_of(module, data.controlnet_processor_res)
    a = modules.threshold_of(module, 0, data.controlnet_threshold_a)
    b = modules.threshold_of(module, 1, data.controlnet_threshold_b)
    card = network_of(module.name, there)
    return MapRequest(
        pictures=files,
        masks=masks,
        preprocessing=modules.preprocessing(module, there, resolution=resolution, thresholds=(a, b)),
        model=BUILT_IN if card is None else card.id,
    )


def read_poses(body: bytes) -> tuple[bytes, ...]:
    """Return the JSON texts in a list of poses; raise Unreadable when it is no list."""
    try:
        found = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        raise Unreadable([Problem(loc=[BODY], msg="value is not a valid list", type="type_error.list")]) from None
    return tuple(bytes(one) for one in found)


async def _answered(service: Service, work: PixelWork, owner: str) -> wire.PicturesAnswer:
    pictures: list[ImageReady] = []
    try:
        async with service.submit(work, owner=owner) as stream:
            async for event in stream:
                if isinstance(event, ImageReady):
                    pictures.append(event)
    except BadImage as error:
        raise bad_image(error) from None
    return wire.PicturesAnswer(
        info="Success", images=[base64.b64encode(one.png).decode("ascii") for one in sorted(pictures, key=_place)]
    )


def _place(picture: ImageReady) -> int:
    return picture.index
