"""Work on finished pixels, in workers that need no checkpoint: enlarging by networks and filters, grids, tiles.

| file | what |
|---|---|
| `network` | the engine of an upscaler's file: the file is a model with a process and a footprint of its own |
| `built_in` | the engine that is always there: filters, grids, splitting and joining; it never imports torch |
| `job` | one request for enlarging, for both |
| `nets`, `rrdb`, `compact`, `spandrel_nets` | a file becomes a network: ESRGAN's kinds here, others by spandrel |
| `by_tiles`, `tiles` | a network over a picture, tile by tile; how tiles lie and are joined |
| `grids` | pictures side by side with their titles |

An upscaler is a model like any other, so that memory is promised to it before it is loaded. Only a hires pass or a
resize inside a picture job borrows its file: there it works while the checkpoint does not, within what was counted for
that.
"""
