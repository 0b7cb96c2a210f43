"""Conversations of `/apply-template`, which have the form of OpenAI's chat completions: to the core. Pure."""

import msgspec

from compat.llama_server import wire
from server.core.errors import InvalidValue, Unsupported
from server.core.text import ChatRequest, Message, Part, TextPart, Tool, ToolCall
from server.http.pictures import check_pictures, picture_at


def template_to_core(request: wire.TemplateRequest, model: str) -> ChatRequest:
    """Return the conversation whose prompt is wanted; raise InvalidValue or Unsupported with the path of a message."""
    messages = tuple(_message(message, f"messages[{index}]") for index, message in enumerate(request.messages))
    check_pictures(messages)
    open_turn = request.add_generation_prompt
    last = messages[-1]
    continued = last.role == "assistant" and not last.tool_calls and bool(last.parts) and open_turn is not True
    if open_turn is False and not continued:
        text = "'add_generation_prompt': false needs a last message of the role 'assistant' to continue"
        raise Unsupported.of("add_generation_prompt", text)
    return ChatRequest(
        model=model,
        messages=messages,
        tools=tuple(_tool(tool.function) for tool in request.tools or []),
        template_options=dict(request.chat_template_kwargs or {}),
        continue_final=continued,
    )


def _message(message: wire.ChatMessage, at: str) -> Message:
    calls = tuple(_call(call, f"c{index:08d}") for index, call in enumerate(message.tool_calls or []))
    return Message(
        role="system" if message.role == "developer" else message.role,
        parts=_parts(message, at),
        name=message.name,
        tool_calls=calls,
        tool_call_id=message.tool_call_id,
        reasoning=message.reasoning_content,
    )


def _parts(message: wire.ChatMessage, at: str) -> tuple[Part, ...]:
    content = message.content
    if content is None:
        if message.role != "assistant":
            raise InvalidValue.of(f"{at}.content", f"'{at}.content' must be text for the role {message.role!r}")
        return ()
    if isinstance(content, str):
        return (TextPart(content),) if content or message.role != "assistant" else ()
    return tuple(_part(part, f"{at}.content[{index}]") for index, part in enumerate(content))


def _part(part: wire.ContentPart, at: str) -> Part:
    if part.type == "image_url":
        url = part.image_url.url if isinstance(part.image_url, wire.ImageUrl) else part.image_url
        return picture_at(url or "", f"{at}.image_url")
    if part.type != "text":
        text = f"content parts of type {part.type[:64]!r} are not supported by this server here, only text and pictures"
        raise Unsupported.of(f"{at}.type", text)
    if part.text is None:
        raise InvalidValue.of(f"{at}.text", f"'{at}.text' is missing")
    return TextPart(part.text)


def _call(call: wire.ToolCall, made_id: str) -> ToolCall:
    arguments = call.function.arguments
    if isinstance(arguments, dict):
        arguments = msgspec.json.encode(arguments).decode()
    return ToolCall(id=call.id or made_id, name=call.function.name, arguments=arguments or "{}")


def _tool(function: wire.Function) -> Tool:
    schema = msgspec.json.encode(function.parameters or {}).decode()
    return Tool(name=function.name, description=function.description or "", parameters=schema)
