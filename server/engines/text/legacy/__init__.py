"""Llama models of March to August 2023 become GGUF files, once, when they are first loaded.

ready          the way in: which file is to be loaded; made when it is not there yet
  conversion   one model: rows read, repacked and written, never more than some MiB at a time
    repacking  blocks of weights from the layouts of 2023 to today's
    six_bits   Q4_2 into Q6_K
    old_rows   the layout of the first days, told by its numbers
    pieces     the vocabulary
    metadata   what the header says
    gguf_file  writes the format

The headers of old files are read by `server.core.ggml`, which the registry uses as well.
"""
