"""The llama.cpp engine: continuous batching over the low-level interface.

llama_cpp        the loader: puts the parts together
engine           the batching loop; one decode a step
  schedule       pure: prompts or next tokens, and how much
  caches, sequences              which reply runs where, and what each sequence's cache holds
    prefix       pure: where a prompt runs and what it inherits from another cache
    neighbours   pure: which replies move so that no gap splits a batch
  speculator     several tokens of a reply in one decode
    foresight    what one reply's tokens can be guessed from
      lookup     pure: a guess at the next tokens from the text so far
    draft        a second, small model that guesses
    speculation  pure: how many of them are worth computing
    exactness, footing           that guesses change nothing of what is said, though kernels round differently
  turns        pure: whose step it is among replies under different adapters
  replies, reply                 what a request becomes; one choice: tokens in, events out
    sampling_values              what was asked for, checked, in llama.cpp's terms
    token_sampling, candidates   which token comes next: the row is cut, a native chain chooses
    upper_draw                   a draw from the upper part of a long row, without weighing all of it
    lottery                      the same where no part stands out
    exponentials                 of a long row, as ggml computes them
    array_sampling               all samplers over arrays, for rows that stay long and what native code cannot do
    penalties, dry               what the text has used already becomes less likely
    detokenise, stop_strings     tokens to text that may be shown
    logprobs, token_trail        what is told of each token, and with which piece of text
    prompt_scores, contest       logprobs of an echoed prompt; the best of several replies
    reply_plan, lead             how the replies to a request are held and read
      guide, landing             which tokens may come next, which must, and when it is over
      constraints, constraint_limits   schemas, patterns and grammars to masks of tokens
        gbnf, gbnf_tree          llama.cpp's grammars read, and what can be said of their rules
        lexemes, lexeme_net      pure: which parts of them the library's lexer may read by itself
      output_parser, reasoning, tool_formats   answer, thoughts and calls out of text
      parsed_text                the events of a parsed reply
tokenising       text to tokens and back, answered at once
slots            caches kept in files and taken back, between two steps
  slot_files     what such a file is, and that it is whole
  identity       whose it is: told by samples of the model's files
embedding_engine the other engine: vectors of texts, scores of documents
  embedding_inputs, embedding_context   requests to tokens; many texts in one call
legacy           models of 2023 become GGUF files before they are loaded
whole_file       a file that is there whole or not at all
prompts          requests to checked prompts
  conversation   chats, by
    chat_template, template_sandbox   messages to text, by a stranger's code
      deadline, memory_limit     what that may take
    chat_form, fallback_templates                by which template
    conversation_shape           calls and tools in the shape that the template takes
    control_text                 what people write never becomes a control token
    placed_pictures              pure: where pictures stand in a conversation and in its prompt
arrivals         requests whose pictures are still to be read, one a step
sight            how a model sees: what is remembered of pictures, and their embeddings
  pictures       names by content, which stand in a prompt as negative ids; their files to pixels
  projector, picture_batch       owners of what the library for pictures makes
native, native_log, adapters, batch, vocabulary, footprint, cores, allocator   owners of what is the library's and
                 the machine's
"""
