"""The llama.cpp engine: continuous batching over the low-level interface.

llama_cpp        the loader: puts the parts together
engine           the batching loop; one decode a step
  schedule       pure: prompts or next tokens, and how much
  caches, sequences              which reply runs where, and what each sequence's cache holds
    prefix       pure: where a prompt runs and what it inherits from another cache
    neighbours   pure: which replies move so that no gap splits a batch
  speculator     several tokens of a reply in one decode
    lookup       pure: a guess at the next tokens from the text so far
    speculation  pure: how many of them are worth computing
  replies, reply                 what a request becomes; one choice: tokens in, events out
    sampling_values              what was asked for, checked, in llama.cpp's terms
    token_sampling, candidates   which token comes next: the row is cut, a native chain chooses
    array_sampling               the same over arrays, for rows that stay long and for what native code cannot do
    penalties, dry               what the text has used already becomes less likely
    detokenise, stop_strings     tokens to text that may be shown
    logprobs, token_trail        what is told of each token, and with which piece of text
    prompt_scores, contest       logprobs of an echoed prompt; the best of several replies
    reply_plan, lead             how the replies to a request are held and read
      guide, landing             which tokens may come next, which must, and when it is over
      constraints, constraint_limits, gbnf   schemas, patterns and grammars to masks of tokens
      output_parser, reasoning, tool_formats   answer, thoughts and calls out of text
      parsed_text                the events of a parsed reply
tokenising       text to tokens and back, answered at once
embedding_engine the other engine: vectors of texts, scores of documents
  embedding_inputs, embedding_context   requests to tokens; many texts in one call
prompts          requests to checked prompts
  conversation   chats, by
    chat_template, fallback_templates, deadline   messages to text
    conversation_shape           calls and tools in the shape that the template takes
    control_text                 what people write never becomes a control token
native, native_log, batch, vocabulary, footprint, cores, allocator   owners of what is the library's and the machine's
"""
