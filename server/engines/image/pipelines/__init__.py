"""Later families (Stable Diffusion 3, Flux, Z-Image, Qwen-Image, ...) by diffusers' own pipelines.

| step | files |
|---|---|
| which models come here | `choice` |
| a folder becomes a pipeline | `engine`, `index` (classes it names), `loading` (parts), `single` (files), `loaded` |
| it sits on a device | `seating`, `room` (what fits) |
| a request becomes a call | `calls` (arguments), `words` (prompts), `latents` (how noise and pictures are kept) |
| a job runs | `job`, `course` (a pass), `turns` (a blocking call by steps), `watching` (its scheduler), `looks` |
| pictures come in | `given`, `beginning` (noise, picture and mask), `second` (the hires pass) |
| around it | `adapters` (LoRA) |

The engine's face is that of `diffusion`: the same loader, requests, events and errors.
"""
