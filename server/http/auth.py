"""API keys: who asks, and may they. Keys are compared as SHA-256 digests, every one of them, in constant time.

The guard stands on the app, so every handler needs a key unless it says `opt={"public": True}`. It looks at the handler
that was routed to, never at the URL. A handler with `opt={"admin": True}` (it changes which models are there, or what
others get) answers this machine alone when the server is reachable from others without a key.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers.base import BaseRouteHandler

Connection = ASGIConnection[Any, Any, Any, Any]
Guard = Callable[[Connection, BaseRouteHandler], None]

HASHED = "sha256:"
_OWNER = "owner"


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that opens the doors. `name` is its owner in logs and job lists.

    `key` is the secret itself or `sha256:` and the 64 hex digits of its digest. A secret `user:password` is given by
    clients of HTTP Basic; by others with the colon.
    """

    name: str
    key: str


class Keyring:
    """The keys that are valid; holds digests only. A key without a name is named after the start of its digest.

    Raises:
        ValueError: a key that is empty or a malformed digest.
    """

    def __init__(self, keys: Sequence[ApiKey | str]) -> None:
        named = [key if isinstance(key, ApiKey) else ApiKey(name="", key=key) for key in keys]
        digests = [(_stored_digest(key.key), key.name) for key in named]
        self._digests = tuple((digest, name or f"key-{digest.hex()[:8]}") for digest, name in digests)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def owner(self, secrets: Sequence[str]) -> str | None:
        """Return the name of the key that one of the presented secrets equals, None when there is none.

        Every stored key is compared with every secret, whatever was found before.
        """
        found: str | None = None
        for secret in secrets:
            presented = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
            for digest, name in self._digests:
                if hmac.compare_digest(presented, digest) and found is None:
                    found = name
        return found


def guard(keyring: Keyring, *, exposed: bool = False) -> Guard:
    """Return the guard for `guards=[...]` of the app.

    `exposed`: the server is bound to an address that others reach.

    The guard raises:
        NotAuthorizedException: keys are set and the request presents none of them.
        PermissionDeniedException: an `admin` handler was called from another machine and no keys are set.
    """

    def check(connection: Connection, handler: BaseRouteHandler) -> None:
        if not keyring:
            if exposed and handler.opt.get("admin"):
                local_only(connection, handler)
            return
        if handler.opt.get("public"):
            return
        secrets = list(presented(connection.headers))
        owner = keyring.owner(secrets)
        if owner is None:
            raise NotAuthorizedException(detail="Invalid API key" if secrets else "Missing API key")
        connection.scope.setdefault("state", {})[_OWNER] = owner

    return check


def local_only(connection: Connection, _: BaseRouteHandler) -> None:
    """Be a guard: raise PermissionDeniedException for a request from another machine."""
    if not is_local(connection.scope):
        text = "without an API key this is answered on the server's own machine only; set keys in [auth]"
        raise PermissionDeniedException(detail=text)


def owner_of(request: Connection) -> str:
    """Return the name of the key that the request came with, an empty text when no keys are set."""
    owner = request.scope.get("state", {}).get(_OWNER, "")
    return owner if isinstance(owner, str) else ""


def presented(headers: Mapping[str, str]) -> Iterator[str]:
    """Yield the secrets that a request presents: Bearer, x-api-key, api-key, Basic (whole, and its password)."""
    scheme, _, value = headers.get("authorization", "").strip().partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer" and value:
        yield value
    elif scheme.lower() == "basic" and value:
        yield from _basic(value)
    for name in ("x-api-key", "api-key"):
        if headers.get(name):
            yield headers[name]


def is_local(scope: Mapping[str, Any]) -> bool:
    """Tell whether a request comes from this machine itself, not through a proxy on it."""
    if any(name in (b"x-forwarded-for", b"forwarded") for name, _ in scope["headers"]):
        return False
    client = scope.get("client")
    if client is None:
        return True  # a Unix socket has no client address
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _basic(value: str) -> Iterator[str]:
    try:
        pair = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return
    _, colon, password = pair.partition(":")
    if colon:
        yield pair
        yield password


def _stored_digest(key: str) -> bytes:
    if key.startswith(HASHED):
        digest = bytes.fromhex(key.removeprefix(HASHED))
        if len(digest) != 32:
            raise ValueError("a hashed API key is 'sha256:' and 64 hex digits")
        return digest
    if not key:
        raise ValueError("an API key cannot be empty")
    return hashlib.sha256(key.encode()).digest()
