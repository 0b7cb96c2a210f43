"""`python -m training.image`: train and export `starter-image`, or score it."""

import argparse
import logging
from pathlib import Path

from server.starter import FOLDER

FILE = FOLDER / "image.safetensors"
WORK = Path("build") / "starter-image"
DECODER_STEPS = 1_900
UNET_STEPS = 12_000
"""About an hour and a half on one core of 2021."""


def main() -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.image", description=__doc__)
    parser.add_argument("verb", choices=("train", "export", "eval"))
    parser.add_argument("--work", type=Path, default=WORK, help="where the training keeps its state")
    parser.add_argument("--file", type=Path, default=FILE, help="the checkpoint to write")
    parser.add_argument("--steps", type=int, default=UNET_STEPS, help="steps of the UNet's training")
    parser.add_argument("--decoder-steps", type=int, default=DECODER_STEPS, help="steps of the decoder's training")
    parser.add_argument("--url", help="score a server that runs already")
    parser.add_argument("--prompts", type=int, default=200, help="how many prompts to score")
    parser.add_argument("--sheet", type=Path, help="write all pictures of the scoring side by side")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    {"train": _train, "export": _export, "eval": _evaluate}[options.verb](options)
    return 0


def _train(options: argparse.Namespace) -> None:
    import torch

    from training.image import train_decoder, train_unet

    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.decoder_steps:
        train_decoder.train(train_decoder.Run(options.decoder_steps), options.work / "vae.pt")
    if options.steps:
        train_unet.train(train_unet.Run(options.steps), options.work)
    _export(options)


def _export(options: argparse.Namespace) -> None:
    """Write the file of a training that may not be at its end, and its card beside it."""
    from training.image.evaluate import CARD
    from training.image.export import export

    export(options.work, options.file)
    card = options.file.with_name(CARD.name)
    if not card.exists():
        card.write_text(Path(__file__).with_name("CARD.md").read_text(encoding="utf-8"), encoding="utf-8")


def _evaluate(options: argparse.Namespace) -> None:
    from training.chat.evaluate import serving
    from training.image.evaluate import Studio, into_card, scores

    if options.url is not None:
        rows = scores(Studio(options.url), options.prompts, options.sheet)
    else:
        with serving() as url:
            rows = scores(Studio(url), options.prompts, options.sheet)
    for what, result in rows:
        logging.getLogger(__name__).info("%s: %s", what, result)
    if options.url is None:
        into_card(rows)


if __name__ == "__main__":
    raise SystemExit(main())
