"""The `hearth` command: each verb is a few lines over the rooms."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from server.config import EXIT_BAD_CONFIG, Config, ConfigError, read_config
from server.core.errors import ServerError
from server.core.memory import readable
from server.core.models import ModelCard, ModelKind

EPILOG = "Settings come from config.toml (or --config FILE, or $HEARTH_CONFIG); see config.example.toml."

PULLED_KINDS = ("text", "checkpoint", "lora", "vae", "embedding", "controlnet", "upscaler")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 well, 1 failed, 2 wrong usage, 78 wrong configuration."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser(given).parse_args(given)
    try:
        config = read_config(options.config, flags=_flags(options))
        run: Callable[[Config, argparse.Namespace], int] = options.run
        return run(config, options)
    except ConfigError as error:
        print(f"hearth: {error}", file=sys.stderr)
        return EXIT_BAD_CONFIG
    except ServerError as error:
        print(f"hearth: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser; foreign flags are known to `serve` alone, and looked up when it is asked for."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")
    common.add_argument("--models", action="append", metavar="DIR", help="models folder; may be given more than once")
    common.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    parser = argparse.ArgumentParser(
        prog="hearth", description="One local server for chat and pictures.", epilog=EPILOG
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run: Callable[[Config, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, parents=[common], help=text, description=text, epilog=EPILOG)
        made.set_defaults(run=run)
        return made

    serving = verb("serve", _serve, "start the server")
    serving.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    serving.add_argument("--port", type=int, metavar="N", help="port to listen on (default 7860)")
    serving.add_argument(
        "--starter", action="store_const", const="always", help="list the starter models beside others, too"
    )
    serving.add_argument("--allow-host", action="append", metavar="NAME", help="a further name of this server")
    serving.add_argument("--allow-origin", action="append", metavar="URL", help="a web page that may call this server")
    if "serve" in given:
        from compat.a1111 import flags

        flags.add_to(serving)
    listing = verb("models", _models, "list the models that are found")
    listing.add_argument("--tidy", action="store_true", help="remove converted files of models that are gone")
    verb("check", _check, "read the configuration and the model folders and say what is wrong")
    verb("devices", _devices, "list the devices and their memory")
    pulling = verb("pull", _pull, "fetch a model from the hub into the models folder")
    pulling.add_argument("repo", metavar="REPO[:QUANT]", help="for example Qwen/Qwen3-4B-GGUF:Q4_K_M")
    pulling.add_argument("--kind", choices=PULLED_KINDS, help="what it is, if that is unclear")
    pulling.add_argument("--no-mmproj", action="store_true", help="leave out the projector, with which a model sees")
    describing = verb("openapi", _openapi, "print the descriptions of the doors, or write them")
    describing.add_argument("--write", type=Path, metavar="DIR", help="write one file a door into this folder")
    return parser


def _flags(options: argparse.Namespace) -> dict[str, object]:
    own = {
        "models.folders": options.models,
        "server.log_level": options.log_level,
        "server.host": getattr(options, "host", None),
        "server.port": getattr(options, "port", None),
        "models.starter": getattr(options, "starter", None),
        "server.allowed_hosts": getattr(options, "allow_host", None),
        "server.allowed_origins": getattr(options, "allow_origin", None),
    }
    return _foreign(options) | {key: value for key, value in own.items() if value is not None}


def _foreign(options: argparse.Namespace) -> dict[str, object]:
    """Return what foreign flags of `serve` set, and say which do nothing."""
    if options.run is not _serve:
        return {}
    from compat.a1111 import flags

    settings, words = flags.told(options)
    for word in words:
        print(f"hearth: {word}", file=sys.stderr)
    return settings


def _serve(config: Config, _: argparse.Namespace) -> int:
    from server import logs
    from server.app import House
    from server.serve import CannotListen, serve

    logs.set_up(config.server.log_level)
    try:
        return serve(House(config), say=lambda text: print(text, flush=True))
    except CannotListen as error:
        print(f"hearth: {error}", file=sys.stderr)
        return 1


def _models(config: Config, options: argparse.Namespace) -> int:
    from server.app import make_catalog

    catalog = make_catalog(config)
    catalog.scan()
    for card in catalog.cards():
        note = f"  BROKEN: {card.broken}" if card.broken else ""
        print(f"{card.kind:<13} {readable(card.size):>10}  {card.id}  [{_described(card)}]{note}")
    _converted(config, catalog.cards(), tidy=options.tidy)
    return 0


def _described(card: ModelCard) -> str:
    """Return a model's architecture, and in which container of 2023 it lies if it does."""
    from server.core.ggml.types import ERAS

    container = card.text.container if card.text is not None else ""
    old = f", GGML: {container} of {ERAS[container]}" if container else ""
    return f"{card.architecture or '-'}{old}"


