"""Pages of a list."""

from typing import Any

import pytest

from compat.openai.responses.pages import page_of
from server.core.errors import InvalidValue

ITEMS: list[dict[str, Any]] = [{"id": f"i{k}"} for k in range(30)]


def names(query: dict[str, str], items: list[dict[str, Any]] = ITEMS) -> tuple[list[str], bool]:
    page = page_of(items, query)
    assert (page.first_id, page.last_id) == ((page.data[0]["id"], page.data[-1]["id"]) if page.data else (None, None))
    return [item["id"] for item in page.data], page.has_more


def test_newest_first_twenty_at_a_time() -> None:
    first, more = names({})
    assert first == [f"i{k}" for k in range(29, 9, -1)] and more
    rest, more = names({"after": first[-1]})
    assert rest == [f"i{k}" for k in range(9, -1, -1)] and not more


def test_order_and_limit() -> None:
    assert names({"order": "asc", "limit": "2"}) == (["i0", "i1"], True)
    assert names({"order": "asc", "limit": "2", "after": "i27"}) == (["i28", "i29"], False)
    assert names({}, []) == ([], False)


@pytest.mark.parametrize(
    "query", [{"order": "x"}, {"limit": "0"}, {"limit": "101"}, {"limit": "-1"}, {"limit": "²"}, {"after": "nobody"}]
)
def test_wrong_queries(query: dict[str, str]) -> None:
    with pytest.raises(InvalidValue) as caught:
        page_of(ITEMS, query)
    assert caught.value.fact("param") == next(iter(query))
