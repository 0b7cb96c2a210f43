"""Reads a request's JSON body straight into its struct, and notes which fields will have no effect."""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any, ClassVar

import msgspec
from litestar import Request

from server.core.errors import InvalidValue
from server.http.refusals import body_error

IGNORED_HEADER = "x-hearth-ignored"
MAX_UNKNOWN = 256
_TOLD = 64
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_OFF = (b"null", b"false", b'""', b"[]", b"{}")


class JsonBody(Request[Any, Any, Any]):
    """A request whose body is decoded by the struct `wanted`; the framework gets the finished struct.

    Decoding strictly and once is both faster and stricter than the framework's way over a dict, and gives the path of
    the wrong field. `ignored` names the fields of the body that no struct field reads and that are not off, once the
    body was read.
    """

    wanted: ClassVar[type[msgspec.Struct]]

    ignored: tuple[str, ...] = ()

    async def body(self) -> bytes:
        """Return the bytes of the body; raise InvalidValue when there are none."""
        body = await super().body()
        if not body:
            raise InvalidValue("The request body is empty; a JSON object is expected.")
        return body

    async def json(self) -> Any:
        """Return the decoded struct; raise InvalidValue with the path of what is wrong."""
        body = await self.body()
        try:
            decoded = msgspec.json.decode(body, type=self.wanted)
            keys = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise body_error(error) from None
        self.ignored = self._unread(keys)
        return decoded

    def _unread(self, keys: dict[str, msgspec.Raw]) -> tuple[str, ...]:
        known = {field.encode_name for field in msgspec.structs.fields(self.wanted)}
        unread = {name: value for name, value in keys.items() if name not in known}
        if len(unread) > MAX_UNKNOWN:
            raise InvalidValue(f"The request body has more than {MAX_UNKNOWN} unknown fields.")
        return tuple(name for name, value in unread.items() if bytes(value) not in _OFF)


def reading(struct: type[msgspec.Struct]) -> type[JsonBody]:
    """Return the request class whose body is that struct."""
    return type(f"{struct.__name__}Body", (JsonBody,), {"wanted": struct})


def tellable(names: Iterable[str]) -> tuple[str, ...]:
    """Return the first names that can be put into a header and a log: they come from the caller."""
    return tuple(islice((name for name in names if _NAME.fullmatch(name)), _TOLD))


def ignored_header(names: Iterable[str]) -> dict[str, str]:
    """Return the header that names fields without effect; odd names, which come from the caller, are left out."""
    told = tellable(names)
    return {IGNORED_HEADER: ", ".join(told)} if told else {}


def refuse_ignored(names: Iterable[str], *, strict: bool) -> None:
    """Raise InvalidValue for the first field without effect when the owner of the server wants that."""
    for name in names:
        if strict:
            raise InvalidValue.of(name, f"'{name[:64]}' has no effect on this server, which is set to be strict")
