"""Conversations and tools: from the wire to the core. Pure.

| on the wire | in the core |
|---|---|
| `system` | a first message of the role system |
| `tool_result` blocks of a user message | messages of the role tool, before the rest of that message |
| `tool_use` blocks | tool calls |
| `thinking` blocks of the assistant | its reasoning; redacted ones are left out |
| `image` blocks of a user message or a tool's result | pictures |
| neighbours of the same role | one message |
| a failed tool's result | its text behind `Error: ` |
"""

import msgspec

from compat.anthropic import wire
from server.core.errors import InvalidValue, Unsupported
from server.core.text import Message, Part, PicturePart, TextPart, Tool, ToolCall
from server.http.pictures import check_pictures, picture_at, picture_in

# Some clients put a block of bookkeeping first that differs in every request; no prompt behind it could be reused.
BILLING_HEADER = "x-anthropic-billing-header:"
_MERGED = ("user", "assistant")


def messages_to_core(request: wire.Conversation) -> tuple[Message, ...]:
    """Return the conversation in core terms; raise InvalidValue or Unsupported with the path of the block."""
    collected = _Collected()
    system = _texts(request.system or [], "system")
    told = tuple(part for part in system if part.text and not part.text.startswith(BILLING_HEADER))
    if told:
        collected.add(Message(role="system", parts=told))
    for index, message in enumerate(request.messages):
        where = f"messages[{index}].content"
        if message.role == "assistant":
            collected.add(_assistant(message.content, where))
            continue
        for turn in _turns(message, where, collected.calls):
            collected.add(turn)
    messages = tuple(_merged(run) for run in collected.runs)
    check_pictures(messages)
    return messages


class _Collected:
    """The messages so far, in runs of one role. `calls` are the tools' names by the calls' ids."""

    def __init__(self) -> None:
        self.runs: list[list[Message]] = []
        self.calls: dict[str, str] = {}

    def add(self, message: Message) -> None:
        self.calls |= {call.id: call.name for call in message.tool_calls}
        if self.runs and message.role in _MERGED and self.runs[-1][0].role == message.role:
            self.runs[-1].append(message)
        else:
            self.runs.append([message])


def _merged(run: list[Message]) -> Message:
    """Return the messages of one role as one."""
    if len(run) == 1:
        return run[0]
    reasoning = "\n".join(message.reasoning for message in run if message.reasoning)
    return Message(
        role=run[0].role,
        parts=tuple(part for message in run for part in message.parts),
        tool_calls=tuple(call for message in run for call in message.tool_calls),
        reasoning=reasoning or None,
    )


def _assistant(content: str | list[wire.Block], where: str) -> Message:
    if isinstance(content, str):
        return Message(role="assistant", parts=(TextPart(content),) if content else ())
    parts: list[TextPart] = []
    calls: list[ToolCall] = []
    thoughts: list[str] = []
    for index, block in enumerate(content):
        at = f"{where}[{index}]"
        match block.type:
            case "text":
                parts.append(_text(block, at))
            case "tool_use":
                calls.append(_call(block, at))
            case "thinking":
                thoughts.append(block.thinking or "")
            case "redacted_thinking":
                pass
            case _:
                raise _unknown(block, at)
    reasoning = "\n".join(text for text in thoughts if text)
    return Message(role="assistant", parts=tuple(parts), tool_calls=tuple(calls), reasoning=reasoning or None)


def _call(block: wire.Block, at: str) -> ToolCall:
    if not block.id or not block.name:
        raise InvalidValue.of(at, f"'{at}': a tool_use block needs 'id' and 'name'")
    return ToolCall(id=block.id, name=block.name, arguments=msgspec.json.encode(block.input or {}).decode())


def _turns(message: wire.Message, where: str, calls: dict[str, str]) -> list[Message]:
    """Return a message of the user, after the results of tools that it brings."""
    if isinstance(message.content, str):
        return [Message(role=message.role, parts=(TextPart(message.content),))]
    results: list[Message] = []
    parts: list[Part] = []
    for index, block in enumerate(message.content):
        at = f"{where}[{index}]"
        if block.type == "tool_result":
            results.append(_result(block, at, calls))
        else:
            parts.append(_visible(block, at))
    if parts or not results:
        results.append(Message(role=message.role, parts=tuple(parts)))
    return results


def _result(block: wire.Block, at: str, calls: dict[str, str]) -> Message:
    name = calls.get(block.tool_use_id or "")
    if name is None:
        param = f"{at}.tool_use_id"
        raise InvalidValue.of(param, f"'{param}' names no tool_use block of an earlier assistant message")
    shown = _shown(block.content or "", f"{at}.content")
    text = "\n".join(part.text for part in shown if isinstance(part, TextPart))
    if block.is_error:
        text = f"Error: {text}"
    pictures = (part for part in shown if isinstance(part, PicturePart))
    return Message(role="tool", parts=(TextPart(text), *pictures), name=name, tool_call_id=block.tool_use_id)


def _texts(content: str | list[wire.Block], where: str) -> tuple[TextPart, ...]:
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    return tuple(_readable(block, f"{where}[{index}]") for index, block in enumerate(content))


def _shown(content: str | list[wire.Block], where: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple(_visible(block, f"{where}[{index}]") for index, block in enumerate(content))


def _visible(block: wire.Block, at: str) -> Part:
    """Return what a user or a tool shows: a text or a picture."""
    return _picture(block.source, f"{at}.source") if block.type == "image" else _readable(block, at)


def _picture(source: wire.Source | None, at: str) -> PicturePart:
    if source is None:
        raise InvalidValue.of(at, f"Missing required parameter: '{at}'.")
    match source.type:
        case "base64":
            return picture_in(source.data or "", f"{at}.data")
        case "url":
            return picture_at(source.url or "", f"{at}.url")
    text = f"'{at}': pictures of type {source.type[:64]!r} are not supported by this server"
    raise Unsupported.of(f"{at}.type", text)


def _readable(block: wire.Block, at: str) -> TextPart:
    if block.type == "text":
        return _text(block, at)
    if block.type == "document" and block.source is not None and block.source.type == "text":
        return TextPart(block.source.data or "")
    raise _unknown(block, at)


def _text(block: wire.Block, at: str) -> TextPart:
    if block.text is None:
        raise InvalidValue.of(f"{at}.text", f"Missing required parameter: '{at}.text'.")
    return TextPart(block.text)


def _unknown(block: wire.Block, at: str) -> Unsupported:
    kind = block.type[:64]
    return Unsupported.of(
        f"{at}.type", f"'{at}': content blocks of type {kind!r} are not supported by this server here"
    )


def tools_to_core(request: wire.Conversation) -> tuple[Tool, ...]:
    """Return the functions that the model is told of; raise Unsupported for one of Anthropic's own."""
    return tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(request.tools or []))


def _tool(tool: wire.Tool, at: str) -> Tool:
    if tool.type not in (None, "custom"):
        text = f"'{at}': tools of type {tool.type[:64]!r} are not supported by this server, only the client's own"
        raise Unsupported.of(f"{at}.type", text)
    if tool.input_schema is None:
        raise InvalidValue.of(f"{at}.input_schema", f"Missing required parameter: '{at}.input_schema'.")
    schema = msgspec.json.encode(tool.input_schema).decode()
    return Tool(name=tool.name, description=tool.description or "", parameters=schema)
