"""The ControlNet extension at this door: its routes, and its units among a request's always-on scripts.

| file | what |
|---|---|
| `wire` | units and bodies |
| `modules`, `module_table` | the preprocessors as it names them, with their sliders; which of them work here |
| `models` | control models by name and hash; the menus by type of control |
| `units`, `unit_pictures`, `unit_words` | units to the core's words |
| `routes` | `/controlnet/*` |

Facts are those of sd-webui-controlnet 1.1.455. Meant differences: what it skips with a line
in its log (an unknown model, no picture ...) is refused in clear words; a unit that does not say whether it is enabled
is, when it names a model, as it was before 1.1.448 and is in Forge; modules that do not work here are listed, and say
why under `unavailable`.
"""
