"""The machine rooms: code that runs llama.cpp and torch inside a worker process.

`LOADERS` names the loader of each runtime as "module:class", so that nothing heavy is imported until a worker loads a
model. `WARMERS` names for slow runtimes what a spare worker calls before its model is known: it
gets the bytes of RAM to have ready for weights, and returns a `WarmLoader`. `base` is the seam that
workers see; `text` and `image` are the real engines, which both read pictures by `input_pictures`; `fake` (with
`fake_model`, its files and faults) serves tests alone.
"""

from server.core.models import Runtime

LOADERS: dict[Runtime, str] = {
    Runtime.LLAMA_CPP: "server.engines.text.llama_cpp:LlamaLoader",
    Runtime.DIFFUSION: "server.engines.image.diffusion:DiffusionLoader",
    Runtime.UPSCALER: "server.engines.image.upscaling.network:UpscalerLoader",
    Runtime.ANNOTATOR: "server.engines.image.annotators.engine:AnnotatorLoader",
    Runtime.PIXELS: "server.engines.image.upscaling.built_in:PixelsLoader",
    Runtime.FAKE_TEXT: "server.engines.fake:FakeTextLoader",
    Runtime.FAKE_IMAGE: "server.engines.fake:FakeImageLoader",
}

WARMERS: dict[Runtime, str] = {
    Runtime.DIFFUSION: "server.engines.image.warming:warm",
    Runtime.FAKE_IMAGE: "server.engines.fake:warm",
}
