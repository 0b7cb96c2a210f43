"""Loads a GGUF file into an engine: model, context, vocabulary, prompts, put together by hand."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import llama_cpp
import numpy as np

from server.core.errors import LoadFailed
from server.core.memory import Footprint
from server.core.models import AdapterFacts, LoadedFacts, LoadSettings, ModelCard, TextSettings
from server.core.text_settings import problems
from server.engines.base import Report
from server.engines.text.adapters import Adapters
from server.engines.text.allocator import keep_freed_memory
from server.engines.text.chat_form import chat_form
from server.engines.text.conversation import ConversationPrompts
from server.engines.text.cores import physical_cores
from server.engines.text.draft import DraftModel
from server.engines.text.embedding_context import EmbeddingContext
from server.engines.text.embedding_engine import EmbeddingEngine
from server.engines.text.engine import LlamaEngine
from server.engines.text.footprint import Meter
from server.engines.text.identity import Identity
from server.engines.text.legacy.ready import ready_file
from server.engines.text.native import Context, Model
from server.engines.text.native_log import LogTap
from server.engines.text.projector import Projector
from server.engines.text.prompts import Prompts
from server.engines.text.sight import Sight
from server.engines.text.speculator import Speculator
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
    for key, text in problems(settings):
        raise LoadFailed(f"{key} {text}", model=card.id)
    most = int(llama_cpp.llama_max_parallel_sequences())
    if settings.slots > most:
        raise LoadFailed(f"slots must be 1 ... {most}, not {settings.slots}", model=card.id)
    if not Path(card.files[0]).is_file():
        raise LoadFailed(f"the file of {card.name!r} is no longer there", model=card.id)


def _load(card: ModelCard, settings: TextSettings, report: Report, log: LogTap) -> LlamaEngine | EmbeddingEngine:
    with ExitStack() as owned:
        file, report = ready_file(card, report)
        meter = Meter()
        model = Model(file, settings, report, log, architecture=card.architecture)
        owned.callback(model.close)
        engine: LlamaEngine | EmbeddingEngine
        if model.pooling:
            engine = _load_embedding_engine(card, settings, model, meter, log, owned)
        else:
            files = (file, *map(Path, card.files[1:]))
            engine = _load_engine(card, files, settings, model, meter, log, owned)
        owned.pop_all()
        return engine


def _load_embedding_engine(
    card: ModelCard, settings: TextSettings, model: Model, meter: Meter, log: LogTap, owned: ExitStack
) -> EmbeddingEngine:
    length = _length(settings, model)
    threads = settings.threads or physical_cores()
    context = EmbeddingContext(model, settings, length=length, threads=threads, log=log)
    owned.callback(context.close)
    vocabulary = Vocabulary(model)
    context.compute([np.zeros(1, np.int32)])  # see `_warm_up`
    facts = _facts(settings, model, meter.footprint(model.size), length)
    return EmbeddingEngine(model, context, vocabulary, facts, log)


def _load_engine(
    card: ModelCard,
    files: Sequence[Path],
    settings: TextSettings,
    model: Model,
    meter: Meter,
    log: LogTap,
    owned: ExitStack,
) -> LlamaEngine:
    if not model.is_decoder:
        raise LoadFailed(f"{card.name!r} is an encoder; only models that continue a text can be run")
    adapters = Adapters(model, settings.loras or (), log)
    length = settings.context or _length(settings, model)
    threads = settings.threads or physical_cores()
    projector: Projector | None = None
    if settings.mmproj:
        projector = Projector(Path(settings.mmproj), model, settings, threads=threads, log=log)
        owned.callback(projector.close)
    at_once = projector.at_once if projector is not None else 0
    context = Context(model, settings, context=length, threads=threads, log=log, at_once=at_once)
    owned.callback(context.close)
    if not context.has_memory:
        raise LoadFailed(f"{card.name!r} keeps no context; only models that continue a text can be run")
    vocabulary = Vocabulary(model)
    _warm_up(context, vocabulary)
    length = min(length, context.length)
    draft = _load_draft(card, settings, context, vocabulary, length, log) if settings.draft else None
    if draft is not None:
        owned.callback(draft.close)
    beside = sum(part.size for part in (projector, draft) if part is not None)
    footprint = meter.footprint(model.size + adapters.size + beside)
    facts = _facts(settings, model, footprint, length, adapters.facts)
    sight = Sight(projector, vocabulary) if projector is not None else None
    template, fallback = chat_form(settings, card, model.chat_template(), vocabulary.control)
    conversations = ConversationPrompts(vocabulary, template, facts.context, sight, fallback)
    prompts = Prompts(vocabulary, conversations, facts.context, sight)
    speculator = Speculator(rows=context.rows, wanted=settings.speculation and context.can_cut, draft=draft)
    return LlamaEngine(
        model,
        context,
        vocabulary,
        prompts,
        facts,
        adapters,
        log,
        speculator,
        identity=Identity(files, settings, adapters.files),
        slots_folder=Path(settings.slots_dir).expanduser() if settings.slots_dir else None,
        sight=sight,
        draft=draft,
    )


def _load_draft(
    card: ModelCard, settings: TextSettings, context: Context, vocabulary: Vocabulary, length: int, log: LogTap
) -> DraftModel | None:
    """Return the model that guesses, None when nothing shall be guessed."""
    if not settings.speculation:
        return None
    if not context.can_cut:
        raise LoadFailed(f"{card.name!r} cannot have a draft: what it remembers of a wrong guess cannot be taken back")
    threads = settings.threads or physical_cores()
    return DraftModel(Path(settings.draft), settings, vocabulary, length=length, threads=threads, log=log)


def _length(settings: TextSettings, model: Model) -> int:
    """Return how many tokens a text may have: not more than in training, beyond that positions have no meaning."""
    trained = model.context_trained or settings.context_cap
    return min(trained, settings.context or settings.context_cap)


def _facts(
    settings: TextSettings,
    model: Model,
    footprint: Footprint,
    context: int,
    adapters: tuple[AdapterFacts, ...] = (),
) -> LoadedFacts:
    return LoadedFacts(
        slots=settings.slots,
        footprint=footprint,
        context=context,
        device="gpu" if llama_cpp.llama_supports_gpu_offload() and settings.gpu_layers else "cpu",
        dtype=model.file_type,
        adapters=adapters,
        sees=bool(settings.mmproj) and not model.pooling,
    )


def _warm_up(context: Context, vocabulary: Vocabulary) -> None:
    """Compute a token: the first request then finds buffers and weights in place, and the footprint is a true one."""
    if code := context.try_out(vocabulary.bos or 0):
        raise LoadFailed(f"the model cannot compute a token (llama_decode gave {code})")
