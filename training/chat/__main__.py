"""`python -m training.chat`: train and export `starter-chat`, or score it."""

import argparse
import logging
import random
import sys
from itertools import islice
from pathlib import Path

from server.starter import FOLDER

FILE = FOLDER / "chat.gguf"
WORK = Path("build") / "starter-chat"


def main() -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.chat", description=__doc__)
    parser.add_argument("verb", choices=("train", "export", "eval", "show"))
    parser.add_argument("--work", type=Path, default=WORK, help="where the training keeps its state")
    parser.add_argument("--file", type=Path, default=FILE, help="the GGUF file to write")
    parser.add_argument("--steps", type=int, help="fewer or more steps than the recipe says")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("training").setLevel(logging.INFO)
    {"train": _train, "export": _export, "eval": _evaluate, "show": _show}[options.verb](options)
    return 0


def _train(options: argparse.Namespace) -> None:
    import msgspec

    from training.chat.gguf_file import write
    from training.chat.network import Shape
    from training.chat.train import Recipe, train

    recipe = Recipe()
    if options.steps:
        recipe = msgspec.structs.replace(recipe, steps=options.steps)
    trained = train(options.work, recipe, Shape())
    write(options.file, trained.weights, trained.tokenizer, trained.shape)


def _export(options: argparse.Namespace) -> None:
    """Write the file of a training that is not at its end."""
    from training.chat.gguf_file import write
    from training.chat.network import Shape
    from training.chat.train import kept

    weights, tokenizer = kept(options.work)
    write(options.file, weights, tokenizer, Shape())


def _evaluate(_: argparse.Namespace) -> None:
    from training.chat.evaluate import evaluate, into_card

    into_card(*evaluate())


def _show(_: argparse.Namespace) -> None:
    from training.chat.train import dialogues

    for dialogue in islice(dialogues(random.SystemRandom().randrange(2**32)), 20):
        for message in dialogue.messages:
            sys.stdout.write(f"{message['role']:<9} {message['content']}\n")
        sys.stdout.write("\n")


if __name__ == "__main__":
    raise SystemExit(main())
