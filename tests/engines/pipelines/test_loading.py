"""How folders and files of later families are loaded, and refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from server.core.errors import LoadFailed, ServerError
from server.core.image import (
    Size,
)
from server.core.jobs import JobId
from server.core.models import ImageSettings
from server.engines.image.offload import move
from server.engines.image.pipelines import engine as engines_
from server.engines.image.pipelines.engine import PipelineEngine
from tests.support.golden_images import difference, pictures
from tests.support.tiny_pipeline_engines import (
    asked,
    changed,
    engine_of,
    every,
    few,
    flux,
)

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # diffusers' own, of names it will rename
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


class TestLoading:
    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"_class_name": "WanPipeline"}, "makes videos"),
            ({"_class_name": "FluxFillPipeline"}, "none from a prompt alone"),
            ({"_class_name": "NoSuchPipeline"}, "lacks"),
            ({"_class_name": ["pipeline.py", "Mine"]}, "lacks"),
            ({"_class_name": "FluxTransformer2DModel"}, "needs packages"),
            ({"scheduler": ["os", "system"]}, "diffusers and transformers alone"),
            ({"tokenizer": ["transformers", "NoSuchTokenizer"]}, "lacks"),
            ({"tokenizer": ["transformers", "utils.logging"]}, "lacks"),
        ],
    )
    def test_an_index_that_names_something_else_is_refused(
        self, models: Callable[[str], Path], tmp_path: Path, changes: dict[str, Any], sentence: str
    ) -> None:
        copy = Path(shutil.copytree(models("flux").parent, tmp_path / "x")) / "model_index.json"
        changed(copy, **changes)
        with pytest.raises(LoadFailed, match=sentence):
            engine_of(copy)

    @pytest.mark.parametrize(
        ("gone", "sentence"),
        [
            ("transformer/diffusion_pytorch_model.safetensors", "lacks transformer/diffusion_pytorch_model"),
            ("transformer/config.json", "lacks transformer/config.json"),
            ("text_encoder_2/model.safetensors", "lacks text_encoder_2/model"),
            ("tokenizer_2/tokenizer.json", "tokenizer_2"),
            ("scheduler/scheduler_config.json", "lacks scheduler/scheduler_config.json"),
        ],
    )
    def test_what_a_folder_lacks_is_named(
        self, models: Callable[[str], Path], tmp_path: Path, gone: str, sentence: str
    ) -> None:
        copy = Path(shutil.copytree(models("flux").parent, tmp_path / "x"))
        (copy / gone).unlink()
        with pytest.raises(LoadFailed, match=sentence):
            engine_of(copy / "model_index.json")

    def test_weights_of_another_shape_are_refused(self, models: Callable[[str], Path], tmp_path: Path) -> None:
        copy = Path(shutil.copytree(models("flux").parent, tmp_path / "x"))
        changed(copy / "transformer" / "config.json", num_layers=3)
        with pytest.raises(LoadFailed, match="transformer of the checkpoint lacks"):
            engine_of(copy / "model_index.json")

    def test_quantised_weights_are_refused(self, models: Callable[[str], Path], tmp_path: Path) -> None:
        copy = Path(shutil.copytree(models("flux").parent, tmp_path / "x"))
        changed(copy / "transformer" / "config.json", quantization_config={"quant_method": "bitsandbytes"})
        with pytest.raises(LoadFailed, match="quantised"):
            engine_of(copy / "model_index.json")

    @every
    def test_the_footprint_holds_all_weights_and_some_work(
        self, engine: PipelineEngine, family: str, models: Callable[[str], Path]
    ) -> None:
        weights = sum(path.stat().st_size for path in models(family).parent.glob("*/*.safetensors"))
        (pool,) = engine.facts.footprint.resident
        assert engine.facts.footprint.resident[pool] > weights
        assert engine.facts.footprint.working[pool] > 0

    @flux
    def test_a_picture_that_does_not_fit_is_refused(self, models: Callable[[str], Path], family: str) -> None:
        small = engine_of(models(family), memory_limit=1024**3)
        with pytest.raises(ServerError, match="to work in"):
            small.submit(JobId("big"), asked(size=Size(8192, 8192), batch_size=8))
        small.close()


class TestMemoryModes:
    @few
    @pytest.mark.parametrize("offload", ["medium", "low"])
    def test_parts_take_turns_and_the_picture_is_the_same(
        self,
        engine: PipelineEngine,
        models: Callable[[str], Path],
        family: str,
        offload: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        moves: list[tuple[str, str]] = []
        choose = engines_.placement.choose

        def chosen(settings: ImageSettings, mode: Any = "none") -> Any:
            place = choose(settings, "none")
            return engines_.Placement(device=place.device, precision=place.precision, offload=offload, moving=moving)

        def moving(module: torch.nn.Module, device: torch.device) -> None:
            moves.append((type(module).__name__, str(device)))
            move(module, device)

        monkeypatch.setattr(engines_.placement, "choose", chosen)
        other = engine_of(models(family))
        (made,) = pictures(other, asked())
        other.close()
        assert difference(made, pictures(engine, asked())[0]).largest == 0
        names = [name for name, _ in moves]
        assert len(moves) > 2
        assert any("Autoencoder" in name for name in names)
        assert ("Transformer2DModel" in "".join(names)) == (offload == "medium")


class TestSingleFiles:
    def test_a_files_transformer_works_with_the_rest_of_a_folder(
        self, models: Callable[[str], Path], tmp_path: Path, engines: Callable[[str], PipelineEngine]
    ) -> None:
        file = tmp_path / "z.safetensors"
        save_file(single_file_names(load_file(models("z-image").parent / "transformer" / WEIGHTS)), file)
        engine = engine_of(file, spares={"z-image": str(models("z-image").parent)})
        (ours,) = pictures(engine, asked())
        engine.close()
        assert difference(ours, pictures(engines("z-image"), asked())[0]).largest == 0

    def test_without_a_folder_it_is_said_what_to_name(self, models: Callable[[str], Path], tmp_path: Path) -> None:
        file = tmp_path / "z.safetensors"
        save_file(single_file_names(load_file(models("z-image").parent / "transformer" / WEIGHTS)), file)
        with pytest.raises(LoadFailed, match=r"image.spares\] z-image"):
            engine_of(file)
        with pytest.raises(LoadFailed, match="is of the family flux"):
            engine_of(file, spares={"z-image": str(models("flux").parent)})


WEIGHTS = "diffusion_pytorch_model.safetensors"


def single_file_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a Z-Image transformer as single files have it: queries, keys and values in one, other names."""
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith((".to_k.weight", ".to_v.weight")):
            continue
        if name.endswith(".to_q.weight"):
            whole = [tensors[name.replace("to_q", part)] for part in ("to_q", "to_k", "to_v")]
            renamed[name.replace("to_q", "qkv")] = torch.cat(whole)
            continue
        for new, old in (
            ("final_layer.", "all_final_layer.2-1."),
            ("x_embedder.", "all_x_embedder.2-1."),
            (".attention.out.", ".attention.to_out.0."),
            (".attention.k_norm.", ".attention.norm_k."),
            (".attention.q_norm.", ".attention.norm_q."),
        ):
            name = name.replace(old, new)
        renamed[name] = tensor.contiguous()
    return {f"model.diffusion_model.{name}": tensor for name, tensor in renamed.items()}
