import math

from server.core.jobs import JobEvent, JobId, Outcome
from server.core.text import TextDelta, TextFinished, Usage
from server.engines.text.contest import Contest

JOB = JobId("job")


def said(choice: int, text: str) -> list[Outcome]:
    return [JobEvent(JOB, TextDelta(choice=choice, text=text))]


def over(choice: int) -> list[Outcome]:
    return [JobEvent(JOB, TextFinished(choice=choice, reason="stop", usage=Usage()))]


def test_the_best_are_sent_after_the_last_has_ended_in_their_order() -> None:
    contest = Contest(3, winners=2, first_choice=4)
    for choice, mean in ((0, -2.0), (2, -3.0)):
        contest.feed(choice, said(choice, str(choice)))
        contest.feed(choice, over(choice))
        assert contest.end(choice, mean) == []
    contest.feed(1, said(1, "1"))
    contest.feed(1, over(1))
    assert contest.end(1, -1.0) == [*said(4, "1"), *over(4), *said(5, "0"), *over(5)]


def test_equal_ones_keep_their_order_and_one_without_tokens_is_last() -> None:
    contest = Contest(3, winners=3, first_choice=0)
    for choice in range(3):
        contest.feed(choice, over(choice))
    contest.end(0, -math.inf)
    contest.end(2, -1.0)
    assert contest.end(1, -1.0) == [*over(0), *over(1), *over(2)]
