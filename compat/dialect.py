"""What a front door is to the rest of the house: a name, the paths it answers, its routes and its way to say no."""

from collections.abc import Callable
from dataclasses import dataclass

from litestar import Router

from server.http.reply import Reply


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One foreign API.

    `prefixes` are the path prefixes whose refusals are worded by `reply` even when no route matches (404, 405, a
    forbidden host, a body that is too large). `reply` takes any exception: core errors, litestar's HTTP exceptions,
    and the unexpected, which it must not describe to the client.
    """

    name: str
    prefixes: tuple[str, ...]
    router: Router
    reply: Callable[[Exception], Reply]

    def answers(self, path: str) -> bool:
        """Tell whether a path belongs to this door."""
        return any(path == prefix or path.startswith(prefix + "/") for prefix in self.prefixes)
