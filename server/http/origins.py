"""Who may speak to the server through a browser: host names it answers to, and pages it lets in.

Pure and literal. A host name decides against DNS rebinding (a foreign name that resolves to this machine), an Origin
against pages that use the visitor's browser. Nothing is matched by pattern, and no forwarded header is believed.

    bound to     Host                              answered
    127.0.0.1    localhost, 127.0.0.1, [::1]       yes
    127.0.0.1    studio.local, host.docker.internal  yes: names that public DNS does not have
    127.0.0.1    192.168.1.5, hearth               no
    0.0.0.0      192.168.1.5, hearth               yes: an address cannot be rebound, a name without a dot neither
    0.0.0.0      example.com, localhost.example.com  no
"""

import ipaddress
import re
from collections.abc import Sequence

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::([0-9]{1,5}))?")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9_.-]*)(?::[0-9]{1,5})?")
_LABEL = re.compile(r"[a-z0-9_-]*[a-z][a-z0-9_-]*")
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal")
_APP_SCHEMES = ("app", "tauri", "vscode-webview")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def split_host(header: str) -> str | None:
    """Return the name or address of a Host header without port, in lower case; None when it is malformed or empty."""
    match = _HOST.fullmatch(header.lower())
    if match is None:
        return None
    return match[1].strip("[]").removesuffix(".") or None


def is_loopback(host: str) -> bool:
    """Tell whether a name or address can mean nothing but the machine itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


class HostRule:
    """Which host names the server answers to.

    `bound` is the address it listens on, `machine` the machine's own name, `allowed` further names from the config.
    """

    def __init__(self, *, bound: str, machine: str = "", allowed: Sequence[str] = ()) -> None:
        address = _address(bound)
        # The usual ones stand here too: a look into a set costs a thirtieth of reading an address.
        names = (split_host(name) for name in ("localhost", "127.0.0.1", "[::1]", machine, *allowed))
        self._names = frozenset(name for name in names if name)
        self._reachable = not is_loopback(bound)
        self._any_address = not bound or (address is not None and address.is_unspecified)
        self._bound = address

    def allows(self, host: str) -> bool:
        """Tell whether a host (as `split_host` returns it) is one of ours."""
        if host in self._names or is_loopback(host) or host.endswith(_PRIVATE_SUFFIXES):
            return True
        address = _address(host)
        if address is not None:
            return self._any_address or address == self._bound
        # A lone number, decimal or hexadecimal, is an IPv4 address to a browser.
        return self._reachable and not host.startswith("0x") and _LABEL.fullmatch(host) is not None


class OriginRule:
    """Which pages may call: loopback ones, desktop apps, our own, and those of the config.

    With `keyed` (every call needs a key) any page may: it must know the key, and cookies are never used.
    """

    def __init__(self, *, allowed: Sequence[str] = (), keyed: bool = False) -> None:
        self._allowed = frozenset(origin.lower().rstrip("/") for origin in allowed)
        self._keyed = keyed

    def allows(self, origin: str, host: str) -> bool:
        """Tell whether a page of that Origin may call a server that it addresses by that Host header."""
        if self._keyed:
            return True
        origin = origin.lower()
        if origin in self._allowed:
            return True
        match = _ORIGIN.fullmatch(origin)
        if match is None:
            return False
        scheme, name = match[1], match[2]
        if scheme in _APP_SCHEMES:
            return True
        if scheme not in ("http", "https"):
            return False
        return is_loopback(name.strip("[]").removesuffix(".")) or origin == f"{scheme}://{host.lower()}"


def _address(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
