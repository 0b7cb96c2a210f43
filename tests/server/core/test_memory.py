"""Bytes, pools, budgets."""

import pytest

from server.core.memory import GIB, KIB, MIB, RAM, Footprint, MemoryBudget, PoolId, add, most, readable, vram

GPU = vram(0)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (KIB, "1.0 KiB"),
        (int(3.4 * MIB), "3.4 MiB"),
        (9 * GIB + GIB // 10, "9.1 GiB"),
        (2000 * GIB, "2000.0 GiB"),
        (-2 * MIB, "-2.0 MiB"),
    ],
)
def test_counts_for_people(count: int, text: str) -> None:
    assert readable(count) == text


def test_the_most_of_each_pool() -> None:
    assert most([]) == {}
    assert most([{RAM: 1, GPU: 5}, {RAM: 3}, {GPU: 2}]) == {RAM: 3, GPU: 5}


def test_sums_are_per_pool() -> None:
    assert add([]) == {}
    assert add([{RAM: 1}, {GPU: 2}, {RAM: 3}]) == {RAM: 4, GPU: 2}
    footprint = Footprint(resident={RAM: 1, GPU: 5}, working={GPU: 2})
    assert footprint.total() == {RAM: 1, GPU: 7}
    assert Footprint().total() == {}


@pytest.mark.parametrize(
    ("used", "need", "lacking"),
    [
        ({}, {}, None),
        ({}, {RAM: 10}, None),
        ({}, {RAM: 11}, RAM),
        ({RAM: 6}, {RAM: 4}, None),
        ({RAM: 7}, {RAM: 4}, RAM),
        ({RAM: 99}, {RAM: 0}, None),
        ({RAM: 99}, {GPU: 5}, None),
        ({}, {RAM: 11, GPU: 6}, RAM),
        ({}, {PoolId("npu"): 1}, PoolId("npu")),
        ({}, {PoolId("npu"): 0}, None),
    ],
)
def test_what_lacks(used: dict[PoolId, int], need: dict[PoolId, int], lacking: PoolId | None) -> None:
    assert MemoryBudget(limits={RAM: 10, GPU: 5}).lacking(used, need) == lacking


def test_pools_of_accelerators_are_named_by_number() -> None:
    assert [vram(k) for k in range(2)] == ["vram:0", "vram:1"]
