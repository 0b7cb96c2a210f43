"""From dialogues to tensors. Rows of like length go together, so that little is padding."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.chat.chatml import END, written
from training.chat.dialogues import Dialogue

GROUPS = 4


class Batch(NamedTuple):
    """`ids` [rows, length]; `wanted` [rows, length]: the next token is the assistant's; `said` [n] are those tokens."""

    ids: Tensor
    wanted: Tensor
    said: Tensor


def tokens(dialogue: Dialogue, tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """Return a dialogue's ids, and which of them the assistant says. Cut after the assistant's last word."""
    ids: list[int] = []
    own: list[bool] = []
    for text, is_said in written(dialogue.messages, dialogue.tools):
        found = tokenizer.encode(text).ids
        ids += found
        own += [is_said] * len(found)
    end = len(own) - own[::-1].index(True)
    return ids[:end], own[:end]


def steps(dialogues: Iterable[Dialogue], tokenizer: Tokenizer, *, rows: int, longest: int) -> Iterator[list[Batch]]:
    """Yield what one step learns from: `rows` dialogues in groups of like length."""
    encoded = (tokens(dialogue, tokenizer) for dialogue in dialogues)
    fitting = (pair for pair in encoded if len(pair[0]) <= longest)
    while chosen := list(islice(fitting, rows)):
        chosen.sort(key=lambda pair: len(pair[0]))
        size = -(-len(chosen) // GROUPS)
        yield [_batch(chosen[start : start + size], tokenizer) for start in range(0, len(chosen), size)]


def _batch(rows: list[tuple[list[int], list[bool]]], tokenizer: Tokenizer) -> Batch:
    length = max(len(ids) for ids, _ in rows)
    padding = tokenizer.token_to_id(END)
    ids = torch.full((len(rows), length), padding, dtype=torch.long)
    own = torch.zeros((len(rows), length), dtype=torch.bool)
    for row, (numbers, said) in enumerate(rows):
        ids[row, : len(numbers)] = torch.tensor(numbers)
        own[row, : len(said)] = torch.tensor(said)
    wanted = own[:, 1:]
    return Batch(ids[:, :-1], wanted, ids[:, 1:][wanted])
