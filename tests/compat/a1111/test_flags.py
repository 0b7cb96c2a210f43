"""Flags of A1111's start scripts at the command line of this server."""

import argparse

import pytest

from compat.a1111 import flags
from server import cli
from server.config import Config


def told(*arguments: str) -> flags.Told:
    parser = argparse.ArgumentParser()
    flags.add_to(parser)
    return flags.told(parser.parse_args(arguments))


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ("--medvram", {"image.offload": "medium"}),
        ("--lowvram", {"image.offload": "low"}),
        ("--medvram --lowvram", {"image.offload": "low"}),
        ("--medvram-sdxl", {"image.sdxl_offload": "medium"}),
        ("--precision full", {"image.dtype": "float32", "image.vae_dtype": "float32"}),
        ("--precision half", {"image.dtype": "float16"}),
        ("--precision autocast", {}),
        ("--no-half", {"image.dtype": "float32", "image.vae_dtype": "float32"}),
        ("--no-half-vae", {"image.vae_dtype": "float32"}),
        ("--precision half --no-half-vae", {"image.dtype": "float16", "image.vae_dtype": "float32"}),
        ("--use-cpu all", {"image.device": "cpu"}),
        ("--use-cpu interrogate gfpgan", {}),
        ("--device-id 1", {"image.device": "cuda:1"}),
        ("--vae-path a/b.safetensors", {"image.vae": "a/b.safetensors"}),
        ("--ckpt models/x.safetensors", {"models.default_image": "x.safetensors"}),
        ("--listen", {"server.host": "0.0.0.0"}),
        ("", {}),
    ],
)
def test_what_flags_set(arguments: str, settings: dict[str, object]) -> None:
    assert told(*arguments.split()) == (settings, ())


@pytest.mark.parametrize(
    "flag", ["--upcast-sampling", "--xformers", "--opt-sdp-attention", "--opt-channelslast", "--api"]
)
def test_what_does_nothing_is_said(flag: str) -> None:
    settings, (word,) = told(flag)
    assert settings == {}
    assert word.startswith(f"{flag} does nothing")


def test_every_flag_sets_something_or_says_a_word() -> None:
    assert [flag.name for flag in flags.FLAGS if not (flag.sets or flag.with_value or flag.word)] == []
    assert len({flag.name for flag in flags.FLAGS}) == len(flags.FLAGS)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    configs: list[Config] = []

    def serve(config: Config, options: argparse.Namespace) -> int:
        configs.append(config)
        return 0

    monkeypatch.setattr(cli, "_serve", serve)
    return configs


def test_the_command_takes_them(served: list[Config], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["serve", "--config", "/dev/null", "--medvram", "--no-half-vae", "--opt-split-attention", "--port", "7"]
    assert cli.main(arguments) == 0
    (config,) = served
    assert (config.image.offload, config.image.vae_dtype, config.server.port) == ("medium", "float32", 7)
    assert "--opt-split-attention does nothing" in capsys.readouterr().err


def test_our_own_flags_win(served: list[Config]) -> None:
    for more in ([], ["--host", "127.0.0.2"]):
        assert cli.main(["serve", "--config", "/dev/null", "--listen", *more]) == 0
    assert [config.server.host for config in served] == ["0.0.0.0", "127.0.0.2"]


@pytest.mark.parametrize(
    "arguments", [["serve", "--medvrum"], ["models", "--medvram"], ["serve", "--precision", "low"]]
)
def test_others_are_refused(served: list[Config], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert served == []
