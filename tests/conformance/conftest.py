"""One running server for all programs that make pictures: torch takes seconds to start, in every worker anew.

A test sets the options that it needs and leaves them good for others; models that others loaded may be there.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running import Running
from tests.support.tiny_models import tiny_models

CONFIG = """
[text]
context = 16384
slots = 2
threads = 1
[image]
device = "cpu"
threads = 1
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("conformance")
    models = tiny_models(folder / "models", text=("tiny",), checkpoints=("paint", "sketch"), context=16384)
    _add_controls(models)
    _add_upscalers(models)
    _add_annotators(models)
    with Running(models, folder / "run", config=CONFIG) as running:
        yield running


def _add_controls(models: Path) -> None:
    """Write ControlNets for two families, and an IP-Adapter with its encoder."""
    from tests.support import tiny_ip_adapter
    from tests.support.tiny_controlnet import write_tiny_controlnet

    folder = models / "ControlNet"
    folder.mkdir()
    write_tiny_controlnet(folder / "control_v11p_sd15_canny.safetensors")
    write_tiny_controlnet(folder / "for_sd2.safetensors", text=24)
    tiny_ip_adapter.write(folder / "ip-adapter_sd15.safetensors", tiny_ip_adapter.adapter_tensors())
    tiny_ip_adapter.write(models / "clip_vision" / "seer.safetensors", tiny_ip_adapter.encoder_tensors())


def _add_upscalers(models: Path) -> None:
    """Write three networks that enlarge, one of them pickled."""
    from tests.support.tiny_upscaler import rrdb_state, write_upscaler

    write_upscaler(models / "ESRGAN", "4x-tiny")
    write_upscaler(models / "RealESRGAN", "RealESRGAN_x2plus", rrdb_state(fold=2))
    write_upscaler(models / "ESRGAN", "4x-pickled", wrapper="params")


def _add_annotators(models: Path) -> None:
    """Write a network for depth, and where A1111 has it one for soft edges."""
    from tests.support.tiny_annotators import tiny_dpt, write_folder, write_hed

    write_folder(models / "annotators" / "dpt-tiny", tiny_dpt(), '{"size": 32}')
    downloads = models.parent / "extensions" / "sd-webui-controlnet" / "annotator" / "downloads"
    write_hed(downloads / "hed" / "ControlNetHED.safetensors")
