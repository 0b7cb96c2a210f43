"""Loads a GGUF file into an engine: model, context, vocabulary, prompts, put together by hand."""

from pathlib import Path

import llama_cpp
import numpy as np

from server.core.errors import LoadFailed
from server.core.models import LoadedFacts, LoadSettings, ModelCard, TextSettings
from server.engines.base import Report
from server.engines.text.allocator import keep_freed_memory
from server.engines.text.batch import Batch
from server.engines.text.conversation import ConversationPrompts
from server.engines.text.cores import physical_cores
from server.engines.text.embedding_context import EmbeddingContext
from server.engines.text.embedding_engine import EmbeddingEngine
from server.engines.text.engine import LlamaEngine
from server.engines.text.footprint import Meter
from server.engines.text.native import Context, Model
from server.engines.text.native_log import LogTap
from server.engines.text.prompts import Prompts
from server.engines.text.vocabulary import Vocabulary


class LlamaLoader:
    """Makes an engine out of a text card."""

    def load(self, card: ModelCard, settings: LoadSettings, report: Report) -> LlamaEngine | EmbeddingEngine:
        """Load the model and compute one token with it; blocks.

        Raises:
            LoadFailed: the settings are not for text, the file is refused, or there is no memory for its context.
        """
        if not isinstance(settings, TextSettings):
            raise LoadFailed(f"{card.name!r} is a text model and needs text settings", model=card.id)
        _check(settings, card)
        keep_freed_memory()
        log = LogTap()
        try:
            return _load(card, settings, report, log)
        except LoadFailed as error:
            log.close()
            error.facts["model"] = card.id
            raise
        except BaseException:
            log.close()
            raise


def _check(settings: TextSettings, card: ModelCard) -> None:
    most = int(llama_cpp.llama_max_parallel_sequences())
    if not 1 <= settings.slots <= most:
        raise LoadFailed(f"slots must lie in 1 ... {most}, not {settings.slots}", model=card.id)
    if settings.batch < 1 or settings.context < 0 or settings.context_cap < 1 or settings.threads < 0:
        raise LoadFailed("context, context_cap, batch and threads must not be negative, batch not 0", model=card.id)
    if not Path(card.files[0]).is_file():
        raise LoadFailed(f"the file of {card.name!r} is no longer there", model=card.id)


def _load(card: ModelCard, settings: TextSettings, report: Report, log: LogTap) -> LlamaEngine | EmbeddingEngine:
    meter = Meter()
    model = Model(Path(card.files[0]), settings.gpu_layers, report, log)
    context: Context | EmbeddingContext | None = None
    try:
        if model.pooling:
            length = _length(settings, model)
            threads = settings.threads or physical_cores()
            context = EmbeddingContext(model, settings, length=length, threads=threads, log=log)
            vocabulary = Vocabulary(model)
            context.compute([np.zeros(1, np.int32)])  # see `_warm_up`
            facts = _facts(settings, model, meter, length)
            return EmbeddingEngine(model, context, vocabulary, facts, log)
        if not model.is_decoder:
            raise LoadFailed(f"{card.name!r} is an encoder; only models that continue a text can be run")
        length = settings.context or _length(settings, model)
        threads = settings.threads or physical_cores()
        context = Context(model, settings, context=length, threads=threads, log=log)
        if not context.has_memory:
            raise LoadFailed(f"{card.name!r} keeps no context; only models that continue a text can be run")
        vocabulary = Vocabulary(model)
        _warm_up(context, vocabulary)
        facts = _facts(settings, model, meter, min(length, context.length))
        prompts = Prompts(
            vocabulary, ConversationPrompts(vocabulary, model.chat_template(), facts.context), facts.context
        )
        return LlamaEngine(model, context, vocabulary, prompts, facts, log, speculation=settings.speculation)
    except BaseException:
        if context is not None:
            context.close()
        model.close()
        raise


def _length(settings: TextSettings, model: Model) -> int:
    """Return how many tokens a text may have: not more than in training, beyond that positions have no meaning."""
    trained = model.context_trained or settings.context_cap
    return min(trained, settings.context or settings.context_cap)


def _facts(settings: TextSettings, model: Model, meter: Meter, context: int) -> LoadedFacts:
    return LoadedFacts(
        slots=settings.slots,
        footprint=meter.footprint(model.size),
        context=context,
        device="gpu" if llama_cpp.llama_supports_gpu_offload() and settings.gpu_layers else "cpu",
        dtype=model.file_type,
    )


def _warm_up(context: Context, vocabulary: Vocabulary) -> None:
    """Compute one token: the first request then finds buffers and weights in place, and the footprint is a true one."""
    batch = Batch(1)
    batch.set_next([0], [0], [vocabulary.bos or 0])
    if code := context.decode(batch):
        raise LoadFailed(f"the model cannot compute a token (llama_decode gave {code})")
    context.clear()
