"""Short ways to write requests and cards: `chat("hi")`, `image(steps=2)`."""

from server.core.image import Denoise, HiresPass, ImageRequest, Seeds, Size
from server.core.models import ModelCard, ModelId, ModelKind, Runtime
from server.core.prompt import plain
from server.core.text import ChatRequest, CompletionRequest, Message, SamplingParams, TextPart

ENDLESS = 1 << 30


def message(text: str, role: str = "user") -> Message:
    """Return a message of one text part."""
    return Message(role=role, parts=(TextPart(text),))


def chat(*texts: str, model: str = "talker", choices: int = 1, **sampling: object) -> ChatRequest:
    """Return a conversation whose turns alternate between user and assistant; `sampling` as in SamplingParams."""
    turns = tuple(message(text, "user" if k % 2 == 0 else "assistant") for k, text in enumerate(texts))
    return ChatRequest(model=model, messages=turns, choices=choices, sampling=SamplingParams(**sampling))  # type: ignore[arg-type]


def endless(text: str = "on and on", model: str = "talker") -> ChatRequest:
    """Return a conversation that a fake never ends by itself (its context must be large)."""
    return chat(text, model=model, ignore_eos=True)


def completion(*prompts: str | tuple[int, ...], model: str = "talker", **sampling: object) -> CompletionRequest:
    """Return raw prompts to be continued; `sampling` as in SamplingParams."""
    return CompletionRequest(model=model, prompts=prompts, sampling=SamplingParams(**sampling))  # type: ignore[arg-type]


def image(
    prompt: str = "a lighthouse",
    *,
    model: str = "painter",
    steps: int = 2,
    width: int = 16,
    height: int = 16,
    seed: int = 1,
    batch_size: int = 1,
    batches: int = 1,
    preview_every: int = 0,
    hires_steps: int = 0,
) -> ImageRequest:
    """Return a picture request; with `hires_steps` a second pass at twice the size."""
    size = Size(width, height)
    double = Size(2 * width, 2 * height)
    hires = None
    if hires_steps:
        hires = HiresPass(
            size=double,
            scale_to=double,
            upscaler="latent",
            strength=0.5,
            denoise=Denoise(steps=hires_steps),
            prompt=plain(prompt),
            negative=plain(""),
        )
    return ImageRequest(
        model=model,
        prompt=plain(prompt),
        negative=plain(""),
        size=size,
        seeds=Seeds(first=seed),
        denoise=Denoise(steps=steps),
        batch_size=batch_size,
        batches=batches,
        preview_every=preview_every,
        hires=hires,
    )


def card(name: str = "talker", *, runtime: Runtime | None = Runtime.FAKE_TEXT, file: str = "/nowhere") -> ModelCard:
    """Return a card of a fake model; its kind follows from the runtime."""
    kind = ModelKind.CHECKPOINT if runtime is Runtime.FAKE_IMAGE else ModelKind.TEXT
    return ModelCard(id=ModelId(name), name=f"{name}.json", kind=kind, files=(file,), runtime=runtime)
