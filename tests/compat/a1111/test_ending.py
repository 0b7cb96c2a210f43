import signal

import pytest

from tests.compat.a1111.test_routes import API, House, run


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    raised: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    return raised


def test_routes_that_end_the_server_are_there_when_the_configuration_says_so(signals: list[int]) -> None:
    async def test(house: House) -> None:
        stopped = await house.ask(f"{API}/server-stop", method="POST")
        assert (stopped.status, stopped.body) == (200, b"Stopping.")
        assert signals == [signal.SIGTERM]
        await house.ask(f"{API}/server-kill", method="POST")
        assert signals == [signal.SIGTERM] * 3
        restarted = await house.ask(f"{API}/server-restart", method="POST")
        assert (restarted.status, restarted.body) == (501, b"")
        assert (await house.json(f"{API}/cmd-flags"))["api_server_stop"] is True

    run(test, server_stop=True)


def test_otherwise_they_are_not(signals: list[int]) -> None:
    async def test(house: House) -> None:
        for route in ("server-stop", "server-kill", "server-restart"):
            assert (await house.ask(f"{API}/{route}", method="POST")).status == 404
        assert signals == []
        assert (await house.json(f"{API}/cmd-flags"))["api_server_stop"] is False

    run(test)
