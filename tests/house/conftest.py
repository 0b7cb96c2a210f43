"""What tests of the whole house share."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No worker may die and nothing unexpected may happen: all of that is logged as an error."""
    caplog.set_level(logging.ERROR)
    yield
    wrong = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert not wrong, [record.getMessage() + str(record.exc_info or "") for record in wrong[:5]]
