"""How models write calls of tools: one file a format, chosen from the text of the chat template.

A format says three things: how its calls are read (`parser`), how they are written (`calls`, a grammar that models can
be held to), and where a call begins (`trigger`), from which point on the grammar can be applied. Most formats are
values of one of four families:

    json_calls      an object with name and arguments, maybe between marks      hermes llama3_json listed generic
    named_calls     a mark, the name, a separator, the arguments as JSON        mistral deepseek kimi functionary solar
    tagged_calls    a tag for the call and one for each argument                qwen3_coder invoke glm kimi
    python_calls    calls in Python's notation                                  python_calls

`harmony` and `gemma` stand for themselves. `choice` picks. All parsers are pure machines that are fed with text in
pieces of any size; a mark is never shown, and what turns out not to be a call is shown as it was written.
"""
