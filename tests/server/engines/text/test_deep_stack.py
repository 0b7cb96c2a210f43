import threading

import pytest

from server.engines.text.deep_stack import on_deep_stack


def test_what_comes_of_the_work_comes_back() -> None:
    before = threading.stack_size()
    assert on_deep_stack(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        on_deep_stack(lambda: 1 // 0)
    assert threading.stack_size() == before
    assert on_deep_stack(threading.current_thread) is not threading.current_thread()
