"""The llama.cpp engine: continuous batching over the low-level interface.

llama_cpp        the loader: puts the parts together
engine           the batching loop; one decode a step
  schedule       pure: prompts or next tokens, and how much
  prefix         pure: where a prompt runs and what it inherits from another cache
  sequences      what each sequence's cache holds
  reply          one choice: tokens in, events out
    token_sampling, candidates   which token comes next
    detokenise, stop_strings     tokens to text that may be shown
prompts          requests to checked prompts
  conversation   chats, by
    chat_template, fallback_templates, deadline   messages to text
    control_text                 what people write never becomes a control token
native, native_log, batch, vocabulary, footprint, cores   owners of what belongs to the library and the machine
"""
