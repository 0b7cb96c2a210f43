"""What a GGUF header says about a projector: the eyes of a text model, in a file of its own.

Its architecture is `clip`, whatever the projector is: an encoder for pictures (or sounds), and layers that turn what it
sees into embeddings of the text model.
"""

from server.core.models import ModelKind, TextFacts
from server.registry.probe.base import Finding, NotMine
from server.registry.probe.gguf import GgufHeader

ARCHITECTURE = "clip"
TYPES = ("mmproj", "clip-vision")

_KINDS = ("clip.projector_type", "clip.vision.projector_type")


def is_projector(header: GgufHeader) -> bool:
    """Tell whether a header is a projector's."""
    return header.text("general.architecture") == ARCHITECTURE or header.text("general.type") in TYPES


def probe_projector(header: GgufHeader) -> Finding:
    """Return what a projector's header tells; raise NotMine when it is for sounds alone."""
    if header.values.get("clip.has_vision_encoder") is not True:
        raise NotMine("a projector for sounds, an addition to a text model")
    kind = next((header.text(key) for key in _KINDS if header.text(key)), "")
    return Finding(
        kind=ModelKind.PROJECTOR,
        architecture=kind,
        text=TextFacts(parameters=sum(tensor.elements for tensor in header.tensors)),
        metadata={key: str(value) for key, value in header.values.items() if key.startswith("general.")},
        broken=_complaint(header, kind),
    )


def _complaint(header: GgufHeader, kind: str) -> str | None:
    if not kind:
        return "the header does not say what kind of projector this is; convert the file anew"
    if not header.tensors:
        return "the file holds no weights"
    return None
