from collections.abc import Sequence

import pytest
import torch

from server.core.image import TextEncoding
from server.core.prompt import Break, Span
from server.engines.image import checkpoint
from server.engines.image.chunks import Chunk, Placed, pack
from server.engines.image.text_encoding import TextEncoder, emphasise
from tests.server.engines.image.conftest import FLOAT32
from tests.support.golden_images import CHECKPOINT
from tests.support.shared import golden, needs_shared
from tests.support.towers import encoder_of

pytestmark = pytest.mark.torch

PLAIN = TextEncoding()


@pytest.fixture(scope="module")
def encoder(tiny: checkpoint.Checkpoint) -> TextEncoder:
    return encoder_of(tiny)


def tokens(encoder: TextEncoder, chunks: Sequence[Chunk], settings: TextEncoding = PLAIN) -> torch.Tensor:
    return encoder.encode([chunks], settings)[0].tokens


def test_weights_multiply_and_the_mean_is_kept() -> None:
    hidden = torch.arange(12, dtype=torch.float32).reshape(1, 3, 4)
    weights = torch.tensor([[1.0, 2.0, 1.0]])
    plain = emphasise(hidden, weights, "no_norm")
    assert plain[0, 1].tolist() == [8.0, 10.0, 12.0, 14.0]
    kept = emphasise(hidden, weights, "original")
    assert kept.mean().item() == pytest.approx(hidden.mean().item())
    for mode in ("ignore", "none"):
        assert emphasise(hidden, weights, mode) is hidden  # type: ignore[arg-type]


def test_a_mean_of_zero_scales_nothing() -> None:
    hidden = torch.tensor([[[1.0, -1.0], [2.0, -2.0]]])
    assert torch.equal(emphasise(hidden, torch.ones(1, 2), "original"), hidden)


def test_clip_skip_ends_earlier(encoder: TextEncoder) -> None:
    chunk = pack((Span("a cat"),), encoder.tokenizer)
    last, earlier = (tokens(encoder, chunk, TextEncoding(clip_skip=skip)) for skip in (1, 2))
    assert last.shape == earlier.shape == (77, encoder.width)
    assert not torch.allclose(last, earlier)


def test_an_embedding_of_token_vectors_equals_the_tokens(encoder: TextEncoder) -> None:
    (chunk,) = pack((Span("a red cat"),), encoder.tokenizer)
    table = encoder.tower.bare.get_submodule("embeddings.token_embedding").weight
    placed = Chunk((*chunk.tokens[:2], 0, *chunk.tokens[3:]), chunk.weights, (Placed(2, "red"),))
    encoder.vectors = {"red": table[chunk.tokens[2]][None].clone()}
    assert torch.equal(tokens(encoder, [placed]), tokens(encoder, [chunk]))
    encoder.vectors = {"red": torch.zeros(1, encoder.width)}
    assert not torch.equal(tokens(encoder, [placed]), tokens(encoder, [chunk]))


def test_embeddings_leave_no_trace(encoder: TextEncoder) -> None:
    chunk = pack((Span("a cat"),), encoder.tokenizer)
    before = tokens(encoder, chunk)
    encoder.vectors = {"x": torch.ones(2, encoder.width)}
    tokens(encoder, [Chunk(chunk[0].tokens, chunk[0].weights, (Placed(1, "x"),))])
    assert torch.equal(tokens(encoder, chunk), before)


@needs_shared
@pytest.mark.golden
def test_recorded_conditionings() -> None:
    """First values and sum of each recorded conditioning; rescaling by a mean near zero costs some digits."""
    encoder = encoder_of(
        checkpoint.load(CHECKPOINT, precision=FLOAT32, vae_path=None, allow_pickle=False, report=lambda fraction: None)
    )
    attention = {entry["prompt"]: entry["attention"] for entry in golden("prompts.json")["prompts"]}
    for entry in golden("tensors.json")["cond"]:
        pieces = [Break() if weight == -1 else Span(text, weight) for text, weight in attention[entry["prompt"]]]
        settings = TextEncoding(clip_skip=entry["clip_skip"])
        found = tokens(encoder, pack(pieces, encoder.tokenizer), settings)
        recorded = entry["cond"]
        assert [1, *found.shape] == recorded["shape"]
        assert found.flatten()[:8].tolist() == pytest.approx(recorded["first8"], rel=5e-4, abs=5e-5), entry["prompt"]
        assert float(found.sum()) == pytest.approx(recorded["sum"], abs=1e-3)
