"""The training: one run from a seed, on one core. It may be interrupted; it goes on from its last state."""

import logging
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from training.chat import tokeniser
from training.chat.batches import Batch, steps
from training.chat.chatml import written
from training.chat.dialogues import Dialogues
from training.chat.facts import Facts
from training.chat.held_out import held_out_texts
from training.chat.network import Network, Shape, count, matrices_of
from training.chat.topics import read_topics
from training.muon import Steps

logger = logging.getLogger(__name__)

KEPT_EVERY = 100
TOLD_EVERY = 25
STATE = "state.pt"
VOCABULARY = "tokenizer.json"


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How the training goes. `rows` are dialogues a step; rates hold until the last `falling` part.

    From step `copies_from` on the part `copying` of the dialogues repeats words.
    """

    seed: int = 20261124
    steps: int = 6500
    rows: int = 20
    longest: int = 480
    warm_up: int = 50
    falling: float = 0.4
    matrix_rate: float = 0.02
    other_rate: float = 4e-3
    average: float = 0.99
    tokenised: int = 8000
    copies_from: int = 3500
    copying: float = 0.25


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    weights: dict[str, Tensor]
    tokenizer: Tokenizer
    shape: Shape


def vocabulary(recipe: Recipe, shape: Shape) -> Tokenizer:
    """Return the vocabulary for the first dialogues of another seed."""
    chosen = islice(iter(dialogues(recipe.seed + 1)), recipe.tokenised)
    texts = (text for dialogue in chosen for text, _ in written(dialogue.messages, dialogue.tools))
    return tokeniser.train(texts, shape.vocabulary)


def train(folder: Path, recipe: Recipe, shape: Shape) -> Trained:
    """Train, or go on with the training whose state stands in `folder`, and return the averaged weights."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(1)
    tokenizer = vocabulary(recipe, shape)
    tokenizer.save(str(folder / VOCABULARY))
    network = Network(shape)
    run = _Run(network, recipe)
    state = folder / STATE
    if state.is_file():
        run.restore(torch.load(state, weights_only=True))
    logger.info("%d parameters, from step %d", count(network), run.done)
    began = time.monotonic()
    for groups in islice(_lessons(recipe, tokenizer, run.done), recipe.steps - run.done):
        loss, tokens = run.step(groups)
        if run.done % TOLD_EVERY == 0:
            logger.info("step %d loss %.4f tokens %d after %.0f s", run.done, loss, tokens, time.monotonic() - began)
        if run.done % KEPT_EVERY == 0 or run.done == recipe.steps:
            torch.save(run.state(), folder / "state.new")
            (folder / "state.new").replace(state)
    return Trained(weights=run.averaged(), tokenizer=tokenizer, shape=shape)


class _Run:
    """A network with its optimisers and the running average of its weights."""

    def __init__(self, network: Network, recipe: Recipe) -> None:
        self.done = 0
        self._network = network
        self._recipe = recipe
        self._steps = Steps(network.parameters(), matrices_of(network), betas=(0.9, 0.98))
        self._average = {name: value.detach().clone() for name, value in network.named_parameters()}

    def step(self, groups: list[Batch]) -> tuple[float, int]:
        """Learn from one step's dialogues; return the loss for a token and the number of tokens read."""
        share = 1 / sum(len(group.said) for group in groups)
        total = 0.0
        for group in groups:
            logits = self._network(group.ids, group.wanted)
            loss = functional.cross_entropy(logits, group.said, reduction="sum") * share
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        fall = _fall(self.done, self._recipe)
        self._steps.step(self._recipe.matrix_rate * fall, self._recipe.other_rate * fall)
        self.done += 1
        keep = min(self._recipe.average, self.done / (self.done + 10))
        for name, value in self._network.named_parameters():
            self._average[name].lerp_(value.detach(), 1 - keep)
        return total, sum(group.ids.numel() for group in groups)

    def averaged(self) -> dict[str, Tensor]:
        """Return the averaged weights by name."""
        return {name: value.clone() for name, value in self._average.items()}

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on."""
        return {
            "done": self.done,
            "network": self._network.state_dict(),
            "average": self._average,
            **self._steps.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.done = state["done"]
        self._network.load_state_dict(state["network"])
        self._average = state["average"]
        self._steps.restore(state)


def kept(folder: Path) -> tuple[dict[str, Tensor], Tokenizer]:
    """Return the averaged weights so far, and the vocabulary, of a training that may still go on."""
    state = torch.load(folder / STATE, weights_only=True)
    return state["average"], Tokenizer.from_file(str(folder / VOCABULARY))


def _lessons(recipe: Recipe, tokenizer: Tokenizer, done: int) -> Iterator[list[Batch]]:
    """Yield what each step after the first `done` learns from."""
    early, late = (
        steps(data, tokenizer, rows=recipe.rows, longest=recipe.longest)
        for data in (dialogues(recipe.seed), dialogues(recipe.seed + 2, recipe.copying))
    )
    if done < recipe.copies_from:
        yield from islice(early, done, recipe.copies_from)
    yield from islice(late, max(0, done - recipe.copies_from), None)


def dialogues(seed: int, copying: float = 0.0) -> Dialogues:
    """Return the training data of a seed."""
    shape = Shape()
    topics = read_topics(Facts(parameters=count(Network(shape)) / 1e6))
    return Dialogues(topics, held_out_texts(), seed, copying)


def _fall(done: int, recipe: Recipe) -> float:
    """Return the share of the rate: up in a line, level, then down in a line to a fiftieth."""
    if done < recipe.warm_up:
        return (done + 1) / recipe.warm_up
    level = recipe.steps * (1 - recipe.falling)
    return 1.0 if done < level else max(0.02, (recipe.steps - done) / (recipe.steps - level))
