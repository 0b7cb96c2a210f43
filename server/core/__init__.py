"""The one language all rooms speak: frozen values and the error tree.

`errors` is the error tree; `memory` bytes, pools and budgets; `models` what a model is and how it is loaded;
`text`, `prompt` and `image` what can be asked for and what comes back; `jobs` accepted work and its outcomes.
Imports nothing but the standard library and msgspec.
"""
