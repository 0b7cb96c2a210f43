"""Memory that is ready before a load: the same values, in the place that was touched, and nothing kept beyond use."""

import gc
import threading

import pytest
import torch

from server.core.memory import MIB
from server.engines.image.ready_memory import PAGE, STRETCH, ReadyMemory
from server.engines.meminfo import process_bytes

pytestmark = pytest.mark.torch


def touched(size: int) -> ReadyMemory:
    ready = ReadyMemory(size, available=lambda: None)
    assert ready._thread is not None
    ready._thread.join()
    return ready


def storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@pytest.mark.parametrize("size", [0, MIB])
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (600, 1000), (6, 4, 3, 3), (0, 4)])
@pytest.mark.parametrize("target", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("source", [torch.float16, torch.bfloat16, torch.float32])
def test_values_are_those_of_torch(source: torch.dtype, target: torch.dtype, shape: tuple[int, ...], size: int) -> None:
    tensor = (torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 100).to(source)
    made = ReadyMemory(size).cast(target)(tensor)
    assert made.dtype == target
    assert torch.equal(made, tensor.to(target))
    assert (made is tensor) == (source == target)


def test_convolutions_in_bfloat16_have_channels_last() -> None:
    made = ReadyMemory(MIB).cast(torch.bfloat16)(torch.ones(8, 4, 3, 3, dtype=torch.float16))
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert made.to(memory_format=torch.channels_last) is made


def test_tensors_lie_in_it_one_after_the_other_until_it_is_full() -> None:
    ready = touched(MIB)
    cast = ready.cast(torch.float32)
    first, second = cast(torch.ones(3, dtype=torch.float16)), cast(torch.full((5, 2), 2.0, dtype=torch.float16))
    assert storage(second) - storage(first) == 64
    assert first.untyped_storage().nbytes() == 12, "each has a storage of its own"
    large = cast(torch.zeros(MIB // 4, dtype=torch.float16))
    assert not 0 <= storage(large) - storage(first) < MIB
    ready.release()
    assert (first.tolist(), second.tolist()) == ([1.0] * 3, [[2.0, 2.0]] * 5)
    assert not 0 <= storage(cast(torch.ones(3, dtype=torch.float16))) - storage(first) < MIB, "it was let go"


def test_what_was_not_taken_goes_back_at_once_and_the_rest_with_its_tensors() -> None:
    gc.collect()
    before = process_bytes()
    ready = touched(256 * MIB)
    assert ready.touched == 256 * MIB
    assert process_bytes() - before > 250 * MIB
    kept = ready.cast(torch.float32)(torch.ones(16 * MIB, dtype=torch.float16))
    ready.release()
    assert ready.touched == 0
    assert 60 * MIB < process_bytes() - before < 140 * MIB
    del kept
    gc.collect()
    assert process_bytes() - before < 40 * MIB


def test_it_touches_no_more_than_the_machine_can_spare() -> None:
    left = iter([10 * STRETCH, STRETCH, STRETCH - PAGE])
    ready = ReadyMemory(8 * STRETCH, available=lambda: next(left))
    assert ready._thread is not None
    ready._thread.join()
    assert ready.touched == 2 * STRETCH
    ready.release()


def test_a_load_does_not_wait_for_all_of_it() -> None:
    asked, go = threading.Event(), threading.Event()

    def available() -> None:
        asked.set()
        go.wait(20)

    ready = ReadyMemory(8 * STRETCH, available=available)
    asked.wait(20)
    threading.Timer(0.0, go.set).start()
    ready.settle()
    assert ready.touched < 8 * STRETCH
    ready.release()


def test_a_system_that_gives_none_is_no_error() -> None:
    ready = ReadyMemory(1 << 60)
    assert ready.cast(torch.float32)(torch.ones(3, dtype=torch.float16)).tolist() == [1.0] * 3
    assert ready.touched == 0
    ready.release()
