import random

import numpy as np
import pytest

from server.engines.text.prefix import (
    WORTH_COPYING,
    WORTH_WAITING,
    Placement,
    SlotView,
    Tokens,
    common_prefix,
    place,
)


def tokens(*ids: int) -> Tokens:
    return np.array(ids, np.int32)


def text(length: int, kind: int = 0) -> Tokens:
    return np.arange(length, dtype=np.int32) + 1000 * kind


def empty(number: int) -> SlotView:
    return SlotView(number, tokens())


def idle(number: int, content: Tokens, last_used: int = 1) -> SlotView:
    return SlotView(number, content, last_used=last_used)


def running(number: int, content: Tokens) -> SlotView:
    return SlotView(number, content, live=True)


def computing(number: int, prompt: Tokens, done: int) -> SlotView:
    return SlotView(number, prompt[:done], promised=prompt, live=True)


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [((), (), 0), ((1,), (), 0), ((1, 2), (1, 2), 2), ((1, 2, 3), (1, 2), 2), ((1, 9), (1, 2), 1), ((5,), (6,), 0)],
)
def test_common_prefix(a: tuple[int, ...], b: tuple[int, ...], length: int) -> None:
    assert common_prefix(tokens(*a), tokens(*b)) == common_prefix(tokens(*b), tokens(*a)) == length


def foreign(slot: SlotView) -> SlotView:
    return slot._replace(foreign=True)


def test_what_belongs_to_another_scope_is_not_inherited_even_where_it_is_overwritten() -> None:
    assert place(text(60), [foreign(idle(0, text(50)))]) == Placement(0, 0, 0)
    assert place(text(60), [foreign(idle(0, text(50))), empty(1)]) == Placement(1, 1, 0)
    assert place(text(60), [foreign(idle(0, text(50))), idle(1, text(40), last_used=2)]) == Placement(1, 1, 40)


def test_nobody_waits_for_another_scopes_prompt() -> None:
    assert place(text(60), [computing(0, text(60), 0), empty(1)]) is None
    assert place(text(60), [foreign(computing(0, text(60), 0)), empty(1)]) == Placement(1, 1, 0)


def test_the_lowest_empty_sequence_is_taken_first() -> None:
    assert place(text(10), [empty(0), empty(1)]) == Placement(0, 0, 0)


def test_no_idle_sequence_means_waiting() -> None:
    assert place(text(10), [running(0, text(5, 1))]) is None


def test_a_conversation_goes_on_in_its_own_sequence() -> None:
    slots = [empty(0), idle(1, text(50)), empty(2)]
    assert place(text(60), slots) == Placement(1, 1, 50)


def test_the_last_token_is_always_computed() -> None:
    assert place(text(50), [idle(0, text(50)), empty(1)]) == Placement(0, 0, 49)


def test_another_conversation_does_not_overwrite_one_that_only_shares_its_system_prompt() -> None:
    other = np.concatenate([text(100), text(400, 1)])
    prompt = np.concatenate([text(100), text(20, 2)])
    assert place(prompt, [idle(0, other), empty(1)]) == Placement(1, 0, 100)


def test_the_longest_unused_content_is_overwritten() -> None:
    slots = [idle(0, text(9, 1), 7), idle(1, text(9, 2), 3), idle(2, text(9, 3), 5)]
    assert place(text(10), slots) == Placement(1, 1, 0)


def test_running_sequences_stay_neighbours() -> None:
    slots = [idle(0, text(9, 1), 1), running(1, text(9, 2)), idle(2, text(9, 3), 9), empty(3)]
    assert place(text(10), slots).slot in (0, 2)
    gap = [running(0, text(9, 1)), idle(1, text(9, 2), 9), running(2, text(9, 3)), empty(3)]
    assert place(text(10), gap).slot == 1


def test_content_moves_next_to_the_running_ones() -> None:
    slots = [running(0, text(9, 1)), empty(1), empty(2), idle(3, text(100))]
    assert place(text(120), slots) == Placement(1, 3, 100)


def test_a_prompt_is_copied_from_a_running_sequence() -> None:
    slots = [running(0, text(100)), empty(1)]
    assert place(text(90), slots) == Placement(1, 0, 89)


def test_a_short_share_is_not_worth_a_copy() -> None:
    slots = [running(0, text(WORTH_COPYING - 1)), empty(1)]
    assert place(text(90), slots) == Placement(1, 1, 0)


def test_a_prompt_that_shares_with_one_being_computed_waits_for_it() -> None:
    shared = np.concatenate([text(200), text(10, 1)])
    prompt = np.concatenate([text(200), text(10, 2)])
    assert place(prompt, [computing(0, shared, 0), empty(1)]) is None
    assert place(prompt, [computing(0, shared, 100), empty(1)]) is None
    assert place(prompt, [computing(0, shared, 205), empty(1)]) == Placement(1, 0, 200)


def test_nobody_waits_for_little() -> None:
    prompt = np.concatenate([text(WORTH_WAITING - 1), text(100, 2)])
    assert place(prompt, [computing(0, text(300), 0), empty(1)]) == Placement(1, 1, 0)


def test_nobody_waits_for_what_an_idle_sequence_has() -> None:
    slots = [computing(0, text(300), 10), idle(1, text(250)), empty(2)]
    assert place(text(260), slots) == Placement(1, 1, 250)


def test_states_that_cannot_be_cut_are_inherited_as_they_are() -> None:
    prompt = text(60)
    assert place(prompt, [idle(0, text(50)), empty(1)], whole=True) == Placement(0, 0, 50)
    assert place(prompt, [running(0, text(50)), empty(1)], whole=True) == Placement(1, 0, 50)
    assert place(prompt, [idle(0, text(70)), idle(1, text(40), last_used=2)], whole=True) == Placement(1, 1, 40)


@pytest.mark.parametrize("content", [text(60), text(61), np.concatenate([text(50), text(5, 1)])])
def test_states_that_know_more_are_not_inherited(content: Tokens) -> None:
    placement = place(text(60), [idle(0, content)], whole=True)
    assert placement == Placement(0, 0, 0)


def test_nobody_waits_for_a_state_that_will_have_gone_on() -> None:
    prompt = np.concatenate([text(200), text(10, 2)])
    assert place(prompt, [computing(0, text(200), 0), empty(1)], whole=True) == Placement(1, 1, 0)


def test_what_is_scored_inherits_nothing() -> None:
    slots = [idle(0, text(50)), computing(1, text(60), 0), empty(2)]
    placement = place(text(60), slots, reuse=False)
    assert placement is not None
    assert placement.shared == 0


def test_random_states_keep_the_invariants() -> None:
    choice = random.Random(3)
    for _ in range(500):
        slots = []
        for number in range(choice.randint(1, 6)):
            content = np.array(choice.choices([1, 2], k=choice.randint(0, 80)), np.int32)
            if choice.random() < 0.3 and len(content) > 1:
                slots.append(computing(number, content, choice.randrange(len(content))))
            else:
                slots.append(SlotView(number, content, live=choice.random() < 0.3, last_used=choice.randint(0, 9)))
        prompt = np.array(choice.choices([1, 2], k=choice.randint(1, 80)), np.int32)
        whole = choice.random() < 0.3
        placement = place(prompt, slots, whole=whole)
        if placement is None:
            assert all(slot.live for slot in slots) or any(slot.promised is not None for slot in slots)
            continue
        assert not slots[placement.slot].live
        assert placement.shared < len(prompt)
        assert np.array_equal(slots[placement.source].tokens[: placement.shared], prompt[: placement.shared])
        assert not whole or placement.shared in (0, len(slots[placement.source].tokens))
