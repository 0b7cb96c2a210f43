"""`/v1/responses`: the OpenAI API's other way to a conversation, with items instead of messages, and a memory.

`wire` is the JSON that comes in and `output` the JSON that goes out; `items` and `convert` turn input into a core chat;
`writer` turns a job's events into the stream's events and so into the finished response; `store` remembers responses in
an SQLite file; `routes` are the handlers.
"""
