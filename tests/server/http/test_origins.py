import pytest

from server.http.origins import HostRule, OriginRule, is_loopback, split_host

LOCAL = [
    "localhost",
    "127.0.0.1",
    "[::1]",
    "web.localhost",
    "studio.local",
    "host.docker.internal",
    "LOCALHOST",
    "127.5.4.3",
]
FOREIGN = [
    "evil.com",
    "localhost.evil.com",
    "127.0.0.1.evil.com",
    "evil-localhost",
    "localhostevil",
    "evil.localhost.com",
    "192.168.1.5",
    "0.0.0.0",
    "[2001:db8::1]",
    "2130706433",
    "0x7f000001",
    "127.1",
    "local",
    "internal",
    "xlocal",
    "evil.com.",
]


def answers(rule: HostRule, header: str) -> bool:
    host = split_host(header)
    return host is not None and rule.allows(host)


@pytest.mark.parametrize("port", ["", ":7860", ":1"])
@pytest.mark.parametrize("name", LOCAL)
def test_local_names_are_answered_whatever_the_port(name: str, port: str) -> None:
    assert answers(HostRule(bound="127.0.0.1"), name + port)


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_names_are_not(name: str) -> None:
    assert not answers(HostRule(bound="127.0.0.1"), name + ":7860")


@pytest.mark.parametrize(
    "header",
    [
        "",
        " ",
        ":7860",
        "localhost:",
        "localhost:port",
        "localhost:7860:7860",
        "localhost/health",
        "localhost?x",
        "user@localhost",
        "localhost#",
        "[::1",
        "::1",
        "[::1%eth0]",
        "local host",
        "localhost\t",
        "löcalhost",
        ".",
        "localhost,evil.com",
        "localhost:123456",
        "[localhost]",
    ],
)
def test_malformed_hosts_are_none(header: str) -> None:
    assert split_host(header) is None


@pytest.mark.parametrize(
    ("bound", "header", "expected"),
    [
        ("0.0.0.0", "192.168.1.5", True),
        ("0.0.0.0", "[fe80::1]", True),
        ("::", "10.0.0.3:7860", True),
        ("", "10.0.0.3:7860", True),
        ("0.0.0.0", "hearth", True),
        ("0.0.0.0", "gpu-box_2", True),
        ("0.0.0.0", "2130706433", False),
        ("0.0.0.0", "0x7f000001", False),
        ("0.0.0.0", "0xbeef", False),
        ("0.0.0.0", "example.com", False),
        ("0.0.0.0", "localhost.example.com", False),
        ("192.168.1.5", "192.168.1.5:80", True),
        ("192.168.1.5", "192.168.1.6", False),
        ("192.168.1.5", "localhost", True),
        ("192.168.1.5", "hearth", True),
        ("::ffff:192.168.1.5", "192.168.1.5", True),
        ("127.0.0.1", "[::ffff:127.0.0.1]", True),
        ("127.0.0.1", "[::ffff:192.168.1.5]", False),
        ("127.0.0.1", "hearth", False),
        ("localhost", "hearth", False),
        ("localhost", "192.168.1.5", False),
        ("::1", "hearth", False),
    ],
)
def test_what_is_answered_depends_on_where_the_server_listens(bound: str, header: str, expected: bool) -> None:
    assert answers(HostRule(bound=bound), header) is expected


def test_the_machine_and_the_configuration_add_names() -> None:
    rule = HostRule(bound="127.0.0.1", machine="Box.Example.com", allowed=("chat.example.org", "lan:8080"))
    assert all(answers(rule, name) for name in ("box.example.com", "CHAT.example.org:443", "lan"))
    assert not any(answers(rule, name) for name in ("example.org", "x.chat.example.org", "box", "chatXexample.org"))


def test_an_empty_machine_name_lets_nothing_in() -> None:
    assert not answers(HostRule(bound="127.0.0.1", machine="", allowed=("",)), "")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("::1", True),
        ("127.0.0.2", True),
        ("0.0.0.0", False),
        ("128.0.0.1", False),
        ("notlocalhost", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


HERE = "192.168.1.5:7860"

PAGES = [
    ("http://localhost", True),
    ("http://localhost:3000", True),
    ("https://127.0.0.1:8443", True),
    ("http://[::1]:5173", True),
    ("http://tauri.localhost", True),
    ("HTTP://LOCALHOST:3000", True),
    ("tauri://localhost", True),
    ("app://obsidian.md", True),
    ("vscode-webview://1a2b", True),
    ("http://" + HERE, True),
    ("https://" + HERE, True),
    ("null", False),
    ("", False),
    ("http://evil.com", False),
    ("https://evil.com:7860", False),
    ("http://localhost.evil.com", False),
    ("http://localhost:3000.evil.com", False),
    ("http://localhost@evil.com", False),
    ("http://evil.com#localhost", False),
    ("http://192.168.1.5", False),
    ("http://192.168.1.5:7861", False),
    ("http://192.168.1.6:7860", False),
    ("file://", False),
    ("file://localhost", False),
    ("chrome-extension://abcdef", False),
    ("javascript://localhost", False),
    ("appx://x", False),
    ("http://localhost, http://evil.com", False),
    ("http://localhost http://evil.com", False),
    ("localhost", False),
    ("//localhost", False),
]


@pytest.mark.parametrize(("origin", "expected"), PAGES)
def test_which_pages_may_call(origin: str, expected: bool) -> None:
    assert OriginRule().allows(origin, HERE) is expected


def test_the_configuration_adds_pages_literally() -> None:
    rule = OriginRule(allowed=("https://chat.example.org/", "chrome-extension://abc"))
    assert rule.allows("https://chat.example.org", HERE)
    assert rule.allows("chrome-extension://abc", HERE)
    assert not rule.allows("http://chat.example.org", HERE)
    assert not rule.allows("https://chat.example.org:444", HERE)
    assert not rule.allows("https://chatXexample.org", HERE)


@pytest.mark.parametrize("origin", [origin for origin, _ in PAGES])
def test_with_keys_the_key_is_the_gate(origin: str) -> None:
    assert OriginRule(keyed=True).allows(origin, HERE)
