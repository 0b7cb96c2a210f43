"""The built-in tool `image_generation`: a chat model asks for a picture, and this server makes it.

| file | what |
|---|---|
| `names` | what the tool and its results are called, and what the chat model is told of them |
| `tool` | the tool of one request: the function that the model is offered, and its calls as picture requests |
| `found` | from a request's list of tools to that, with its checkpoint; which picture a change begins with |
| `events` | what becomes of a call, told between the events of the chat |
| `rounds` | the jobs of one answer, one after the other: chat, pictures, chat again |

Each is a job of its own that waits for its turn like any other: nothing is held while the next one waits, so a chat
model and a checkpoint that do not fit together take turns. Leaving ends the job that runs, and none follows.
"""
