import pytest
import torch

from server.core.image import Size, TextEncoding
from server.core.prompt import Break, PromptPart, PromptTree, ScheduledText, Span, plain
from server.engines.image.checkpoint import Checkpoint
from server.engines.image.chunks import no_embeddings
from server.engines.image.conditioning import Conditioning, Part, Scheduled, TextPass, encode
from server.engines.image.text_stack import TextStack
from tests.support.towers import stack_of

pytestmark = pytest.mark.torch


def part(*texts: tuple[int, float], weight: float = 1.0, tokens: int = 2) -> Part:
    """Return a part whose texts are tensors [tokens, 3] of one value each."""
    return Part(tuple(Scheduled(until, torch.full((tokens, 3), value)) for until, value in texts), weight)


@pytest.mark.parametrize(("call", "value"), [(0, 1.0), (10, 1.0), (11, 2.0), (20, 2.0), (21, 1.0), (99, 1.0)])
def test_texts_by_model_call(call: int, value: float) -> None:
    """The first text that reaches to the call, and the first of all beyond the end."""
    assert part((10, 1.0), (20, 2.0)).at(call).encoded[0, 0] == value


def test_parts_keep_their_weights_and_order() -> None:
    found = Conditioning(parts=(part((9, 1.0), weight=0.5), part((9, 2.0), weight=-1.0)), negative=part((9, 3.0))).at(0)
    assert found.weights == (0.5, -1.0)
    assert found.parts[:, 0, 0].tolist() == [1.0, 2.0]
    assert found.negative[0, 0] == 3.0


def test_shorter_parts_repeat_their_last_vector() -> None:
    short = Part((Scheduled(9, torch.tensor([[1.0], [2.0]])),), 1.0)
    long = Part((Scheduled(9, torch.zeros(4, 1)),), 1.0)
    found = Conditioning(parts=(short, long), negative=short).at(0)
    assert found.parts[0].flatten().tolist() == [1.0, 2.0, 2.0, 2.0]
    assert found.negative.shape == (2, 1)


@pytest.fixture(scope="module")
def encoder(tiny: Checkpoint) -> TextStack:
    return stack_of(tiny)


def encoded(stack: TextStack, prompt: PromptTree, **settings: object) -> Conditioning:
    asked = TextPass(stack=stack, settings=TextEncoding(**settings), find=no_embeddings, size=Size(64, 64))  # type: ignore[arg-type]
    return encode(prompt, plain(""), asked)


def test_a_prompt_is_encoded(encoder: TextStack) -> None:
    tree = PromptTree((PromptPart((ScheduledText(20, (Span("a cat"), Break(), Span("a dog"))),), 0.7),))
    found = encoded(encoder, tree).at(0)
    assert found.parts.shape == (1, 154, encoder.width)
    assert found.negative.shape == (77, encoder.width)
    assert found.weights == (0.7,)


def test_texts_of_one_schedule_share_their_emphasis(encoder: TextStack) -> None:
    """A weighted second text changes the scale of the first, and not without rescaling."""
    alone = PromptTree((PromptPart((ScheduledText(5, (Span("a cat", 1.5),)),)),))
    both = PromptTree(
        (PromptPart((ScheduledText(5, (Span("a cat", 1.5),)), ScheduledText(9, (Span("dogs and birds", 2.0),)))),)
    )

    def first(tree: PromptTree, emphasis: str) -> torch.Tensor:
        return encoded(encoder, tree, emphasis=emphasis).at(0).parts[0]

    assert torch.allclose(first(alone, "no_norm"), first(both, "no_norm"), atol=1e-5)
    assert not torch.allclose(first(alone, "original"), first(both, "original"), atol=1e-3)


def test_texts_of_one_schedule_have_one_length(encoder: TextStack) -> None:
    short, long = ScheduledText(5, (Span("a"),)), ScheduledText(9, (Span("cat " * 80),))
    found = encoded(encoder, PromptTree((PromptPart((short, long)),)))
    assert found.at(0).parts.shape[1] == found.at(7).parts.shape[1] == 154


def test_the_filler_is_the_empty_prompt(encoder: TextStack) -> None:
    assert encoded(encoder, plain("a cat")).filler is None
    found = encoded(encoder, plain("a cat"), pad_uncond=True)
    assert found.filler is not None
    assert torch.equal(found.filler, found.negative.at(0).encoded)
