"""What can be told of models, slots and the whole server. Reads the service, changes nothing."""

from collections.abc import Iterable, Iterator

from msgspec import UNSET

from compat.llama_server import wire
from compat.llama_server.prompts import MEDIA_MARKER
from compat.llama_server.sampling import settings_from_core
from compat.llama_server.settings import LlamaServerSettings
from server.core.errors import NotNow, UnknownModel
from server.core.jobs import JobState
from server.core.models import ModelCard, ModelKind
from server.core.text import SamplingParams
from server.service.service import JobView, ResidentView, Service

CHAT_TEMPLATE = "tokenizer.chat_template"
_READY = ("ready", "loading")


class Facts:
    """Answers questions about a service."""

    def __init__(self, service: Service, settings: LlamaServerSettings) -> None:
        self._service = service
        self._settings = settings

    def model(self, name: str | None) -> str:
        """Return the model that answers a request.

        It is the one that is named, else the default, else the only one, else the loaded one that was used last, else
        the first by name.

        Raises:
            UnknownModel: none is named and there is none at all.
        """
        wanted = name or self._settings.default_model
        if wanted:
            return wanted
        cards = [card for card in self._service.models(ModelKind.TEXT) if card.broken is None]
        if not cards:
            text = "the request names no model, and no text model is registered; put a GGUF file into the models folder"
            raise UnknownModel(text, model="", close=[])
        known = {card.id for card in cards}
        loaded = [view for view in self._residents() if view.model in known and view.state in _READY]
        if loaded:
            return max(loaded, key=lambda view: view.last_used).model
        return min(cards, key=lambda card: card.name).id

    def embedder(self, name: str | None) -> str:
        """Return the model that makes vectors for a request: the named one, else the default, else the first there is.

        Raises:
            UnknownModel: there is no text model at all.
        """
        wanted = name or self._settings.default_embedder
        if wanted:
            return wanted
        cards = [card for card in self._service.models(ModelKind.TEXT) if card.broken is None and _embeds(card)]
        return cards[0].id if cards else self.model(None)

    def props(self, name: str | None) -> wire.Props:
        """Tell about a model, loaded or not, without loading it; raise UnknownModel."""
        card = self._service.find(self.model(name), ModelKind.TEXT)
        view = self._resident(card)
        return wire.Props(
            default_generation_settings=wire.DefaultSettings(
                n_ctx=self._context(card, view), params=wire.GenerationSettings(stream=True)
            ),
            total_slots=self._slots(view),
            model_alias=card.id,
            model_path=card.name,
            modalities=wire.Modalities(vision=bool(card.projector)),
            media_marker=MEDIA_MARKER,
            chat_template=card.metadata.get(CHAT_TEMPLATE, ""),
            build_info=self._settings.build,
            is_sleeping=view is None,
        )

    def slots(self, owner: str, name: str | None, *, fail_when_full: bool) -> list[wire.Slot]:
        """Tell of the caller's own running jobs, on one model if it is named, without what they are about.

        Raises:
            UnknownModel: there is no such model.
            NotNow: all slots of the model are taken, and that is to be an error.
        """
        only = self._service.find(name, ModelKind.TEXT) if name else None
        if fail_when_full:
            self._check_free(only or self._service.find(self.model(None), ModelKind.TEXT))
        own = [job for job in self._running() if job.owner == owner and (only is None or job.model == only.id)]
        contexts: dict[str, int] = {view.model: view.context for view in self._residents()}
        return [
            wire.Slot(
                id=number,
                id_task=job.id,
                model=job.model,
                n_ctx=contexts.get(job.model, 0),
                params=UNSET if job.sampling is None else settings_from_core(job.sampling),
                next_token=UNSET if job.sampling is None else _next_token(job.sampling, job.written),
            )
            for number, job in enumerate(own)
        ]

    def metrics(self) -> str:
        """Return the figures of the whole server as Prometheus reads them."""
        totals, memory = self._service.totals(), self._service.memory()
        jobs = [job for job in self._service.jobs() if job.kind == "text"]
        waiting = sum(job.state is JobState.WAITING for job in jobs)
        loaded = sum(view.state == "ready" for view in memory.residents)
        prompt_speed = _ratio(totals.prompt_tokens, totals.prompt_seconds)
        speed = _ratio(totals.predicted_tokens, totals.predicted_seconds)
        figures: tuple[tuple[str, str, str, float], ...] = (
            ("llamacpp:prompt_tokens_total", "counter", "Prompt tokens computed.", totals.prompt_tokens),
            ("llamacpp:prompt_seconds_total", "counter", "Time spent on prompts.", totals.prompt_seconds),
            ("llamacpp:tokens_predicted_total", "counter", "Tokens written.", totals.predicted_tokens),
            ("llamacpp:tokens_predicted_seconds_total", "counter", "Time spent writing.", totals.predicted_seconds),
            ("llamacpp:prompt_tokens_seconds", "gauge", "Mean speed of a prompt, tokens a second.", prompt_speed),
            ("llamacpp:predicted_tokens_seconds", "gauge", "Mean speed of an answer, tokens a second.", speed),
            ("llamacpp:requests_processing", "gauge", "Text requests that run.", len(self._running())),
            ("llamacpp:requests_deferred", "gauge", "Text requests that wait.", waiting),
            ("hearth:cached_tokens_total", "counter", "Prompt tokens not computed again.", totals.cached_tokens),
            ("hearth:models_loaded", "gauge", "Models that are ready.", loaded),
        )
        lines = [line for figure in figures for line in _metric(*figure)]
        lines += _pools("hearth:memory_used_bytes", "Bytes that loaded models hold.", memory.used.items())
        lines += _pools("hearth:memory_limit_bytes", "Bytes that loaded models may hold.", memory.limits.items())
        return "\n".join(lines) + "\n"

    def _running(self) -> list[JobView]:
        return [job for job in self._service.jobs() if job.kind == "text" and job.state is JobState.RUNNING]

    def _residents(self) -> tuple[ResidentView, ...]:
        return self._service.memory().residents

    def _resident(self, card: ModelCard) -> ResidentView | None:
        return next((view for view in self._residents() if view.model == card.id and view.state == "ready"), None)

    def _slots(self, view: ResidentView | None) -> int:
        return view.slots if view else self._settings.slots

    def _context(self, card: ModelCard, view: ResidentView | None) -> int:
        if view and view.context:
            return view.context
        if self._settings.context:
            return self._settings.context
        trained = card.text.context_length if card.text else 0
        return min(trained or self._settings.context_cap, self._settings.context_cap)

    def _check_free(self, card: ModelCard) -> None:
        view = self._resident(card)
        if view is not None and view.jobs >= view.slots:
            raise NotNow("no slot available", retry_after=1)


def _embeds(card: ModelCard) -> bool:
    return card.text is not None and card.text.pooling not in ("", "rank")


def _next_token(sampling: SamplingParams, written: int) -> wire.NextToken:
    limit = sampling.max_tokens
    return wire.NextToken(n_remain=-1 if limit is None else max(0, limit - written), n_decoded=written)


def _metric(name: str, kind: str, meaning: str, value: float) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
    yield f"{name} {value:.10g}"


def _pools(name: str, meaning: str, values: Iterable[tuple[str, int]]) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} gauge"
    for pool, count in values:
        yield f'{name}{{pool="{pool}"}} {count}'


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
