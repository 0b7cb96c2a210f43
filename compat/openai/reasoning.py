"""How much the model is to think before it answers: the many ways to say so, as core fields and template variables. Pure.

| on the wire | in the core |
|---|---|
| `reasoning_effort`, `reasoning.effort` | the template variable `reasoning_effort`; `none` = thinking off |
| `enable_thinking`, `thinking.type`, `reasoning.enabled`, `chat_template_kwargs.enable_thinking` | the variable `enable_thinking`; false = a budget of 0 too |
| `thinking_budget`, `reasoning_budget`, `thinking.budget_tokens`, `reasoning.max_tokens` | `reasoning_budget`; -1 = no limit |
| `reasoning_format: "none"` | thoughts are left in the text |
"""  # noqa: E501 - table rows cannot be broken

import msgspec

from compat.openai import wire
from compat.openai.fields import TEMPLATE_OPTIONS
from server.core.errors import InvalidValue

_MAX_OPTION_TEXT = 256
_FORMATS = ("auto", "deepseek", "deepseek-legacy", "none")
_KINDS = ("enabled", "disabled", "adaptive")

Options = dict[str, bool | int | float | str]


class Thought(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says about thinking. `budget` is in tokens, None = unlimited, 0 = no thinking."""

    options: Options
    budget: int | None
    split: bool = True


def reasoning_to_core(request: wire.ChatCompletionRequest) -> Thought:
    """Return what a chat says about thinking, in all its forms; raise InvalidValue with the field's path."""
    form = request.reasoning_format
    if form and form not in _FORMATS:
        raise InvalidValue.of("reasoning_format", f"'reasoning_format' must be one of {', '.join(_FORMATS)}")
    reasoning = request.reasoning or wire.Reasoning()
    effort = request.reasoning_effort if request.reasoning_effort is not None else reasoning.effort
    budgets = (
        request.thinking_budget,
        request.reasoning_budget,
        request.thinking.budget_tokens if request.thinking else None,
        reasoning.max_tokens,
    )
    made = thought(
        effort,
        _enabled(request, reasoning),
        next((budget for budget in budgets if budget is not None), None),
        template_options(request.chat_template_kwargs),
    )
    return msgspec.structs.replace(made, split=form != "none")


def _enabled(request: wire.ChatCompletionRequest, reasoning: wire.Reasoning) -> bool | None:
    if request.enable_thinking is not None:
        return request.enable_thinking
    if request.thinking is not None:
        if request.thinking.type not in _KINDS:
            raise InvalidValue.of("thinking.type", f"'thinking.type' must be one of {', '.join(_KINDS)}")
        return request.thinking.type != "disabled"
    return reasoning.enabled


def thought(effort: str | None, enabled: bool | None, budget: int | None, options: Options) -> Thought:
    """Return one core value of all that is said; the variables in `options` win over the same things said elsewhere."""
    said: Options = {}
    if effort == "none":
        enabled = False
    elif effort is not None:
        said["reasoning_effort"] = effort
    if enabled is not None:
        said["enable_thinking"] = enabled
    said |= options
    if said.get("enable_thinking") is False:
        return Thought(options=said, budget=0)
    if budget is None:
        named = said.get("thinking_budget")
        budget = named if isinstance(named, int) else None
    return Thought(options=said, budget=None if budget is None or budget < 0 else budget)


def template_options(given: wire.JsonObject | None) -> Options:
    """Return the variables of the chat template that a request may set; raise InvalidValue for one of a wrong type."""
    options: Options = {}
    for name, value in (given or {}).items():
        kinds = TEMPLATE_OPTIONS.get(name)
        if kinds is None or value is None:
            continue
        param = f"chat_template_kwargs.{name}"
        if type(value) not in kinds:
            raise InvalidValue.of(param, f"'{param}' must be of the type {kinds[0].__name__}")
        if isinstance(value, str) and len(value) > _MAX_OPTION_TEXT:
            raise InvalidValue.of(param, f"'{param}' is longer than {_MAX_OPTION_TEXT} characters")
        if isinstance(value, int) and abs(value) > wire.INT32:
            raise InvalidValue.of(param, f"'{param}' is out of range")
        options[name] = value
    return options


def ignored_options(given: wire.JsonObject | None) -> tuple[str, ...]:
    """Return the paths of template variables that are not allowed and so have no effect."""
    return tuple(f"chat_template_kwargs.{name}" for name in given or {} if name not in TEMPLATE_OPTIONS)


def shows_reasoning(request: wire.ChatCompletionRequest) -> bool:
    """Tell whether thoughts are to be in the answer."""
    excluded = request.reasoning is not None and request.reasoning.exclude
    return request.include_reasoning is not False and not excluded
