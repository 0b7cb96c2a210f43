"""`python -m training.image`: train and export `starter-image` with its LoRA and control model, or score them."""

import argparse
import logging
from pathlib import Path

from server.starter import FOLDER, IMAGE_FILE

FILE = FOLDER / IMAGE_FILE
WORK = Path("build") / "starter-image"
DECODER_STEPS = 1_900
TEXT_STEPS = 600
UNET_STEPS = 6_500
"""More than an hour on one core of 2021."""

LORA_STEPS = 600
CONTROL_STEPS = 1_500


def main() -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.image", description=__doc__)
    parser.add_argument("verb", choices=("train", "export", "eval"))
    parser.add_argument("--work", type=Path, default=WORK, help="where the training keeps its state")
    parser.add_argument("--file", type=Path, default=FILE, help="the checkpoint to write; the rest goes beside it")
    parser.add_argument("--steps", type=int, default=UNET_STEPS, help="steps of the UNet's training")
    parser.add_argument("--text-steps", type=int, default=TEXT_STEPS, help="steps of the text encoder's training")
    parser.add_argument("--decoder-steps", type=int, default=DECODER_STEPS, help="steps of the decoder's training")
    parser.add_argument("--lora-steps", type=int, default=LORA_STEPS, help="steps of the LoRA's training")
    parser.add_argument("--control-steps", type=int, default=CONTROL_STEPS, help="steps of the control model's")
    parser.add_argument("--url", help="score a server that runs already")
    parser.add_argument("--prompts", type=int, default=200, help="how many prompts to score")
    parser.add_argument("--sheet", type=Path, help="write all pictures of the scoring side by side")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    {"train": _train, "export": _export, "eval": _evaluate}[options.verb](options)
    return 0


def _train(options: argparse.Namespace) -> None:
    """Train what has steps, each part on what was trained before it; 0 steps leave a part as it is."""
    import torch

    from training.image import train_control, train_decoder, train_lora, train_text, train_unet

    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.decoder_steps:
        train_decoder.train(train_decoder.Run(options.decoder_steps), options.work / "vae.pt")
    if options.text_steps:
        train_text.train(train_text.Run(options.text_steps), options.work)
    if options.steps:
        train_unet.train(train_unet.Run(options.steps), options.work)
    if options.lora_steps:
        train_lora.train_lora(options.lora_steps, options.work)
    if options.control_steps:
        train_control.train_control(options.control_steps, options.work)
    _export(options)


def _export(options: argparse.Namespace) -> None:
    """Write the files of what is trained, though it may not be at its end, and their card beside them."""
    from training.image.evaluate import CARD
    from training.image.export import export_all

    export_all(options.work, options.file)
    card = options.file.with_name(CARD.name)
    if not card.exists():
        card.write_text(Path(__file__).with_name("CARD.md").read_text(encoding="utf-8"), encoding="utf-8")


def _evaluate(options: argparse.Namespace) -> None:
    from training.chat.evaluate import serving
    from training.image.evaluate import into_card, scores
    from training.image.studio import Studio

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
