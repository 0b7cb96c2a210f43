"""Control models: copies of half a UNet that see a map and add to what the UNet computes (Zhang et al. 2023).

| file | what |
|---|---|
| `layouts`, `networks`, `t2i` | a file becomes a network: ControlNet in two layouts, T2I-Adapter |
| `shelf` | the networks that jobs use, kept from one job to the next |
| `sources`, `hints` | a unit's picture and mask, and the map at the size of a pass |
| `steering` | in each model call: which units act, how strongly, on which rows; what the UNet is given |
| `restoring` | `inpaint_only`: what is not open stays as it was |
| `controls` | all units of one job, at the named points of the denoise loop |

Rules are those of sd-webui-controlnet 1.1. `controls` is all that a job knows of this.
"""
