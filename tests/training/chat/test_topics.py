import random
from pathlib import Path

import pytest

from training.chat.asking import normal, question
from training.chat.dialogues import Dialogues
from training.chat.facts import Facts, NotAFact
from training.chat.held_out import held_out, held_out_calls, held_out_texts
from training.chat.topics import RUSSIAN, TALK, alternatives, expand, holds, read_topics


@pytest.fixture(scope="module")
def facts() -> Facts:
    return Facts(parameters=2.1)


def test_all_that_is_answered_is_still_true(facts: Facts) -> None:
    """Every flag, key, route and quotation in the answers stands in code or documents; else this raises."""
    topics = read_topics(facts)
    about_hearth = [topic for topic in topics.values() if topic.group not in (RUSSIAN, TALK)]
    assert len(about_hearth) >= 150
    assert len([topic for topic in topics.values() if topic.group == RUSSIAN]) >= 20
    assert all("{" not in topic.answer.replace('{"', "").replace("{ ", "") for topic in about_hearth)


@pytest.mark.parametrize(
    ("placeholder", "said"),
    [
        ("{flag:--port}", "--port"),
        ("{verb:pull}", "hearth pull"),
        ("{key:text.slots}", "slots"),
        ("{default:server.drain_s}", "60"),
        ("{default:text.flash_attention}", "true"),
        ("{route:/health}", "/health"),
        ("{{{url}}}", "{http://127.0.0.1:7860}"),
    ],
)
def test_facts(facts: Facts, placeholder: str, said: str) -> None:
    assert facts.fill(f"a {placeholder} b") == f"a {said} b"


@pytest.mark.parametrize(
    "claim",
    [
        "{flag:--prot}",
        "{verb:push}",
        "{key:text.slot}",
        "{default:text.no}",
        "{route:/v2}",
        "{doc:pip uninstall}",
        "{uri}",
    ],
)
def test_what_is_not_so_cannot_be_said(facts: Facts, claim: str) -> None:
    with pytest.raises(NotAFact):
        facts.fill(claim)


def write(folder: Path, text: str) -> Path:
    (folder / "some.txt").write_text(text, encoding="utf-8")
    return folder


def test_an_answer_must_hold_its_words(facts: Facts, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lacks"):
        read_topics(facts, write(tmp_path, "@ a\n= yes\n! no\nq well\n"))


def test_a_further_question_must_lead_somewhere(facts: Facts, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no topic"):
        read_topics(facts, write(tmp_path, "@ a\n= yes\n! yes\nq well\n> and then => b\n"))


def test_patterns() -> None:
    assert alternatives("a [b|c] d | e") == ("a [b|c] d", "e")
    draw = random.Random(1)
    assert {expand("a [b|c|] d [e|[f|g]]", draw) for _ in range(200)} == {
        f"a {x}d {y}" for x in ("b ", "c ", "") for y in "efg"
    }
    assert expand("[models] stay", draw) == "[models] stay"


def test_words_that_count() -> None:
    assert holds("run hearth pull x", ("hearth pull", "x|y"))
    assert not holds("run hearth pull x", ("hearth pull", "y|z"))


def test_a_topic_is_asked_for_in_many_ways(facts: Facts) -> None:
    draw = random.Random(2)
    topics = read_topics(facts)
    asked = {normal(question(topics["pull"], draw)) for _ in range(300)}
    assert len(asked) > 200


def test_what_is_held_out_stays_out(facts: Facts) -> None:
    topics = read_topics(facts)
    draw = random.Random(3)
    common = question(topics["talk.hello"], draw)
    seen = [common, "What is 2 + 2?"]
    dialogues = iter(Dialogues(topics, seen, seed=4))
    forbidden = {normal(text) for text in seen}
    for _ in range(3000):
        said = [m["content"] for m in next(dialogues).messages if m["role"] == "user"]
        assert not forbidden & set(map(normal, said))
    free = iter(Dialogues(topics, [], seed=4))
    found = [m["content"] for _ in range(3000) for m in next(free).messages if m["role"] == "user"]
    assert forbidden & set(map(normal, found)), "else the test above shows nothing"


def test_the_same_seed_gives_the_same_dialogues(facts: Facts) -> None:
    topics = read_topics(facts)
    one, two, other = (iter(Dialogues(topics, [], seed)) for seed in (5, 5, 6))
    first = [next(one) for _ in range(50)]
    assert first == [next(two) for _ in range(50)]
    assert first != [next(other) for _ in range(50)]


def test_the_held_out_questions_can_be_judged(facts: Facts) -> None:
    topics = read_topics(facts)
    questions = held_out()
    assert len(questions) >= 200
    assert len(held_out_calls()) >= 50
    assert [item.text for item in questions if item.topic and item.topic not in topics] == []
    assert all(item.topic or item.must for item in questions)
    texts = [normal(text) for text in held_out_texts()]
    assert len(set(texts)) == len(texts)