def _converted(config: Config, cards: Sequence[ModelCard], *, tidy: bool) -> None:
    """Say how much the files take that models of 2023 were converted to; remove those of models that are gone."""
    from server.app import converted_folder
    from server.registry.legacy import conversions, orphans, remove

    folder = converted_folder(config)
    if made := list(conversions(folder)):
        print(f"converted from GGML: {len(made)} files, {readable(sum(each.size for each in made))} in {folder}")
    lost = orphans(folder, cards)
    away = [name for name in config.models.folders if not Path(name).expanduser().is_dir()]
    if lost and tidy and away:
        print(f"nothing is removed while the models folder {away[0]} is not there")
    elif lost and tidy:
        print(f"removed {len(lost)} of them that belong to no model: {readable(remove(lost))}")
    elif lost:
        print(f"{len(lost)} of them belong to no model any more; --tidy removes them")


def _check(config: Config, _: argparse.Namespace) -> int:
    from server.inspection import problems

    count = 0
    for problem in problems(config):
        print(problem)
        count += 1
    print(f"{count} problems found" if count else "all is well")
    return 1 if count else 0


def _devices(_: Config, __: argparse.Namespace) -> int:
    from server.registry.devices import find_devices

    for device in find_devices():
        print(f"{device.id:<8} {device.backend:<7} {readable(device.total):>10} of {device.pool:<7} {device.name}")
    return 0


def _pull(config: Config, options: argparse.Namespace) -> int:
    from server.app import state_folder
    from server.registry.hashes import HashCache
    from server.registry.hub import hub_source, pull

    folder = Path(config.models.folders[0]).expanduser()
    state = state_folder(config)
    progress = _Progress()
    pulled = pull(
        options.repo,
        folder,
        hub_source(),
        kind=ModelKind(options.kind) if options.kind else None,
        projector=not options.no_mmproj,
        progress=progress.show,
        hashes=HashCache(state / "hashes.json" if state else None),
    )
    progress.end()
    for note in pulled.notes:
        print(f"note: {note}")
    for path in pulled.files:
        print(f"{'ready' if path in pulled.fresh else 'there already'}: {path}")
    return 0


class _Progress:
    """One line on a terminal that is written over; on a pipe, a line every tenth part."""

    def __init__(self) -> None:
        self._last = -1

    def show(self, done: int, total: int, name: str) -> None:
        percent = 100 * done // total if total else 0
        live = sys.stderr.isatty()
        if percent == self._last or (not live and percent // 10 == self._last // 10):
            return
        self._last = percent
        bar = "#" * (percent // 4)
        text = f"{name}  [{bar:<25}] {percent:3d} %  {readable(done)} of {readable(total)}"
        print(f"\r{text}" if live else text, end="" if live else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._last >= 0 and sys.stderr.isatty():
            print(file=sys.stderr)


def _openapi(config: Config, options: argparse.Namespace) -> int:
    from server.inspection import descriptions

    for name, text in descriptions(config).items():
        if options.write is None:
            print(text)
        else:
            options.write.mkdir(parents=True, exist_ok=True)
            (options.write / f"{name}.json").write_text(text, encoding="utf-8")
    return 0
