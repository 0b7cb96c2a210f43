"""Flags of A1111's own command line that `hearth serve` takes: what they set here, or why they do nothing.

People bring their start scripts along. A flag either becomes keys of the configuration or is answered with a word; one
that is not in the table is refused like any other unknown flag.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

Settings = Mapping[str, Any]
"""Values by dotted keys of the configuration."""

FLOAT32: Settings = {"image.dtype": "float32", "image.vae_dtype": "float32"}

BY_ITSELF = "attention is chosen by itself"
SAFE_ANYHOW = "pickles are read without running anything in them, and only with [image] allow_pickle"


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """A flag: what it sets, or what it sets with a value (`with_value`), and the word to say when it does nothing.

    `choices` are the values it takes, empty = any; `many` takes several.
    """

    name: str
    sets: dict[str, Any] = {}
    with_value: Callable[[str], Settings] | None = None
    choices: tuple[str, ...] = ()
    many: bool = False
    word: str = ""


class Told(NamedTuple):
    """What flags set, and words on those that do nothing."""

    settings: dict[str, Any]
    words: tuple[str, ...]


def _precision(value: str) -> Settings:
    return {"full": FLOAT32, "half": {"image.dtype": "float16"}}.get(value, {})


def _cpu(value: str) -> Settings:
    return {"image.device": "cpu"} if value in ("all", "sd") else {}


def _device(value: str) -> Settings:
    return {"image.device": f"cuda:{value}"}


def _vae(value: str) -> Settings:
    return {"image.vae": value}


def _checkpoint(value: str) -> Settings:
    return {"models.default_image": value.replace("\\", "/").rsplit("/", 1)[-1]}


def _ignored(word: str, *names: str) -> tuple[Flag, ...]:
    return tuple(Flag(name=name, word=word) for name in names)


FLAGS: tuple[Flag, ...] = (
    Flag(name="--medvram", sets={"image.offload": "medium"}),
    Flag(name="--lowvram", sets={"image.offload": "low"}),
    Flag(name="--medvram-sdxl", sets={"image.sdxl_offload": "medium"}),
    Flag(name="--precision", with_value=_precision, choices=("full", "half", "autocast")),
    Flag(name="--no-half", sets=dict(FLOAT32)),
    Flag(name="--no-half-vae", sets={"image.vae_dtype": "float32"}),
    Flag(name="--use-cpu", with_value=_cpu, many=True),
    Flag(name="--device-id", with_value=_device),
    Flag(name="--vae-path", with_value=_vae),
    Flag(name="--ckpt", with_value=_checkpoint),
    Flag(name="--listen", sets={"server.host": "0.0.0.0"}),
    Flag(name="--api-server-stop", sets={"a1111.server_stop": True}),
    *_ignored("samplers compute in float32 anyhow", "--upcast-sampling"),
    *_ignored(
        BY_ITSELF,
        *("--xformers", "--force-enable-xformers", "--xformers-flash-attention", "--opt-sdp-attention"),
        *("--opt-sdp-no-mem-attention", "--opt-split-attention", "--opt-split-attention-v1"),
        *("--opt-split-attention-invokeai", "--opt-sub-quad-attention", "--disable-opt-split-attention"),
    ),
    *_ignored("memory layout is chosen by itself", "--opt-channelslast"),
    *_ignored("the API is always there", "--api", "--nowebui"),
    *_ignored("results without numbers are always told", "--disable-nan-check"),
    *_ignored(SAFE_ANYHOW, "--disable-safe-unpickle"),
    *_ignored("there is no such test", "--skip-torch-cuda-test", "--skip-version-check", "--skip-python-version-check"),
    *_ignored("models are loaded when they are asked for", "--lowram", "--no-hashing", "--no-download-sd-model"),
)


def add_to(parser: argparse.ArgumentParser) -> None:
    """Let a parser take the flags."""
    group = parser.add_argument_group("flags of AUTOMATIC1111's web UI", "as in its start scripts; see --help there")
    for flag in FLAGS:
        options: dict[str, Any] = {"dest": _dest(flag), "default": None}
        if flag.with_value is None:
            options |= {"action": "store_true"}
        else:
            options |= {"choices": flag.choices or None, "nargs": "+" if flag.many else None}
        group.add_argument(flag.name, **options)


def told(options: argparse.Namespace) -> Told:
    """Return what the flags given set; later ones of the table win over earlier ones."""
    settings: dict[str, Any] = {}
    words = []
    for flag in FLAGS:
        value = getattr(options, _dest(flag), None)
        if not value:
            continue
        settings |= flag.sets
        if flag.with_value is not None:
            settings |= _of_values(flag.with_value, value)
        if flag.word:
            words.append(f"{flag.name} does nothing here: {flag.word}")
    return Told(settings, tuple(words))


def _of_values(read: Callable[[str], Settings], value: str | Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in [value] if isinstance(value, str) else value:
        found |= read(each)
    return found


def _dest(flag: Flag) -> str:
    return "a1111_" + flag.name.removeprefix("--").replace("-", "_")
