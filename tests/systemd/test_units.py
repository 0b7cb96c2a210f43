"""The units are accepted by systemd where it is installed, and hold what they promise anywhere."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
MOST_EXPOSURE = 2.0

CONFINED = {
    "DynamicUser": "yes",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "read-only",
    "PrivateTmp": "yes",
    "PrivateUsers": "yes",
    "DevicePolicy": "closed",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectProc": "invisible",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
    "KillMode": "mixed",
    "OOMPolicy": "continue",
    "StateDirectory": "hearth",
    "CacheDirectory": "hearth",
    "RuntimeDirectory": "hearth",
    "LogsDirectory": "hearth",
}
LEFT_OUT = ("MemoryDenyWriteExecute", "PrivateDevices", "ProcSubset")


def unit(path: Path) -> configparser.RawConfigParser:
    """Return the unit; of a repeated directive the last line counts."""
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",), delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_it(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    scope = ["--user"] if "user" in path.name else []
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        ["systemd-analyze", *scope, "verify", str(path)], capture_output=True, text=True, timeout=60, env=environment
    )
    if "Failed to initialize manager" in done.stderr:
        pytest.skip("systemd-analyze cannot work here: " + done.stderr.strip())
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_little_exposed() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    command = ["systemd-analyze", "security", "--offline=yes", str(FOLDER / "hearth.service")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = re.search(r"Overall exposure level for hearth\.service: ([\d.]+)", done.stdout)
    if found is None:
        pytest.skip("this systemd cannot rate a unit offline: " + done.stderr.strip())
    assert float(found[1]) <= MOST_EXPOSURE


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_it_waits_for_ready_and_watches(path: Path) -> None:
    service = unit(path)["Service"]
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"
    assert service["WatchdogSec"] == "30"
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "78"
    assert seconds(service["TimeoutStopSec"]) > 60, "longer than the grace of running jobs"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_the_server_becomes_the_main_process(path: Path) -> None:
    """NotifyAccess=main and the watchdog need it: env replaces itself, a shell would not."""
    assert unit(path)["Service"]["ExecStart"].startswith("/usr/bin/env hearth serve --config ")


@pytest.mark.parametrize(("directive", "value"), CONFINED.items())
def test_it_is_confined(directive: str, value: str) -> None:
    assert unit(FOLDER / "hearth.service")["Service"][directive] == value


def test_only_accelerators_are_let_through() -> None:
    text = (FOLDER / "hearth.service").read_text()
    assert re.findall(r"^DeviceAllow=(.*)$", text, re.MULTILINE) == [
        "char-nvidia rw",
        "char-nvidia-uvm rw",
        "char-drm rw",
        "/dev/kfd rw",
    ]
    assert re.findall(r"^SystemCallFilter=(.*)$", text, re.MULTILINE) == ["@system-service", "~@privileged"]


@pytest.mark.parametrize("directive", LEFT_OUT)
def test_what_would_break_it_is_left_out(directive: str) -> None:
    assert directive not in unit(FOLDER / "hearth.service")["Service"]
