"""What a probe answers: a finding, "not mine" or "mine but broken"."""

import msgspec

from server.core.models import ImageFacts, ModelKind, Runtime, TextFacts


class NotMine(Exception):
    """The file is something else; the text says what, as far as that is known."""


class BrokenModel(Exception):
    """The file is of this kind and cannot be used; final. The text is the reason, without the file's name."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a header tells. `part` of `parts` (from 1) says that the model continues in other files.

    `short_hashes` are prefixes of hashes that were found without reading the whole file.
    """

    kind: ModelKind
    runtime: Runtime | None = None
    architecture: str = ""
    text: TextFacts | None = None
    image: ImageFacts | None = None
    metadata: dict[str, str] = {}
    short_hashes: tuple[str, ...] = ()
    part: int = 1
    parts: int = 1
    broken: str | None = None
