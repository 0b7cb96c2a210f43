"""Pages of a list, as OpenAI's API cuts them: `limit`, `order` and `after`. Pure."""

from collections.abc import Mapping

from compat.openai.responses.output import ItemList
from compat.openai.wire import JsonObject
from server.core.errors import InvalidValue

MAX_LIMIT = 100
DEFAULT_LIMIT = 20


def page_of(items: list[JsonObject], query: Mapping[str, str]) -> ItemList:
    """Return a page of items, newest first unless `order` is `asc`; raise InvalidValue for a wrong query."""
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidValue.of("order", "'order' must be asc or desc")
    listed = items if order == "asc" else items[::-1]
    after = query.get("after")
    if after:
        start = next((k for k, item in enumerate(listed, 1) if item.get("id") == after), None)
        if start is None:
            raise InvalidValue.of("after", "'after' is not the id of an item of this list")
        listed = listed[start:]
    limit = _limit(query.get("limit"))
    page = listed[:limit]
    return ItemList(
        data=page,
        first_id=page[0]["id"] if page else None,
        last_id=page[-1]["id"] if page else None,
        has_more=len(listed) > limit,
    )


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    limit = int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidValue.of("limit", f"'limit' must be between 1 and {MAX_LIMIT}")
    return limit
