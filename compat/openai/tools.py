"""Functions that may be called, and whether one must be: from the wire to the core. Pure.

| on the wire | in the core |
|---|---|
| `tool_choice` absent or `"auto"` | `auto` |
| `"none"` | `none`, and the model is told of no tools |
| `"required"`, `"any"` | `required` |
| `{"type": "function", "function": {"name": "f"}}`, `{"type": "function", "name": "f"}` | `named`, `f` |
| `{"type": "image_generation"}` | `named`: the function that stands for that tool |
| `{"type": "allowed_tools", "allowed_tools": {"mode", "tools"}}` (or flat) | only those tools, `auto` or `required` |
| `functions`, `function_call` | the same in their older form: at most one call |
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from compat.openai import wire
from compat.openai.constraints import schema_text
from compat.openai.picture_tool.names import TYPE
from server.core.errors import InvalidValue, Unsupported
from server.core.text import Tool

NO_PARAMETERS: wire.JsonObject = {"type": "object", "properties": {}}

Choice = Literal["auto", "none", "required", "named"]
_WORDS: dict[str, Choice] = {"": "auto", "auto": "auto", "none": "none", "required": "required", "any": "required"}


PICTURES = Tool(name=TYPE)
"""Stands for the tool `image_generation` until its checkpoint is known: see `picture_tool.tool`."""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """The tools the model is told of, and which it must call."""

    tools: tuple[Tool, ...] = ()
    choice: Choice = "auto"
    name: str = ""
    parallel: bool = True


def is_old_form(request: wire.ChatCompletionRequest) -> bool:
    """Tell whether a request offers `functions`: its calls come back as `function_call`."""
    return bool(request.functions) and not request.tools


def tools_to_core(request: wire.ChatCompletionRequest) -> Offer:
    """Return what a chat offers the model.

    Raises:
        InvalidValue: a call is demanded of a function that is not there.
        Unsupported: a tool is of another type than `function` and `image_generation`.
    """
    if is_old_form(request):
        functions = [function_to_core(item, f"functions[{k}]") for k, item in enumerate(request.functions or [])]
        return choose(tuple(functions), request.function_call, "function_call", parallel=False)
    parallel = request.parallel_tool_calls is not False
    return choose(_tools(request.tools or []), request.tool_choice, "tool_choice", parallel=parallel)


def _tools(tools: list[wire.Tool]) -> tuple[Tool, ...]:
    converted = []
    for index, tool in enumerate(tools):
        if tool.type == TYPE:
            converted.append(PICTURES)
            continue
        if tool.type != "function":
            text = f"tools of type {tool.type[:64]!r} are not supported by this server, only functions and {TYPE}"
            raise Unsupported.of(f"tools[{index}].type", text)
        if tool.function is None:
            raise InvalidValue.of(f"tools[{index}].function", f"'tools[{index}].function' is missing")
        converted.append(function_to_core(tool.function, f"tools[{index}].function"))
    return tuple(converted)


def function_to_core(function: wire.Function, where: str) -> Tool:
    """Return a function in core terms; without parameters it has none, as OpenAI's document says."""
    schema = schema_text(function.parameters or NO_PARAMETERS, f"{where}.parameters")
    return Tool(name=function.name, description=function.description or "", parameters=schema)


def choose(tools: tuple[Tool, ...], wanted: str | dict[str, Any] | None, param: str, *, parallel: bool) -> Offer:
    """Return what is offered once it is known which tool is wanted; raises as `tools_to_core`."""
    if isinstance(wanted, dict):
        return _named(tools, wanted, param, parallel)
    choice = _WORDS.get(wanted or "")
    if choice is None:
        text = f"'{param}' must be none, auto, required or an object that names a function"
        raise InvalidValue.of(param, text)
    if choice == "none":
        return Offer(choice="none", parallel=parallel)
    if choice == "required" and not tools:
        raise InvalidValue.of(param, f"'{param}' demands a call, but there are no functions to call")
    return Offer(tools=tools, choice=choice, parallel=parallel)


def _named(tools: tuple[Tool, ...], wanted: dict[str, Any], param: str, parallel: bool) -> Offer:
    kind = wanted.get("type", "function")
    if kind == "allowed_tools":
        inner = wanted.get("allowed_tools")
        return _allowed(tools, inner if isinstance(inner, dict) else wanted, param, parallel)
    if kind not in ("function", TYPE):
        text = f"'{param}' can name functions and {TYPE}, no tools of another type"
        raise Unsupported.of(f"{param}.type", text)
    name = _known(_name(wanted), tools, param)
    return Offer(tools=tools, choice="named", name=name, parallel=False)


def _allowed(tools: tuple[Tool, ...], allowed: dict[str, Any], param: str, parallel: bool) -> Offer:
    listed, mode = allowed.get("tools"), allowed.get("mode", "auto")
    if not isinstance(listed, list) or mode not in ("auto", "required"):
        text = f"'{param}' of the type allowed_tools needs a list 'tools' and a 'mode', auto or required"
        raise InvalidValue.of(param, text)
    names = {_known(_name(item), tools, param) for item in listed if isinstance(item, dict)}
    kept = tuple(tool for tool in tools if tool.name in names)
    return choose(kept, mode, param, parallel=parallel)


def _name(wanted: dict[str, Any]) -> object:
    if wanted.get("type") == TYPE:
        return TYPE
    function = wanted.get("function")
    return function.get("name") if isinstance(function, dict) else wanted.get("name")


def _known(name: object, tools: Sequence[Tool], param: str) -> str:
    if not isinstance(name, str):
        raise InvalidValue.of(param, f"'{param}' does not name a function")
    if all(tool.name != name for tool in tools):
        raise InvalidValue.of(param, f"'{param}' names the function {name[:64]!r}, which is not among the functions")
    return name
