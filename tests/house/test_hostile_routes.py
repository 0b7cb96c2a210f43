"""Every route that our own description names, by every method, with hostile paths, queries and bodies.

What `openapi/` holds is read as a stranger would read it; a route that is described is visited.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.aio import asynchronous
from tests.support.siege import siege

pytestmark = pytest.mark.usefixtures("quiet_log")

OPENAPI = Path(__file__).parents[2] / "openapi"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
HOSTILE = (
    "talker", "nobody", "", " ", "0", "-1", "99999999999999999999999", "1e999", "NaN", "null", "true", "[]", "{}",
    "../../etc/passwd", "..", ".", "/etc/passwd", "C:\\windows", "x" * 4000, "\x00", "\r\nx: y", "\u202e\U0001f600",
    "'; drop table responses; --", "%", "<script>", "resp_", "resp_" + "0" * 48, "a,b", "*",
)  # fmt: skip
# As they stand in a path or a query; the last ones are no encoding of anything.
VALUES = (
    # A client takes dots that stand alone out of a path before it sends it.
    *(quote(value, safe="") if value.strip(".") else value.replace(".", "%2e") for value in HOSTILE),
    *("%ff%fe", "%ed%a0%80", "%", "%zz", "%2e%2e%2f%2e%2e%2fetc%2fpasswd"),
)


def described() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield the path, the method and the description of every operation."""
    for file in sorted(OPENAPI.glob("*.json")):
        for path, methods in json.loads(file.read_text())["paths"].items():
            for method, operation in methods.items():
                yield path, method.upper(), operation


def asked(path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    """Yield the path with each of the values in each of its places, and in each parameter of its query."""
    parameters = operation.get("parameters", ())
    places = [one["name"] for one in parameters if one["in"] == "path"]
    queries = [one["name"] for one in parameters if one["in"] == "query"]
    plain = path
    for name in places:
        plain = plain.replace(f"{{{name}}}", "nobody")
    for value in VALUES if places else ():
        yield "".join(
            value if part in places else part for part in path.replace("{", "\0").replace("}", "\0").split("\0")
        )
    for name in queries:
        for value in VALUES:
            yield f"{plain}?{name}={value}"
    for query in ("", "?", "?&&==", "?unknown=%ff", "?" + "&".join(f"k{number}=1" for number in range(2000))):
        yield plain + query


@asynchronous
async def test_every_described_operation(tmp_path: Path) -> None:
    async with siege(tmp_path) as attack:
        visited = set()
        for path, method, operation in described():
            for there in asked(path, operation):
                # Shutting the server down is one of A1111's routes, and it is off.
                await attack.ask(method, there, b"{}" if method == "POST" else b"")
            visited.add((path, method))
        assert len(visited) > 80
        await attack.end()


@asynchronous
async def test_every_method_on_every_described_path(tmp_path: Path) -> None:
    async with siege(tmp_path) as attack:
        offered: dict[str, set[str]] = {}
        for path, method, _ in described():
            offered.setdefault(path, set()).add(method)
        for path, methods in offered.items():
            there = path.replace("{", "").replace("}", "")
            for method in METHODS:
                if method in methods:
                    continue
                answer = await attack.ask(method, there, b"{}", headers={"content-type": "application/json"})
                assert answer.status_code in (404, 405), (method, there, answer.status_code)
        await attack.end()
