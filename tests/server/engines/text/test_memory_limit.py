import resource
import sys

import pytest

from server.engines.text.memory_limit import MemoryLimit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the accounts of memory are Linux's")

MIB = 1 << 20


def test_what_is_over_the_limit_fails_and_what_is_under_does_not() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with MemoryLimit(256 * MIB):
        assert len(bytearray(64 * MIB)) == 64 * MIB
        with pytest.raises(MemoryError):
            bytearray(512 * MIB)
        inside = resource.getrlimit(resource.RLIMIT_AS)
    assert inside != before
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert len(bytearray(512 * MIB)) == 512 * MIB


def test_the_limit_is_lifted_after_an_error() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(MemoryError), MemoryLimit(MIB):
        bytearray(512 * MIB)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_tighter_limit_of_the_process_stays() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with MemoryLimit(256 * MIB):
        outer = resource.getrlimit(resource.RLIMIT_AS)
        with MemoryLimit(1024 * MIB):
            assert resource.getrlimit(resource.RLIMIT_AS) == outer
        assert resource.getrlimit(resource.RLIMIT_AS) == outer
    assert resource.getrlimit(resource.RLIMIT_AS) == before
