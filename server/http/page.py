"""`GET /`: one page for people: what this is, where the doors are, which models it sees. Static but for its address.

Everything it needs is in the one file; the policy allows exactly its own script and style, by their hashes.
"""

import base64
import hashlib
import html
import re
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, Response, Router, route

from server.http.house import answer

FILE = Path(__file__).parent / "web" / "index.html"
ORIGIN = "{origin}"
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


class Greeting(msgspec.Struct, frozen=True, kw_only=True):
    """What a program gets that asks `/` for JSON."""

    name: str
    health: str
    models: str


def policy(page: str) -> str:
    """Return the content security policy of a page: its own inline script and style, calls home, pictures as data."""
    allowed: dict[str, list[str]] = {"script": [], "style": []}
    for kind, content in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        allowed[kind].append(f"'sha256-{digest}'")
    parts = [f"{kind}-src {' '.join(hashes)}" for kind, hashes in allowed.items() if hashes]
    fixed = ["connect-src 'self'", "img-src data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
    return "; ".join(["default-src 'none'", *parts, *fixed])


def router() -> Router:
    """Return the route of the page, which needs no key; the lists it fetches may."""
    page = FILE.read_text(encoding="utf-8")
    headers: dict[str, Any] = {
        "Content-Security-Policy": policy(page),
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
    }

    @route("/", http_method=["GET", "HEAD"], opt={"public": True}, include_in_schema=False, sync_to_thread=False)
    def index(request: Request[Any, Any, Any]) -> Response[Any]:
        """Show the page, or a greeting in JSON."""
        origin = f"{request.scope['scheme']}://{request.headers.get('host', '')}"
        if request.accept.best_match(["text/html", "application/json"], "text/html") == "application/json":
            here = Greeting(name="Hearth", health=f"{origin}/health", models=f"{origin}/hearth/v1/models")
            return Response(here, headers={"Vary": "Accept"}, media_type="application/json")
        content = page.replace(ORIGIN, html.escape(origin, quote=True))
        return Response(content.encode(), headers=headers | {"Vary": "Accept"}, media_type="text/html; charset=utf-8")

    return Router("/", route_handlers=[index], exception_handlers={Exception: answer})
