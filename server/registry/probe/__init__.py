"""What is this file? Answered from headers alone: no heavy library is imported, no weight is read.

`source` opens files safely and reads headers within bounds; `gguf`, `safetensors` and `ggml` know one container each;
`text`, `checkpoint` and `parts` say what a header means; `identify` asks them in turn.

Each answers with a `Finding`, or raises `NotMine` (another kind of file) or `BrokenModel` (mine, but unusable).
"""
