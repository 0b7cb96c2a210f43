"""Items of the input: as messages of a conversation, and as they are remembered. Pure.

| item | in the core |
|---|---|
| `message` (or no type but a role); `developer` | a message; `system` |
| `reasoning` (its content, else its summary) | the thoughts of the assistant's next message or call |
| `function_call` | a call of the assistant's message before it, else of a new one |
| `function_call_output` | a message of the role `tool` |
| `image_generation_call` | a call of the function that stands for the tool, and its result |
| `item_reference` | the item, which the caller has looked up |
"""

from collections.abc import Callable, Sequence

import msgspec

from compat.openai.picture_tool.found import newest_picture
from compat.openai.picture_tool.names import FAILED, SHOWN, TYPE
from compat.openai.picture_urls import address_in
from compat.openai.responses import wire
from server.core.errors import InvalidValue, Unsupported
from server.core.text import Message, Part, TextPart, ToolCall
from server.http.pictures import check_pictures, picture_at, picture_in

REFERENCE = "item_reference"
PICTURE = "image_generation_call"
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TEXTS = ("input_text", "output_text", "text", "reasoning_text", "summary_text")
_PICTURES = ("input_image", "image_url")
_PREFIXES = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fc_",
    "reasoning": "rs_",
    PICTURE: "ig_",
}

NewId = Callable[[str], str]
Placed = tuple[wire.Item, str]
"""An item and its path in the request, for refusals."""


def own_items(given: str | list[wire.Item] | None) -> list[Placed]:
    """Return the items of a request's input with their paths; a text is the message of a user."""
    if isinstance(given, str):
        return [(wire.Item(type="message", role="user", content=given), "input")]
    return [(item, f"input[{index}]") for index, item in enumerate(given or [])]


def items_to_messages(items: Sequence[Placed]) -> tuple[Message, ...]:
    """Return the conversation in core terms; raise InvalidValue or Unsupported with the path of the item."""
    messages: list[Message] = []
    thoughts: str | None = None
    for number, (item, where) in enumerate(items):
        match kind_of(item):
            case "message":
                message = _message(item, where)
                if message.role == "assistant":
                    message, thoughts = msgspec.structs.replace(message, reasoning=thoughts), None
                messages.append(message)
            case "reasoning":
                thoughts = _thoughts(item) or thoughts
            case "function_call":
                _add_call(messages, _call(item, where), thoughts)
                thoughts = None
            case "function_call_output":
                messages.append(_result(item, where))
            case "image_generation_call":
                call = _picture_call(item, number)
                _add_call(messages, call, thoughts)
                messages.append(_picture_result(item, call))
                thoughts = None
            case other:
                text = f"items of type {other[:64]!r} are not supported by this server"
                raise Unsupported.of(f"{where}.type", text)
    check_pictures(messages)
    return tuple(messages)


def kind_of(item: wire.Item) -> str:
    """Return what an item is; one without a type is a message."""
    return item.type or "message"


def _message(item: wire.Item, where: str) -> Message:
    role = _ROLES.get(item.role or "")
    if role is None:
        raise InvalidValue.of(f"{where}.role", f"'{where}.role' must be one of {', '.join(_ROLES)}")
    if item.content is None and role != "assistant":
        raise InvalidValue.of(f"{where}.content", f"Missing required parameter: '{where}.content'.")
    return Message(role=role, parts=_parts(item.content, f"{where}.content"))


def _parts(content: str | list[wire.Part] | None, where: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple(_part(part, f"{where}[{index}]") for index, part in enumerate(content or []))


def _part(part: wire.Part, where: str) -> Part:
    if part.type == "refusal":
        return TextPart(part.refusal or "")
    if part.type in _PICTURES:
        return _picture(part, where)
    if part.type not in _TEXTS:
        text = f"content parts of type {part.type[:64]!r} are not supported by this server, only text and pictures"
        raise Unsupported.of(f"{where}.type", text)
    if part.text is None:
        raise InvalidValue.of(f"{where}.text", f"Missing required parameter: '{where}.text'.")
    return TextPart(part.text)


def _picture(part: wire.Part, where: str) -> Part:
    if part.image_url is None and part.file_id is not None:
        text = f"'{where}.file_id': files are not kept by this server; send the picture as a data URL in 'image_url'"
        raise Unsupported.of(f"{where}.file_id", text)
    return picture_at(address_in(part.image_url, f"{where}.image_url"), f"{where}.image_url")


def _thoughts(item: wire.Item) -> str | None:
    if isinstance(item.content, str):
        return item.content or None
    parts = item.content or item.summary or []
    return "\n".join(part.text for part in parts if part.text) or None


def _call(item: wire.Item, where: str) -> ToolCall:
    if not item.name:
        raise InvalidValue.of(f"{where}.name", f"Missing required parameter: '{where}.name'.")
    return ToolCall(id=_call_id(item, where), name=item.name, arguments=item.arguments or "{}")


def _call_id(item: wire.Item, where: str) -> str:
    if not item.call_id:
        raise InvalidValue.of(f"{where}.call_id", f"Missing required parameter: '{where}.call_id'.")
    return item.call_id


def _add_call(messages: list[Message], call: ToolCall, thoughts: str | None) -> None:
    last = messages[-1] if messages else None
    if last is None or last.role != "assistant" or (thoughts and last.reasoning):
        messages.append(Message(role="assistant", tool_calls=(call,), reasoning=thoughts))
        return
    calls = (*last.tool_calls, call)
    messages[-1] = msgspec.structs.replace(last, tool_calls=calls, reasoning=last.reasoning or thoughts)


def _result(item: wire.Item, where: str) -> Message:
    if item.output is None:
        raise InvalidValue.of(f"{where}.output", f"Missing required parameter: '{where}.output'.")
    return Message(role="tool", parts=_parts(item.output, f"{where}.output"), tool_call_id=_call_id(item, where))


def _picture_call(item: wire.Item, number: int) -> ToolCall:
    """Return the call that a picture came from; some templates want ids of exactly nine letters and digits."""
    arguments = msgspec.json.encode({"prompt": item.revised_prompt or ""}).decode()
    return ToolCall(id=f"p{number:08d}", name=TYPE, arguments=arguments)


def _picture_result(item: wire.Item, call: ToolCall) -> Message:
    text = FAILED if item.status == "failed" else SHOWN
    return Message(role="tool", parts=(TextPart(text),), tool_call_id=call.id)


def last_picture(items: Sequence[Placed]) -> bytes | None:
    """Return the newest picture of a conversation: one that was made, or one that the user sent.

    Raises:
        InvalidValue: it is not base64.
    """
    for item, where in reversed(items):
        if kind_of(item) == PICTURE and item.result:
            return picture_in(item.result, f"{where}.result").data
        found = newest_picture(items_to_messages([(item, where)])) if kind_of(item) == "message" else None
        if found is not None:
            return found
    return None


def remembered(items: Sequence[Placed], new_id: NewId) -> list[wire.Item]:
    """Return a request's own items as they are stored and listed: with type, id, and content as a list of parts."""
    return [_remembered(item, new_id) for item, _ in items]


def _remembered(item: wire.Item, new_id: NewId) -> wire.Item:
    kind = kind_of(item)
    content = item.content
    if kind == "message" and isinstance(content, str):
        content = [wire.Part("output_text" if item.role == "assistant" else "input_text", content)]
    identity = item.id or new_id(_PREFIXES.get(kind, "item_"))
    return msgspec.structs.replace(item, type=kind, id=identity, content=content, status=item.status or "completed")
