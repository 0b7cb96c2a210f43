"""Conversations: from the wire to the core. Pure.

| on the wire | in the core |
|---|---|
| role `developer` | role `system` |
| role `function`, `name` | role `tool`, answering the newest `function_call` |
| `function_call {name, arguments}` | a tool call with an id of nine letters and digits |
| `arguments` as an object | its JSON text |
| content null or missing on an assistant message | no parts |
| `image_url` with a data URL, as a text or in an object | a picture |
| a last assistant message | continued, unless the request says otherwise |
"""

import msgspec

from compat.openai import wire
from compat.openai.picture_tool.found import newest_picture
from compat.openai.picture_urls import address_in
from server.core.errors import BadRequest, InvalidValue, Unsupported
from server.core.text import Message, Part, TextPart, ToolCall
from server.http.pictures import check_pictures, picture_at

_ROLES = {"developer": "system", "function": "tool"}
_TEXT_TYPES = ("text", "input_text", "output_text")
_PICTURE_TYPES = ("image_url", "input_image")


def messages_to_core(messages: list[wire.Message]) -> tuple[Message, ...]:
    """Return the conversation in core terms; raise InvalidValue or Unsupported with the path of the message."""
    converted: list[Message] = []
    called = ""
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        calls = _calls(message, index)
        if message.function_call is not None:
            called = calls[-1].id
        answered = message.tool_call_id or (called if message.role == "function" else None)
        converted.append(
            Message(
                role=_ROLES.get(message.role, message.role),
                parts=_parts(message, where),
                name=message.name,
                tool_calls=calls,
                tool_call_id=answered,
                reasoning=message.reasoning_content or message.reasoning,
            )
        )
    check_pictures(converted)
    return tuple(converted)


def _parts(message: wire.Message, where: str) -> tuple[Part, ...]:
    content = message.content
    if content is None:
        if message.refusal:
            return (TextPart(message.refusal),)
        if message.role == "assistant":
            return ()
        raise InvalidValue.of(f"{where}.content", f"'{where}.content' must be text for the role {message.role!r}")
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple(_part(part, f"{where}.content[{index}]") for index, part in enumerate(content))


def _part(part: wire.ContentPart, where: str) -> Part:
    if part.type in _TEXT_TYPES:
        if part.text is None:
            raise InvalidValue.of(f"{where}.text", f"'{where}.text' is missing")
        return TextPart(part.text)
    if part.type == "refusal":
        return TextPart(part.refusal or "")
    if part.type in _PICTURE_TYPES:
        return picture_at(address_in(part.image_url, f"{where}.image_url"), f"{where}.image_url")
    kind = part.type[:64]
    text = f"content parts of type {kind!r} are not supported by this server, only text and pictures"
    raise Unsupported.of(f"{where}.type", text)


def _calls(message: wire.Message, index: int) -> tuple[ToolCall, ...]:
    calls = [_call(item.function, item.id or _made_id(index, k)) for k, item in enumerate(message.tool_calls or [])]
    if message.function_call is not None:
        calls.append(_call(message.function_call, _made_id(index, len(calls))))
    return tuple(calls)


def _made_id(message: int, call: int) -> str:
    """Return an id for a call that has none; some templates want exactly nine letters and digits."""
    return f"c{message:04d}{call:04d}"


def _call(call: wire.FunctionCall, identity: str) -> ToolCall:
    arguments = call.arguments
    if isinstance(arguments, dict):
        arguments = msgspec.json.encode(arguments).decode()
    return ToolCall(id=identity, name=call.name, arguments=arguments or "{}")


def continuation(request: wire.ChatCompletionRequest, messages: tuple[Message, ...]) -> bool:
    """Tell whether the last message is to be continued instead of answered.

    Raises:
        InvalidValue: continuing is demanded but the last message is not the assistant's, or both ways are demanded.
        Unsupported: a prompt that ends behind a message of somebody else is demanded.
    """
    wanted, opened = request.continue_final_message, request.add_generation_prompt
    last = messages[-1]
    if wanted and opened:
        text = "'continue_final_message' and 'add_generation_prompt' cannot both be true"
        raise InvalidValue.of("continue_final_message", text)
    if last.role == "assistant" and not last.tool_calls and (wanted, opened) != (False, False):
        return not opened if wanted is None else wanted
    if wanted:
        text = "'continue_final_message' needs a last message of the role 'assistant' without tool calls"
        raise InvalidValue.of("continue_final_message", text)
    if opened is False:
        text = "'add_generation_prompt': false needs a last message of the role 'assistant' to continue"
        raise Unsupported.of("add_generation_prompt", text)
    return False


def last_picture(given: list[wire.Message], messages: tuple[Message, ...]) -> bytes | None:
    """Return the newest picture of a conversation: one that the user sent, or one that an answer showed."""
    for message, converted in reversed(list(zip(given, messages, strict=False))):
        found = _shown(message) or newest_picture((converted,))
        if found is not None:
            return found
    return None


def _shown(message: wire.Message) -> bytes | None:
    """Return the last picture that an answer brought, if it comes back as it was told."""
    shown = message.images[-1] if isinstance(message.images, list) and message.images else None
    address = shown.get("image_url") if isinstance(shown, dict) else None
    url = address.get("url") if isinstance(address, dict) else None
    try:
        return picture_at(url, "").data if isinstance(url, str) else None
    except BadRequest:
        return None  # others have other shapes for it
