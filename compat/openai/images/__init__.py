"""OpenAI's picture routes: `/v1/images/generations`, `/edits`, `/variations`, and the files that their URLs lead to.

`wire` is the foreign JSON; `fields` says which of it counts; `form` reads multipart bodies; `look` and `opaque` read
the headers of sent pictures; `recipes` are the defaults of a plain prompt; `checkpoints` chooses the model; `convert`
makes core requests; `answer` and `stream` turn pictures into answers and events; `store` keeps what URLs lead to;
`routes` are the handlers.
"""
