import numpy as np

from server.engines.text.penalties import PenaltyWindow
from server.engines.text.sampling_values import Penalties


def test_the_penalty_window_forgets() -> None:
    window = PenaltyWindow(Penalties(frequency=1.0, last_n=3))
    window.extend(np.array([9, 9, 9, 9, 1, 1, 2], np.int32))
    logits = np.zeros(10, np.float32)
    window.apply(logits)
    assert logits.tolist() == [0, -2, -1, 0, 0, 0, 0, 0, 0, 0]
    window.extend((3,))
    logits[:] = 0
    window.apply(logits)
    assert logits.tolist() == [0, -1, -1, -1, 0, 0, 0, 0, 0, 0]


def test_the_repeat_penalty_makes_both_signs_less_likely() -> None:
    window = PenaltyWindow(Penalties(repeat=2.0))
    window.extend((0, 1, 1))
    logits = np.array([4.0, -4.0, 4.0], np.float32)
    window.apply(logits)
    assert logits.tolist() == [2.0, -8.0, 4.0]


def test_a_long_text_is_counted_as_by_hand() -> None:
    random = np.random.default_rng(1)
    tokens = [int(token) for token in random.integers(0, 9, 500)]
    window = PenaltyWindow(Penalties(frequency=1.0, last_n=20))
    for place, token in enumerate(tokens):
        window.extend((token,))
        logits = np.zeros(9, np.float32)
        window.apply(logits)
        last = tokens[max(0, place - 19) : place + 1]
        assert logits.tolist() == [-last.count(value) for value in range(9)]
