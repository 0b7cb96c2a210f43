"""Scores of the picture model, through a running Hearth and its AUTOMATIC1111 door, as any client would ask."""

import logging
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from server.starter import FOLDER
from training.image import effects
from training.image.evaluation import Asked, asked
from training.image.judge import faults
from training.image.studio import SIDE, Studio, sent

logger = logging.getLogger(__name__)

CARD = FOLDER / "IMAGE.md"
FEW = 8
"""Pictures that inpainting and img2img are judged on."""

SOME = 24
"""Pictures and seeds that all else is judged on."""

STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)

_TABLE = re.compile(r"(?<=<!-- scores -->\n).*?(?=<!-- end -->)", re.DOTALL)


def prompts_right(studio: Studio, questions: list[Asked], sheet: Path | None) -> int:
    """Return how many pictures are right; `sheet` takes all of them with the wrong ones framed."""
    right = 0
    pictures = []
    for number, question in enumerate(questions):
        picture = studio.painted(question.prompt, 1000 + number)
        wrong = faults(picture, question.scene)
        right += not wrong
        if wrong:
            logger.info("%d %s: %s", number, question.prompt, "; ".join(wrong))
            ImageDraw.Draw(picture).rectangle((0, 0, SIDE - 1, SIDE - 1), outline=(255, 0, 255), width=2)
        pictures.append(picture)
    if sheet is not None:
        contact_sheet(pictures).save(sheet)
    return right


def kept_outside(studio: Studio, questions: list[Asked]) -> int:
    """Return the largest change, of 255, outside the mask when the middle is painted anew."""
    mask = Image.new("L", (SIDE, SIDE), 0)
    ImageDraw.Draw(mask).rectangle((40, 40, 87, 87), fill=255)
    outside = np.asarray(mask) == 0
    largest = 0
    for number, question in enumerate(questions):
        before = studio.painted(question.prompt, number)
        after = studio.painted(
            "a blue circle", number, init_images=[sent(before)], mask=sent(mask), mask_blur=0, denoising_strength=0.9
        )
        change = np.abs(np.asarray(before, dtype=np.int16) - np.asarray(after, dtype=np.int16)).max(axis=2)
        largest = max(largest, int(change[outside].max()))
    return largest


def changes(studio: Studio, questions: list[Asked]) -> list[float]:
    """Return how far img2img moves pictures, of 255, at each of STRENGTHS, on average."""
    moved = []
    for strength in STRENGTHS:
        total = 0.0
        for number, question in enumerate(questions):
            before = studio.painted(question.prompt, number)
            after = studio.painted(
                "a purple star on a black background", number, init_images=[sent(before)], denoising_strength=strength
            )
            total += float(np.abs(np.asarray(before, dtype=np.int16) - np.asarray(after, dtype=np.int16)).mean())
        moved.append(total / len(questions))
    return moved


def contact_sheet(pictures: list[Image.Image], columns: int = 20) -> Image.Image:
    """Return pictures side by side."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (SIDE + 2), rows * (SIDE + 2)))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * (SIDE + 2), number // columns * (SIDE + 2)))
    return sheet


def scores(studio: Studio, prompts: int, sheet: Path | None) -> list[tuple[str, str]]:
    """Return what was measured and its value in words; `sheet` takes the pictures."""
    questions = asked()[:prompts]
    right = prompts_right(studio, questions, sheet)
    kept = kept_outside(studio, questions[:FEW])
    moved = ", ".join(f"{by:.1f}" for by in changes(studio, questions[:FEW]))
    return [
        ("prompts judged right by all rules", f"{right} of {len(questions)} ({100 * right / len(questions):.1f} %)"),
        ("largest change outside an inpainting mask", f"{kept} of 255"),
        (f"mean change by img2img at strength {', '.join(map(str, STRENGTHS))}", f"{moved} of 255"),
        *effects.rows(studio, questions[:SOME], min(SOME, len(questions))),
    ]


def into_card(rows: list[tuple[str, str]], card: Path = CARD) -> None:
    """Write the scores into the model card, between its two marks."""
    table = "| measured | result |\n|---|---|\n" + "".join(f"| {what} | {result} |\n" for what, result in rows)
    text = card.read_text(encoding="utf-8")
    card.write_text(_TABLE.sub(lambda _: table, text), encoding="utf-8")
