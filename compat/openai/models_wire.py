"""The JSON of `/v1/models`: OpenAI's keys, then those of llama-server that its clients read."""

from msgspec import Struct


class ModelMeta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Figures of a model under llama-server's names; what a model has not is left out. `size` is in bytes."""

    size: int
    n_ctx_train: int = 0
    n_params: int = 0
    n_vocab: int = 0
    n_embd: int = 0
    ftype: str = ""


class ModelStatus(Struct, frozen=True):
    """`loaded`, `loading` or `unloaded`."""

    value: str


class ModelArchitecture(Struct, frozen=True, kw_only=True):
    """What goes in and what comes out."""

    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]


class Model(Struct, frozen=True, kw_only=True):
    """One entry of `/v1/models`; `created` is when its file was last changed."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "hearth"
    aliases: tuple[str, ...]
    meta: ModelMeta
    status: ModelStatus
    architecture: ModelArchitecture


class ModelList(Struct, frozen=True, kw_only=True):
    """`GET /v1/models`."""

    object: str = "list"
    data: tuple[Model, ...]
