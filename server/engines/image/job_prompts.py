"""The prompts of one job as each checkpoint that takes part in it reads them."""

from dataclasses import dataclass, field

from server.core.errors import InvalidValue
from server.core.image import ImageRequest
from server.engines.image.conditioning import Conditioning
from server.engines.image.parts import Parts
from server.engines.image.prompts import Asked


@dataclass
class JobPrompts:
    """Encodes for whoever asks. `notes` tell of embeddings that could not be used."""

    request: ImageRequest
    notes: list[str] = field(default_factory=list, init=False)

    def of(self, parts: Parts, *, second: bool) -> Conditioning:
        """Return the conditioning of the first or the second pass.

        Raises:
            InvalidValue: clip skip goes further than the text encoder has layers.
        """
        request, hires = self.request, self.request.hires
        if request.text.clip_skip > parts.text.layers:
            raise InvalidValue.of("clip_skip", f"a text encoder here has {parts.text.layers} layers")
        trees = [request.prompt, request.negative, *([hires.prompt, hires.negative] if hires else [])]
        found, notes = parts.prompts.embeddings(request.embeddings, trees)
        self.notes += [note for note in notes if note not in self.notes]
        now = hires if second and hires is not None else request
        asked = Asked(
            prompt=now.prompt,
            negative=now.negative,
            settings=request.text,
            size=hires.scale_to if second and hires is not None else request.size,
            weights=parts.adapters.in_text,
        )
        return parts.prompts.encoded(asked, found)
