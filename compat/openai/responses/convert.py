"""A request to `/v1/responses` as a core chat, and the response object that its answer begins with. Pure."""

from collections.abc import Sequence

import msgspec

from compat.openai import wire as chat_wire
from compat.openai.constraints import constraint_to_core
from compat.openai.convert import refuse, without_effect
from compat.openai.fields import RESPONSES
from compat.openai.picture_fields import ToolPictures
from compat.openai.reasoning import template_options, thought
from compat.openai.responses import output, wire
from compat.openai.responses.items import Placed, items_to_messages
from compat.openai.sampling import adapters_to_core, sampling_to_core, slot_to_core
from compat.openai.tools import PICTURES, Offer, choose, function_to_core
from server.core.errors import InvalidValue
from server.core.text import ChatRequest, Message, TextPart

LOGPROBS = "message.output_text.logprobs"
_FORMAT = "text.format"


def response_to_core(request: wire.ResponsesRequest, items: Sequence[Placed], model: str) -> ChatRequest:
    """Return the conversation of earlier and own items as core work for a model.

    Raises:
        InvalidValue: a value makes no sense; the fact `param` is its path.
        Unsupported: a field or an item asks for what is not offered.
    """
    refuse(request, RESPONSES)
    messages = items_to_messages(items)
    if request.instructions:
        messages = (Message(role="system", parts=(TextPart(request.instructions),)), *messages)
    if not messages:
        raise InvalidValue.of("input", "Missing required parameter: 'input'.")
    limit = request.max_output_tokens
    offer = _offer(request)
    effort = request.reasoning.effort if request.reasoning else None
    thinking = thought(effort, None, None, template_options(request.chat_template_kwargs))
    return ChatRequest(
        model=model,
        messages=messages,
        sampling=sampling_to_core(request, None if limit is None or limit < 0 else limit),
        tools=offer.tools,
        tool_choice=offer.choice,
        tool_name=offer.name,
        parallel_tools=offer.parallel,
        template_options=thinking.options,
        reasoning_budget=thinking.budget,
        constraint=constraint_to_core(request, _form(request), _FORMAT),
        logprobs=_logprobs(request),
        scope=request.cache_salt or "",
        adapters=adapters_to_core(request),
        slot=slot_to_core(request),
    )


def _form(request: wire.ResponsesRequest) -> chat_wire.ResponseFormat | None:
    form = request.text.format if request.text else None
    return None if form is None else chat_wire.ResponseFormat(type=form.type, schema=form.schema)


def _logprobs(request: wire.ResponsesRequest) -> int | None:
    if LOGPROBS in (request.include or ()):
        return request.top_logprobs or 0
    return request.top_logprobs or None


def _offer(request: wire.ResponsesRequest) -> Offer:
    functions = []
    for index, tool in enumerate(request.tools or []):
        if tool.type == PICTURES.name:
            functions.append(PICTURES)
        elif (function := _function(tool, index)) is not None:
            functions.append(function_to_core(function, f"tools[{index}]"))
    parallel = request.parallel_tool_calls is not False
    return choose(tuple(functions), request.tool_choice, "tool_choice", parallel=parallel)


def _function(tool: wire.Tool, index: int) -> chat_wire.Function | None:
    """Return the function that a tool is, None for a tool of another type, which is skipped."""
    if tool.type != "function":
        return None
    if tool.function is not None:
        return tool.function
    if tool.name is None:
        raise InvalidValue.of(f"tools[{index}].name", f"Missing required parameter: 'tools[{index}].name'.")
    return chat_wire.Function(
        name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict
    )


def response_without_effect(request: wire.ResponsesRequest) -> tuple[str, ...]:
    """Return the paths of values inside honoured fields that have no effect."""
    tools = request.tools or []
    skipped = [f"tools.{tool.type}" for tool in tools if tool.type not in ("function", PICTURES.name)]
    included = [f"include.{name}" for name in request.include or [] if name != LOGPROBS]
    found = [*skipped, *included, *without_effect(request)]
    if request.reasoning and (request.reasoning.summary or request.reasoning.generate_summary):
        found.append("reasoning.summary")
    if request.text and request.text.verbosity:
        found.append("text.verbosity")
    return tuple(dict.fromkeys(found))


def blank(request: wire.ResponsesRequest, *, id: str, model: str, created: int, store: bool) -> output.Response:
    """Return the response before anything of its answer is there; what was asked is told again."""
    text = request.text or wire.TextConfig()
    return output.Response(
        id=id,
        created_at=created,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        metadata=request.metadata or {},
        model=model,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        reasoning=request.reasoning or wire.Reasoning(),
        store=store,
        temperature=request.temperature,
        text=text if text.format else msgspec.structs.replace(text, format=wire.TextFormat(type="text")),
        tool_choice=request.tool_choice or "auto",
        tools=tuple(told for index, tool in enumerate(request.tools or []) if (told := _told(tool, index)) is not None),
        top_logprobs=request.top_logprobs or 0,
        top_p=request.top_p,
        user=request.user,
    )


def _told(tool: wire.Tool, index: int) -> output.Tool | None:
    """Return a tool as it is told again; its mask, which may be large, is left out."""
    if tool.type == PICTURES.name:
        fields = {name: getattr(tool, name) for name in ToolPictures.__struct_fields__}
        return output.PictureTool(**fields | {"input_image_mask": None})
    function = _function(tool, index)
    if function is None:
        return None
    return output.FunctionTool(
        name=function.name, description=function.description, parameters=function.parameters, strict=function.strict
    )
