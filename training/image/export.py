"""Trained weights to the files that are shipped.

Words that no caption has would be noise to the UNet: their rows of the table become that of "a", which says nothing, or
that of the word they mean.
"""

import random
from pathlib import Path

import torch

from server.engines.image.clip.tokenizer import load_tokenizer
from server.engines.image.text_tower import bare_text_model
from server.starter.companions import CANNY_FILE, PIXEL_ART_FILE
from training.image import train_control, train_lora
from training.image.autoencoder import built_vae
from training.image.data import lesson
from training.image.network import Networks, write
from training.image.train_unet import Painter, kept

FILLER = "a"

CAPTIONS = 6_000
"""How many captions tell which words are known."""

MEANT = {
    "crimson": "red",
    "scarlet": "red",
    "violet": "purple",
    "grey": "gray",
    "golden": "yellow",
    "gold": "yellow",
    "dark": "black",
    "disk": "disc",
    "ball": "circle",
    "round": "circle",
    "ring": "circle",
    "box": "square",
    "kitten": "cat",
    "kitty": "cat",
    "ship": "boat",
    "sailboat": "boat",
    "home": "house",
    "cottage": "house",
    "hut": "house",
    "oak": "tree",
    "sunshine": "sun",
    "love": "heart",
    "centre": "center",
    "image": "picture",
    "photo": "picture",
    "painting": "picture",
    "backdrop": "background",
    "nighttime": "night",
    "midnight": "night",
    "enormous": "huge",
    "giant": "huge",
    "miniature": "tiny",
}
"""Words that training never sees, each with the word whose row it gets."""


def settle_words(painter: Painter, seen: torch.Tensor) -> None:
    """Give the rows of words that are not among the ids `seen` the row of what they mean, or the filler's."""
    table = bare_text_model(painter.text.model).get_submodule("embeddings.token_embedding").get_parameter("weight")
    tokenizer = load_tokenizer()
    known = torch.zeros(len(table), dtype=torch.bool)
    known[seen.long().unique()] = True
    with torch.no_grad():
        table[~known] = table[tokenizer.ids(FILLER)[0]].clone()
        for word, meant in MEANT.items():
            ids, row = tokenizer.ids(word), tokenizer.ids(meant)
            if len(ids) == len(row) == 1 and not known[ids[0]]:
                table[ids[0]] = table[row[0]].clone()


def export_all(folder: Path, out: Path) -> list[Path]:
    """Write the checkpoint, and the LoRA and the control model beside it where they are trained; return the paths."""
    written = [export(folder, out)]
    if (folder / train_lora.STATE).is_file():
        written.append(train_lora.export_lora(folder, out.with_name(PIXEL_ART_FILE)))
    if (folder / train_control.STATE).is_file():
        written.append(train_control.export_control(folder, out.with_name(CANNY_FILE)))
    return written


def export(folder: Path, out: Path) -> Path:
    """Write the checkpoint of what `train_unet` and `train_decoder` left in `folder`, and return its path."""
    painter, autoencoder = kept(folder).requires_grad_(False), built_vae()
    autoencoder.load_state_dict(torch.load(folder / "vae.pt", weights_only=True))
    settle_words(painter, lesson(CAPTIONS, random.Random(1)).tokens)
    return write(out, Networks(painter.unet, painter.text, autoencoder))
