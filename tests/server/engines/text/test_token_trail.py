from server.core.text import TokenLogprob
from server.engines.text.token_trail import TokenTrail, Told


def entry(token: int) -> TokenLogprob:
    return TokenLogprob(token, b"", -1.0)


def test_each_piece_of_text_has_its_tokens() -> None:
    trail = TokenTrail()
    trail.push(3, entry(1))
    assert trail.take(3) == Told(1, (entry(1),))
    trail.push(2, entry(2))
    trail.push(2, entry(3))
    assert trail.take(4) == Told(2, (entry(2), entry(3)))


def test_a_token_belongs_to_the_piece_with_its_first_character() -> None:
    trail = TokenTrail()
    trail.push(4, entry(1))
    assert trail.take(1) == Told(1, (entry(1),))
    assert trail.take(3) == Told(0, ())


def test_parts_of_a_character_come_with_it() -> None:
    trail = TokenTrail()
    trail.push(1, entry(1))
    trail.push(0, entry(2))
    assert trail.take(1) == Told(1, (entry(1),))
    trail.push(1, entry(3))
    assert trail.take(1) == Told(2, (entry(2), entry(3)))


def test_what_is_never_shown_is_never_told() -> None:
    trail = TokenTrail()
    for token in range(3):
        trail.push(2, entry(token))
    assert trail.take(3).tokens == 2
    assert trail.take(0) == Told(0, ())


def test_without_logprobs_tokens_are_counted() -> None:
    trail = TokenTrail()
    trail.push(1)
    trail.push(1)
    assert trail.take(2) == Told(2, ())
