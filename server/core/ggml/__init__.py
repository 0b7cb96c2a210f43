"""The llama checkpoints of March to August 2023: files in the containers ggml, ggmf and ggjt. Pure, of headers alone.

`types` are the tables: which kinds of weights a container holds and what becomes of them in GGUF. `reading` reads the
header of one file within bounds, `checkpoint` says whether the files of a model fit together and what the model is,
`imports` what the converted file is called. The registry lists models by this, and the worker converts them by it.
"""
