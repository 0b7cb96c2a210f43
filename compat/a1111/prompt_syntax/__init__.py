"""A1111's prompt language, text to `PromptTree`, in three passes: `composition`, `timeline`, `emphasis`.

| file | takes | gives |
|---|---|---|
| `composition.py` | `a AND b:0.6` | parts with weights |
| `timeline.py` | `[a:b:0.5]`, `[a|b]` | texts, each with the last model call it serves |
| `emphasis.py` | `(a:1.2) [b] BREAK c` | spans with weights, and chunk breaks |

All are written by hand, one pass over the text, with no recursion deeper than `DEPTH` and no text beyond `LONGEST`:
what does not follow the grammar is taken literally, as A1111 does. Tags (`<lora:x:0.8>`) are cut before, by
`compat.a1111.networks`; comments and styles before that, by `compat.a1111.styles`.
"""

from compat.a1111.prompt_syntax.parse import Timing, parse_negative, parse_prompt

__all__ = ["Timing", "parse_negative", "parse_prompt"]
