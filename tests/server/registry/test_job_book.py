"""What jobs took is remembered by model and shape."""

from pathlib import Path

import msgspec

from server.core.image import Size
from server.core.memory import RAM, vram
from server.registry.job_book import MARGIN, JobBook
from tests.support.builders import image


def test_the_most_is_remembered_with_a_margin_and_for_this_model_alone(tmp_path: Path) -> None:
    book, job = JobBook(tmp_path / "jobs.json"), image()
    assert book.taken("a", job) is None
    book.note("a", job, {RAM: 1000})
    book.note("a", job, {RAM: 400, vram(0): 7})
    assert book.taken("a", job) == {RAM: int(1000 * MARGIN), vram(0): int(7 * MARGIN)}
    assert book.taken("b", job) is None
    assert book.taken("a", msgspec.structs.replace(job, size=Size(8, 8))) is None


def test_the_next_run_knows_it(tmp_path: Path) -> None:
    JobBook(tmp_path / "jobs.json").note("a", image(), {RAM: 1000})
    assert JobBook(tmp_path / "jobs.json").taken("a", image()) == {RAM: 1050}
    (tmp_path / "jobs.json").write_text("nonsense")
    assert JobBook(tmp_path / "jobs.json").taken("a", image()) is None


def test_the_oldest_are_forgotten() -> None:
    book = JobBook(None)
    for number in range(2100):
        book.note(f"m{number}", image(), {RAM: 1 + number})
    assert book.taken("m0", image()) is None
    assert book.taken("m2099", image()) is not None
