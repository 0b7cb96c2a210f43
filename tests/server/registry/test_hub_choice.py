"""Which files are wanted: the rules, without a network."""

import pytest

from server.core.errors import CannotServe, InvalidValue, Unsupported
from server.registry.hub_choice import (
    QUANT_BITS,
    RemoteFile,
    Wanted,
    choose,
    choose_projector,
    parse_name,
    projector_name,
    quant_of,
)
from server.registry.projectors import base_name


def files(*paths):
    return [RemoteFile(path=path, size=1) for path in paths]


def chosen(choice, *paths):
    return [file.path for file in choose(Wanted("org/repo", choice), files(*paths))]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("org/repo", Wanted("org/repo")),
        ("org/repo:Q8_0", Wanted("org/repo", "Q8_0")),
        ("hf.co/org/repo:q4_k_m", Wanted("org/repo", "q4_k_m")),
        ("https://huggingface.co/org/repo-1.5_x", Wanted("org/repo-1.5_x")),
        ("gpt2", Wanted("gpt2")),
    ],
)
def test_names_of_repositories(text, wanted):
    assert parse_name(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "org/repo:",
        "../x",
        "org/../x",
        "a/b/c",
        "/etc/passwd",
        "org/re po",
        "org/re\x00po",
        "http://evil/x",
        "org//x",
        "C:\\x",
        "org/repo?x=1",
        "-x/y",
        "org/" + "x" * 200,
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(InvalidValue):
        parse_name(text)


@pytest.mark.parametrize(
    ("path", "quant"),
    [
        ("model.Q4_K_M.gguf", "Q4_K_M"),
        ("Llama-3.2-1B-Instruct-Q8_0.gguf", "Q8_0"),
        ("model-UD-Q4_K_XL.gguf", "Q4_K_XL"),
        ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("x-IQ3_XXS-00001-of-00003.gguf", "IQ3_XXS"),
        ("BF16/model-00001-of-00002.gguf", "BF16"),
        ("model-f16.gguf", "F16"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("model.gguf", ""),
        ("Q4_model.gguf", ""),
    ],
)
def test_quantisations_in_names(path, quant):
    assert quant_of(path) == quant


@pytest.mark.parametrize("quant", sorted(QUANT_BITS))
def test_every_known_quantisation_is_read_whole(quant):
    assert quant_of(f"m-{quant}.gguf") == quant_of(f"m.{quant.lower()}.gguf") == quant


def test_the_default_quantisation_and_its_nearest():
    assert chosen("", "a.Q2_K.gguf", "a.Q4_K_M.gguf", "a.Q8_0.gguf") == ["a.Q4_K_M.gguf"]
    assert chosen("", "a.Q2_K.gguf", "a.Q5_K_M.gguf", "a.Q8_0.gguf") == ["a.Q5_K_M.gguf"]
    assert chosen("", "a.F16.gguf", "a.Q8_0.gguf") == ["a.Q8_0.gguf"]
    assert chosen("", "unnamed.gguf") == ["unnamed.gguf"]


def test_a_named_quantisation_is_taken_in_any_case_and_a_missing_one_tells_what_there_is():
    assert chosen("q8_0", "a.Q4_K_M.gguf", "a.Q8_0.gguf") == ["a.Q8_0.gguf"]
    assert chosen("UD-Q4_K_XL", "a.Q4_K_M.gguf", "a-UD-Q4_K_XL.gguf") == ["a-UD-Q4_K_XL.gguf"]
    with pytest.raises(InvalidValue, match="it has Q4_K_M, Q8_0"):
        chosen("Q6_K", "a.Q4_K_M.gguf", "a.Q8_0.gguf")


def test_projectors_are_not_chosen():
    assert chosen("", "mmproj-model-f16.gguf", "a.Q8_0.gguf") == ["a.Q8_0.gguf"]


@pytest.mark.parametrize(
    ("model", "beside", "projector"),
    [
        ("gemma-3-4b-it-Q4_K_M.gguf", ("mmproj-F16.gguf", "mmproj-BF16.gguf", "mmproj-F32.gguf"), "mmproj-F16.gguf"),
        ("a-Q4_0.gguf", ("mmproj-b-F16.gguf",), None),
        ("a-7b-Q4_0.gguf", ("mmproj-a-7b-Q8_0.gguf", "mmproj-F16.gguf"), "mmproj-a-7b-Q8_0.gguf"),
        ("a-7b-Q4_0.gguf", ("mmproj-a-2b-F16.gguf", "mmproj-a-F16.gguf"), "mmproj-a-F16.gguf"),
        ("a-7b-Q4_0.gguf", ("a-7b-mmproj-f16.gguf",), "a-7b-mmproj-f16.gguf"),
        ("big/a-Q4_0.gguf", ("mmproj-F32.gguf", "big/mmproj-F32.gguf"), "big/mmproj-F32.gguf"),
        ("a-Q4_0-00001-of-00002.gguf", ("mmproj-a-F16.gguf",), "mmproj-a-F16.gguf"),
        ("a-Q4_0.gguf", ("a.imatrix.gguf", "mmproj.safetensors"), None),
        ("mmproj-a-F16.gguf", ("mmproj-a-F32.gguf",), None),
        ("a.safetensors", ("mmproj-a-F16.gguf",), None),
    ],
)
def test_the_projector_that_goes_with_a_model(model, beside, projector):
    found = choose_projector(RemoteFile(path=model), [RemoteFile(path=path) for path in (model, *beside)])
    assert (found and found.path) == projector


@pytest.mark.parametrize(
    ("projector", "model", "name"),
    [
        ("mmproj-F16.gguf", "gemma-3-4b-it-Q4_K_M", "mmproj-gemma-3-4b-it-F16.gguf"),
        ("x/mmproj-model-f16.gguf", "A-7B-Q4_0", "mmproj-a-7b-F16.gguf"),
        ("mmproj-a.gguf", "a-7b-Q4_0-00001-of-00002", "mmproj-a-7b.gguf"),
        ("a-7b-mmproj-Q8_0.gguf", "a-7b-Q4_0", "a-7b-mmproj-Q8_0.gguf"),
    ],
)
def test_a_projector_is_named_like_its_model(projector, model, name):
    assert projector_name(RemoteFile(path=projector), model) == name
    assert base_name(name.removesuffix(".gguf")) == base_name(model)


def test_all_parts_come_in_order_and_missing_ones_are_told():
    parts = [f"d/a.Q4_K_M-{n:05d}-of-00003.gguf" for n in (3, 1, 2)]
    assert chosen("", *parts) == sorted(parts)
    with pytest.raises(CannotServe, match="2 of the 3 parts"):
        chosen("", *parts[:2])


def test_two_models_of_one_quantisation_need_a_name():
    with pytest.raises(InvalidValue, match="name a file"):
        chosen("", "a.Q4_K_M.gguf", "b.Q4_K_M.gguf")
    assert chosen("b.Q4_K_M.gguf", "a.Q4_K_M.gguf", "b.Q4_K_M.gguf") == ["b.Q4_K_M.gguf"]


def test_a_checkpoint_is_the_single_file_at_the_top():
    assert chosen("", "README.md", "a.safetensors", "unet/model.safetensors") == ["a.safetensors"]
    with pytest.raises(InvalidValue, match=r"a\.safetensors, b\.safetensors"):
        chosen("", "a.safetensors", "b.safetensors")
    assert chosen("unet/model.safetensors", "a.safetensors", "unet/model.safetensors") == ["unet/model.safetensors"]


@pytest.mark.parametrize(
    ("choice", "paths"),
    [
        ("", ["pytorch_model.bin"]),
        ("", ["model.ckpt", "README.md"]),
        ("model.ckpt", ["model.ckpt", "a.safetensors"]),
        ("README.md", ["README.md", "a.safetensors"]),
        ("", ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]),
        ("", ["README.md"]),
    ],
)
def test_pickles_and_what_is_no_model_are_refused(choice, paths):
    with pytest.raises(Unsupported):
        chosen(choice, *paths)


@pytest.mark.parametrize(
    "path",
    [
        "../../x.gguf",
        "a/../x.gguf",
        "/x.gguf",
        "a//x.gguf",
        "./x.gguf",
        "C:\\x.gguf",
        "a\\x.gguf",
        "x\x00.gguf",
        "x\n.gguf",
        "",
    ],
)
def test_a_listing_with_a_hostile_name_is_refused_whole(path):
    with pytest.raises(CannotServe, match="not allowed"):
        chosen("good.Q4_K_M.gguf", "good.Q4_K_M.gguf", path)
