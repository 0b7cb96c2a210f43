"""The front doors with their settings: which dialects there are, in the order in which they claim paths."""

from collections.abc import Iterable
from pathlib import Path

from compat import a1111, anthropic, llama_server, openai
from compat.dialect import Dialect
from server.config import Config
from server.http.origins import is_loopback
from server.registry.catalog import Catalog
from server.service.service import Service

MIB = 1024**2
TEXT_BODY = 64 * MIB
PICTURE_BODY = 256 * MIB

ALIASES = llama_server.ALIASES
"""Paths without a prefix that stand for routes of the OpenAI door, as llama-server has them."""


BEGINNINGS = a1111.BEGINNINGS
"""Beginnings of paths that stand for a route with a query."""


def make_dialects(service: Service, config: Config, catalog: Catalog, state: Path | None) -> tuple[Dialect, ...]:
    """Return the front doors; the first whose prefix a path has words the refusals for it."""
    openai_door, text = config.openai, config.text
    return (
        anthropic.dialect(
            service,
            anthropic.AnthropicSettings(
                patience_s=openai_door.patience_s,
                ping_s=openai_door.ping_s,
                body_limit=TEXT_BODY,
                strict=openai_door.strict,
                fetch_images=openai_door.fetch_images,
            ),
        ),
        openai.dialect(
            service,
            openai.OpenAiSettings(
                default_model=config.models.default_text,
                patience_s=openai_door.patience_s,
                ping_s=openai_door.ping_s,
                body_limit=TEXT_BODY,
                strict=openai_door.strict,
                fetch_images=openai_door.fetch_images,
                default_embedder=config.models.default_embedder,
                default_reranker=config.models.default_reranker,
                images=openai.ImagesSettings(default_model=config.models.default_image),
                responses_file=str(state / "responses.sqlite") if state else None,
            ),
        ),
        llama_server.dialect(
            service,
            llama_server.LlamaServerSettings(
                default_model=config.models.default_text,
                patience_s=openai_door.patience_s,
                ping_s=openai_door.ping_s,
                body_limit=TEXT_BODY,
                strict=openai_door.strict,
                default_embedder=config.models.default_embedder,
                slots=text.slots,
                context=text.context,
                context_cap=text.context_cap,
                saves_slots=bool(text.slots_dir) or any("slots_dir" in own for own in config.models.settings.values()),
            ),
        ),
        a1111.dialect(service, _a1111_settings(config, catalog, state)),
    )


def body_limits(dialects: Iterable[Dialect]) -> dict[str, int]:
    """Return the most bytes that a request's body may have, by path prefix."""
    return {
        prefix: PICTURE_BODY if dialect.name == "a1111" else TEXT_BODY
        for dialect in dialects
        for prefix in dialect.prefixes
    }


def _a1111_settings(config: Config, catalog: Catalog, state: Path | None) -> a1111.A1111Settings:
    outputs = config.a1111.output_dir or (str(state / "outputs") if state else None)
    options = config.a1111.options_file or (str(state / "a1111-options.json") if state else None)
    styles = catalog.styles_file()
    folders = config.models.folders
    return a1111.A1111Settings(
        options_file=options,
        output_dir=outputs,
        styles_files=(str(styles),) if styles else (),
        models_dir=str(Path(folders[0]).expanduser()) if folders else None,
        default_model=config.models.default_image,
        previews_every=config.a1111.previews_every,
        body_limit=PICTURE_BODY,
        listen=not is_loopback(config.server.host),
        caption_model=config.a1111.caption_model,
        server_stop=config.a1111.server_stop,
        fetch_images=config.openai.fetch_images,
        port=config.server.port,
    )
