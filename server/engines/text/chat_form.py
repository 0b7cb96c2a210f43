"""By which template a model's conversations become prompts: the settings' one, its file's, or the likeliest form."""

from collections.abc import Collection
from pathlib import Path

from server.core.errors import LoadFailed
from server.core.models import ModelCard, TextSettings
from server.engines.text.fallback_templates import FORMS, Fallback, choose

LARGEST = 1024 * 1024


def chat_form(
    settings: TextSettings, card: ModelCard, own: str | None, control: Collection[str]
) -> tuple[str | None, Fallback | None]:
    """Return a template, or the form that stands for it when there is none.

    Args:
        settings: whose `chat_template` comes first.
        card: of the model.
        own: the template in the model's file.
        control: the control tokens of its vocabulary.

    Raises:
        LoadFailed: the template that the settings name cannot be read.
    """
    named = settings.chat_template
    if named in FORMS:
        return None, FORMS[named]
    if named:
        return _read(Path(named).expanduser()), None
    if own is not None:
        return own, None
    of_2023 = card.text is not None and bool(card.text.container)
    return None, choose(control, card.name, of_2023=of_2023)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise LoadFailed(f"the chat template {path.name!r} of the settings cannot be read: {error.strerror}") from error
    if len(data) > LARGEST:
        raise LoadFailed(f"the chat template {path.name!r} of the settings is longer than {LARGEST} bytes")
    return data.decode("utf-8", errors="replace")
