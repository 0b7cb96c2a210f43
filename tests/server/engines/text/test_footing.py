"""How a reply goes back to the plain path, and how likely it is thought to have to."""

import pytest

from server.engines.text.footing import LOSS_SHARE, Balance, Footing, TieRate


def test_the_first_guess_counts() -> None:
    footing = Footing()
    assert footing.since is None
    footing.leave(20)
    footing.leave(30)
    assert footing.since == 20


def test_all_tokens_are_computed_again_and_then_all_is_well() -> None:
    footing = Footing()
    footing.leave(20)
    footing.go_back([4, 5, 6])
    seen = []
    while footing.again:
        seen.append(footing.again[0])
        done = footing.computed()
        assert done == (not footing.again)
        assert (footing.since is None) == done
    assert seen == [4, 5, 6]
    footing.leave(50)
    assert footing.since == 50


def test_risk_grows_with_what_is_to_come() -> None:
    footing = Footing()
    risks = [footing.risk(left, 0.01) for left in (1, 8, 32, 1000)]
    assert risks == sorted(risks)
    assert risks[0] == pytest.approx(0.01)
    assert risks[2] == risks[3], "a reply of no tokens yet is not expected to go on for long"


@pytest.mark.parametrize(("ties", "likely"), [(0, False), (1, False), (50, True)])
def test_risk_is_learnt_from_the_reply(ties: int, likely: bool) -> None:
    footing = Footing()
    for number in range(500):
        footing.observe(tie=number < ties)
    assert (footing.risk(100, 1 / 1000) > 0.5) == likely


def test_a_new_reply_is_like_others() -> None:
    rate = TieRate()
    assert Footing().risk(100, rate.share) < 0.3
    for number in range(20_000):
        rate.observe(tie=number % 20 == 0)
    assert rate.share == pytest.approx(0.05, rel=0.2)
    assert Footing().risk(100, rate.share) > 0.7
    for _ in range(20_000):
        rate.observe(tie=False)
    assert rate.share < 0.001


def test_who_goes_back_loses_all_the_time_since_it_left_and_what_seemed_won() -> None:
    footing, balance = Footing(), Balance()
    footing.leave(20, now=100.0)
    balance.win(footing, 3.0)
    footing.leave(25, now=104.0)
    balance.win(footing, 2.0)
    assert footing.stake(110.0) == 15.0
    assert balance.affords(110.0)
    balance.lose(footing, 110.0)
    assert not balance.affords(110.0)
    assert not balance.affords(10.0 / LOSS_SHARE - 1)
    assert balance.affords(10.0 / LOSS_SHARE)


def test_what_others_won_pays_for_a_loss() -> None:
    lucky, unlucky, balance = Footing(), Footing(), Balance()
    lucky.leave(5, now=0.0)
    balance.win(lucky, 30.0)
    unlucky.leave(5, now=50.0)
    balance.lose(unlucky, 70.0)
    assert balance.affords(70.0)


def test_a_reply_that_came_back_begins_anew() -> None:
    footing, balance = Footing(), Balance()
    footing.leave(20, now=10.0)
    balance.win(footing, 3.0)
    footing.go_back([1])
    assert footing.computed()
    footing.leave(30, now=50.0)
    assert footing.stake(51.0) == 1.0


def test_losses_stay_small_where_every_reply_goes_back() -> None:
    """A hundred thousand steps of one second; whoever leaves gains a half of each of eight steps and goes back then."""
    balance, now, lost = Balance(), 0.0, 0.0
    while now < 100_000:
        if balance.affords(now):
            footing = Footing()
            footing.leave(9, now)
            for _ in range(8):
                balance.win(footing, 0.5)
            now += 8
            balance.lose(footing, now)
            lost += 8
        else:
            now += 1
    assert 0 < lost <= LOSS_SHARE * now + 8
