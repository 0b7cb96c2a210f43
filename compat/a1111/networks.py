"""Extra networks that prompts name: `<lora:name:weight>`, `<hypernet:name:multiplier>` and textual inversions.

| tag | text encoder | UNet |
|---|---|---|
| `<lora:x>` | 1 | 1 |
| `<lora:x:0.8>` | 0.8 | 0.8 |
| `<lora:x:0:1>` | 0 | 1 |
| `<lora:x:te=0.5:unet=1>` | 0.5 | 1 |

Any `<word:...>` is cut from the prompt, whether such a network exists or not, as A1111 does.
"""

import re
from collections.abc import Sequence

import msgspec

from server.core.errors import Unsupported
from server.core.image import EmbeddingRef, HypernetworkRef, LoraRef
from server.core.models import ModelCard

_TAG = re.compile(r"<(\w+):([^>]+)>")
_LORA_KINDS = ("lora", "lyco")
HYPERNETWORK = "hypernet"
LARGEST_WEIGHT = 1e6


class Tag(msgspec.Struct, frozen=True):
    """A tag as written: its kind and the texts between its colons."""

    kind: str
    items: tuple[str, ...]

    @property
    def positional(self) -> list[str]:
        """Return the arguments without a name."""
        return [item for item in self.items if item.count("=") != 1]

    @property
    def named(self) -> dict[str, str]:
        """Return the arguments written `key=value`."""
        return dict(item.split("=") for item in self.items if item.count("=") == 1)


class Mentioned(msgspec.Struct, frozen=True):
    """A network found for a name in the prompt."""

    name: str
    card: ModelCard


class Networks(msgspec.Struct, frozen=True, kw_only=True):
    """Networks of a prompt: what the engine gets, what the infotext names, and what was asked for in vain."""

    adapters: tuple[LoraRef, ...] = ()
    hypernetworks: tuple[HypernetworkRef, ...] = ()
    mentioned: tuple[Mentioned, ...] = ()
    missing: tuple[str, ...] = ()


def cut_tags(prompt: str) -> tuple[str, tuple[Tag, ...]]:
    """Return the prompt without its tags, the blanks around them kept, and the tags in order."""
    tags: list[Tag] = []

    def take(match: re.Match[str]) -> str:
        tags.append(Tag(match.group(1), tuple(match.group(2).split(":"))))
        return ""

    end = prompt.rfind(">") + 1  # behind the last `>` nothing matches, but each `<` there would search to the end
    return _TAG.sub(take, prompt[:end]) + prompt[end:], tuple(tags)


def find_networks(tags: Sequence[Tag], loras: Sequence[ModelCard], hypernetworks: Sequence[ModelCard]) -> Networks:
    """Return what the tags of a prompt stand for.

    A number that is none makes all LoRAs of the prompt be left out, as A1111 does. The same LoRA twice counts twice,
    both times with the last weights, since A1111 keeps one object per file.

    Raises:
        Unsupported: a tag that would change the picture in a way that is not offered.
    """
    others = _hypernetworks(tags, hypernetworks)
    wanted = [tag for tag in tags if tag.kind in _LORA_KINDS and tag.positional]
    names = _lora_names(loras)
    try:
        weights = [_weights(tag) for tag in wanted]
    except ValueError:
        return Networks(hypernetworks=others, missing=tuple(tag.positional[0] for tag in wanted))
    last: dict[str, tuple[float, float]] = {}
    found: list[Mentioned] = []
    missing = []
    for tag, pair in zip(wanted, weights, strict=True):
        name = tag.positional[0]
        card = names.get(name)
        if card is None:
            missing.append(name)
        else:
            found.append(Mentioned(name, card))
            last[card.id] = pair
    return Networks(
        adapters=tuple(_reference(one.card, last[one.card.id]) for one in found),
        hypernetworks=others,
        mentioned=tuple(found),
        missing=tuple(missing),
    )


