"""The tables of fields against the structs, and the OpenAI package's own lists."""

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import inspect
from openai.types import image_create_variation_params as variation_params
from openai.types import image_edit_params as edit_params
from openai.types import image_generate_params as generate_params

from compat.openai.fields import Field, Standing
from compat.openai.images import wire
from compat.openai.images.fields import EDIT, GENERATION, VARIATION

DOORS = [
    pytest.param(GENERATION, wire.GenerationRequest, (), id="generation"),
    pytest.param(EDIT, wire.EditRequest, ("image", "mask", "markup"), id="edit"),
    pytest.param(VARIATION, wire.VariationRequest, ("image",), id="variation"),
]


@pytest.mark.parametrize(("table", "struct", "files"), DOORS)
def test_the_table_and_the_struct_name_the_same_fields(
    table: Mapping[str, Field], struct: Any, files: tuple[str, ...]
) -> None:
    read = {name for name, field in table.items() if field.standing is not Standing.IGNORED}
    assert read == {*struct.__struct_fields__, *files}


@pytest.mark.parametrize(
    ("table", "params"),
    [
        (GENERATION, generate_params.ImageGenerateParamsStreaming),
        (EDIT, edit_params.ImageEditParamsStreaming),
        (VARIATION, variation_params.ImageCreateVariationParams),
    ],
)
def test_every_parameter_of_the_openai_package_has_its_row(table: Mapping[str, Field], params: Any) -> None:
    assert len(params.__annotations__) > 5
    assert set(params.__annotations__) - set(table) == set()


@pytest.mark.parametrize("struct", [wire.GenerationRequest, wire.EditRequest, wire.VariationRequest])
def test_every_number_of_a_request_has_bounds(struct: type) -> None:
    numbers = 0
    told = inspect.type_info(struct)
    assert isinstance(told, inspect.StructType)
    for field in told.fields:
        kinds = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        for kind in kinds:
            if isinstance(kind, inspect.IntType | inspect.FloatType):
                numbers += 1
                assert kind.ge is not None and kind.le is not None, field.name
            if isinstance(kind, inspect.StrType):
                assert kind.max_length is not None or kind.pattern is not None, field.name
    assert numbers >= 5
