"""From probed files to cards: parts of split models joined, ids made unique, names collected. Pure."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from server.core.models import ModelCard, ModelId, ModelKind
from server.registry.folders import Found, natural
from server.registry.probe.base import Finding

LOADABLE = (ModelKind.TEXT, ModelKind.CHECKPOINT, ModelKind.UPSCALER, ModelKind.ANNOTATOR)
SHORT_HASH = 10  # digits of the SHA-256 that A1111 shows since 2023

_PART = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})$")


class Probed(msgspec.Struct, frozen=True):
    """A file with what its header told, or the reason why it is broken."""

    found: Found
    finding: Finding | None
    reason: str | None = None


class Draft(msgspec.Struct, frozen=True):
    """A card and the modification time (nanoseconds) of its main file, by which its hash is looked up."""

    card: ModelCard
    mtime_ns: int


def build(probed: Iterable[Probed]) -> tuple[Draft, ...]:
    """Return the cards of all files, by kind and then by name in natural order, with unique ids."""
    groups: dict[tuple[ModelKind, str], list[Probed]] = defaultdict(list)
    for item in probed:
        groups[item.found.kind, _group(item.found)].append(item)
    drafts = [_draft(items) for items in groups.values()]
    order = {kind: index for index, kind in enumerate(ModelKind)}
    drafts.sort(key=lambda draft: (order[draft.card.kind], natural(draft.card.name)))
    return _with_lora_aliases(_with_ids(drafts))


def with_hash(card: ModelCard, sha256: str | None) -> ModelCard:
    """Return the card with its file's hash and the names that follow from it."""
    short = [] if sha256 is None else [sha256[:SHORT_HASH]]
    hashes = tuple(dict.fromkeys([*short, *card.short_hashes]))
    if card.kind is not ModelKind.CHECKPOINT:
        return msgspec.structs.replace(card, sha256=sha256, short_hashes=hashes)
    names = dict.fromkeys(card.aliases)
    for digest in hashes:
        names |= dict.fromkeys((f"{card.name} [{digest}]", f"{card.stem} [{digest}]"))
    return msgspec.structs.replace(card, sha256=sha256, short_hashes=hashes, aliases=tuple(names))


def _group(found: Found) -> str:
    """Return what files of one model have in common: the path, for a part of a split GGUF without its number."""
    match = _PART.match(found.path.stem) if found.kind is ModelKind.TEXT else None
    if match is None:
        return str(found.path)
    return str(found.path.with_name(f"{match['stem']}-of-{match['parts']}{found.path.suffix}"))


def _draft(items: Sequence[Probed]) -> Draft:
    items = sorted(items, key=lambda item: item.found.path.name)
    main = items[0]
    found, finding = main.found, main.finding or Finding(kind=main.found.kind)
    card = ModelCard(
        id=ModelId(""),
        name=found.name,
        kind=finding.kind,
        files=tuple(str(path) for item in items for path in (item.found.path, *item.found.more)),
        runtime=finding.runtime,
        architecture=finding.architecture,
        size=sum(item.found.size for item in items),
        modified=found.mtime_ns // 1_000_000_000,
        broken=_reason(items),
        short_hashes=finding.short_hashes,
        text=finding.text,
        image=finding.image,
        metadata=finding.metadata,
    )
    if len(items) > 1 and finding.text is not None:
        counted = sum(item.finding.text.parameters for item in items if item.finding and item.finding.text)
        card = msgspec.structs.replace(card, text=msgspec.structs.replace(finding.text, parameters=counted))
    return Draft(card, found.mtime_ns)


def _reason(items: Sequence[Probed]) -> str | None:
    """Return why a model is broken, None when it is not: its own files, or one of them missing."""
    for item in items:
        reason = item.reason or (item.finding.broken if item.finding else None)
        if reason is not None:
            return reason if len(items) == 1 else f"{item.found.path.name}: {reason}"
    finding = items[0].finding
    parts = finding.parts if finding is not None else 1
    match = _PART.match(items[0].found.path.stem) if items[0].found.kind is ModelKind.TEXT else None
    if match is not None:
        parts = max(parts, int(match["parts"]))
    if parts > 1 and match is None:
        return f"the file is part of a model in {parts} parts and must be named like model-00001-of-{parts:05d}.gguf"
    have = {int(number["part"]) for item in items if (number := _PART.match(item.found.path.stem))}
    missing = [part for part in range(1, parts + 1) if part not in have] if parts > 1 else []
    if missing:
        shown = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        return f"of {parts} parts these are missing: {shown}"
    return None


def _with_ids(drafts: Sequence[Draft]) -> list[Draft]:
    """Give ids: the short form to the first, then the path, then a number. All loadable kinds share one space."""
    taken: dict[ModelKind | None, set[str]] = defaultdict(set)
    result = []
    for draft in drafts:
        space = taken[None if draft.card.kind in LOADABLE else draft.card.kind]
        chosen = next(name for name in _candidates(draft.card) if name not in space)
        space.add(chosen)
        card = msgspec.structs.replace(draft.card, id=ModelId(chosen), aliases=_names(draft.card, chosen))
        result.append(Draft(card, draft.mtime_ns))
    return result


def _candidates(card: ModelCard) -> Iterable[str]:
    path = card.name.rsplit(".", 1)[0]
    if card.kind is ModelKind.CHECKPOINT:
        yield path.replace("/", "_").replace("\\", "_")
    else:
        yield _stem(card)
    yield path
    yield card.name
    number = 2
    while True:
        yield f"{path}~{number}"
        number += 1


def _stem(card: ModelCard) -> str:
    match = _PART.match(card.stem) if card.kind is ModelKind.TEXT else None
    return match["stem"] if match else card.stem


def _names(card: ModelCard, chosen: str) -> tuple[str, ...]:
    path = card.name.rsplit(".", 1)[0]
    names = dict.fromkeys((_stem(card), card.stem, path, path.replace("/", "_")))
    return tuple(name for name in names if name not in (chosen, card.name))


def _with_lora_aliases(drafts: Sequence[Draft]) -> tuple[Draft, ...]:
    """Add the name that a LoRA's trainer gave it; A1111 forbids it when two files claim it, and `none` always."""
    claims: dict[str, int] = defaultdict(int)
    for draft in drafts:
        claims[_trained_name(draft.card)] += 1
    return tuple(Draft(_with_alias(draft.card, _trained_name(draft.card), claims), draft.mtime_ns) for draft in drafts)


def _trained_name(card: ModelCard) -> str:
    return card.metadata.get("ss_output_name", "") if card.kind is ModelKind.LORA else ""


def _with_alias(card: ModelCard, alias: str, claims: Mapping[str, int]) -> ModelCard:
    if alias in ("", "none", card.id, card.name, *card.aliases) or claims[alias] > 1:
        return card
    return msgspec.structs.replace(card, aliases=(*card.aliases, alias))