def default_tag(kind: str, name: str, multiplier: float) -> str:
    """Return the tag that the options `sd_lora` and `sd_hypernetwork` append to every prompt."""
    return f"<{kind}:{name}:{multiplier}>"


def embedding_name(card: ModelCard) -> str:
    """Return what prompts call a textual inversion: the file's stem, or the name that a picture holds inside."""
    return card.metadata.get("embedding.name") or card.stem


def embeddings_for(texts: Sequence[str], cards: Sequence[ModelCard]) -> tuple[EmbeddingRef, ...]:
    """Return the textual inversions whose names occur in some text: the engine decides by tokens which are meant."""
    written = "\n".join(texts).lower()
    return tuple(EmbeddingRef(name=embedding_name(card), path=card.files[0]) for card in _named_in(written, cards))


def mentioned_embeddings(text: str, cards: Sequence[ModelCard]) -> tuple[Mentioned, ...]:
    """Return the textual inversions that stand in a text as words, in order of their first place."""
    written = text.lower()
    places: list[tuple[int, Mentioned]] = []
    for card in _named_in(written, cards):
        match = re.search(rf"(?<!\w){re.escape(embedding_name(card).lower())}(?!\w)", written)
        if match is not None:
            places.append((match.start(), Mentioned(embedding_name(card), card)))
    return tuple(one for _, one in sorted(places, key=lambda place: place[0]))


def _named_in(written: str, cards: Sequence[ModelCard]) -> list[ModelCard]:
    return [card for card in cards if card.broken is None and card.files and embedding_name(card).lower() in written]


def _hypernetworks(tags: Sequence[Tag], cards: Sequence[ModelCard]) -> tuple[HypernetworkRef, ...]:
    """Return the hypernetworks of a prompt, none of them when a multiplier is no number."""
    known = {card.stem: card for card in cards if card.broken is None and card.files}
    found = []
    for tag in tags:
        card = known.get(tag.items[0]) if tag.kind == HYPERNETWORK else None
        if card is None:
            continue
        try:
            multiplier = float(tag.items[1]) if len(tag.items) > 1 else 1.0
        except ValueError:
            return ()
        if not abs(multiplier) < LARGEST_WEIGHT:
            return ()
        found.append(HypernetworkRef(name=card.stem, path=card.files[0], multiplier=multiplier))
    return tuple(found)


def _weights(tag: Tag) -> tuple[float, float]:
    positional, named = tag.positional, tag.named
    if len(positional) > 3 or "dyn" in named:
        raise Unsupported.of("prompt", "a LoRA tag with a number of ranks (dyn) is not offered")
    text = float(named.get("te", positional[1] if len(positional) > 1 else 1.0))
    unet = float(named.get("unet", positional[2] if len(positional) > 2 else text))
    if not (abs(text) < LARGEST_WEIGHT and abs(unet) < LARGEST_WEIGHT):
        raise ValueError("not a weight")
    return text, unet


def _reference(card: ModelCard, weights: tuple[float, float]) -> LoraRef:
    return LoraRef(name=card.stem, path=card.files[0], text_weight=weights[0], unet_weight=weights[1])


def _lora_names(cards: Sequence[ModelCard]) -> dict[str, ModelCard]:
    """Return cards by file stem, and by the alias in their metadata where it belongs to one file only."""
    usable = [card for card in cards if card.broken is None and card.files]
    aliases: dict[str, list[ModelCard]] = {}
    for card in usable:
        aliases.setdefault(lora_alias(card), []).append(card)
    unique = {alias: owners[0] for alias, owners in aliases.items() if len(owners) == 1 and alias.lower() != "none"}
    return unique | {card.stem: card for card in usable}


def lora_alias(card: ModelCard) -> str:
    """Return the name that the LoRA's maker gave it, the file's stem when there is none."""
    return card.metadata.get("ss_output_name") or card.stem
