"""A chat request -> how its replies are held and read: grammar, trigger of calls, parser.

tool_choice       constraint    the reply is
none              none          free
none              given         [thoughts] what obeys the constraint
auto              none          free; from the mark of a call on, that call obeys its tool's schema
auto              given         [thoughts] calls, or what obeys the constraint
required, named   any           [thoughts] calls that obey their tools' schemas
"""

from collections.abc import Sequence
from typing import NamedTuple

from server.core.errors import InvalidValue
from server.core.text import ChatRequest, JsonConstraint, Tool
from server.engines.text.constraints import Constraints, TokenMask
from server.engines.text.output_parser import make_parser
from server.engines.text.reasoning import ThoughtForm, thought_form, thought_grammar
from server.engines.text.tool_formats.base import ToolFormat
from server.engines.text.tool_formats.choice import format_for, format_of
from server.engines.text.tool_formats.lark import LarkWriter
from server.engines.text.tool_formats.pieces import Parser

MOST_TOOLS = 512


class ReplyPlan(NamedTuple):
    """What all replies to one request have in common.

    `mask` holds from the first token on (to JSON, maybe with marks around it, if `ends_as_json`), `call_mask` for one
    call, or a section of calls, where `form.trigger` matches. `marks` are the texts of control tokens that the parser
    has to see. Masks are prototypes: each reply goes through a copy.
    """

    form: ToolFormat | None = None
    tools: tuple[Tool, ...] = ()
    thoughts: ThoughtForm | None = None
    opened: bool = False
    split: bool = True
    mask: TokenMask | None = None
    call_mask: TokenMask | None = None
    many: bool = True
    budget: int | None = None
    ends_as_json: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """Return the marks of calls and thoughts that occur in replies."""
        calls = self.form.marks if self.form is not None else ()
        return calls + (self.thoughts.marks if self.thoughts is not None else ())

    def parser(self) -> Parser | None:
        """Return a new parser for one reply, None when its whole text is the answer."""
        return make_parser(
            self.form,
            self.tools,
            self.thoughts,
            opened=self.opened,
            split=self.split,
            streams=self.mask is not None and bool(self.tools),
        )


class ReplyPlanner:
    """Plans the replies of one model, by what its chat template shows."""

    def __init__(self, template: str, constraints: Constraints, control: dict[str, int]) -> None:
        self._constraints = constraints
        self._control = control
        self._form = format_for(template)
        self._own_form = format_of(template)
        self._thoughts = thought_form(template)

    @property
    def form(self) -> ToolFormat:
        """Return the format that calls are written in."""
        return self._form

    @property
    def thoughts(self) -> ThoughtForm | None:
        """Return how the model writes thoughts, None when it has none."""
        return self._thoughts

    def plan(self, request: ChatRequest, *, opened: bool) -> ReplyPlan:
        """Return how the replies to a request are held and read.

        Args:
            request: what was asked.
            opened: whether the prompt ends within thoughts.

        Raises:
            InvalidValue: a constraint or a tool's schema cannot be used, or the tool that was named is not there.
        """
        tools = tools_in_play(request)
        form = self._form if tools or (self._own_form is not None and self._own_form.wraps) else None
        plan = ReplyPlan(
            form=form,
            tools=tools,
            thoughts=self._thoughts,
            opened=opened,
            split=request.split_reasoning,
            many=request.parallel_tools,
            budget=request.reasoning_budget,
        )
        forced = request.tool_choice in ("required", "named")
        if forced or request.constraint is not None:
            as_json = forced or isinstance(request.constraint, JsonConstraint)
            return plan._replace(mask=self._whole_mask(request, plan, forced=forced), ends_as_json=as_json)
        if tools:
            return plan._replace(call_mask=self._call_mask(tools, many=plan.many and self._form.sectioned))
        return plan

    def _whole_mask(self, request: ChatRequest, plan: ReplyPlan, *, forced: bool) -> TokenMask:
        write = LarkWriter(self._control)
        options: list[str] = []
        if plan.tools:
            options.append(self._form.calls(write, plan.tools, many=plan.many))
        if request.constraint is not None and not forced:
            head = plan.form.answer_head if plan.form is not None else ""
            options.append(f"{write.literal(head)} @body" if head else "@body")
        thoughts = thought_grammar(write, plan.thoughts, opened=plan.opened) if plan.thoughts is not None else ""
        lark = write.grammar(f"{thoughts} {write.one_of(options)}")
        if forced or request.constraint is None:
            return self._constraints.lark_mask(lark, "tools")
        return self._constraints.mask(
            request.constraint, within=None if options == ["@body"] and not thoughts else lark
        )

    def _call_mask(self, tools: Sequence[Tool], *, many: bool) -> TokenMask | None:
        """Return what a call obeys, or all calls where they stand in one section.

        None when no grammar can be made of the tools: nobody was promised one.
        """
        write = LarkWriter(self._control, lenient=True)
        try:
            return self._constraints.lark_mask(write.grammar(self._form.calls(write, tools, many=many)), "tools")
        except InvalidValue:
            return None


def tools_in_play(request: ChatRequest) -> tuple[Tool, ...]:
    """Return the tools that may be called; raise InvalidValue when there is none where one must be."""
    if len(request.tools) > MOST_TOOLS:
        raise InvalidValue.of("tools", f"a request can have {MOST_TOOLS} tools, not {len(request.tools)}")
    match request.tool_choice:
        case "none":
            return ()
        case "named":
            named = tuple(tool for tool in request.tools if tool.name == request.tool_name)
            if not named:
                raise InvalidValue.of("tool_choice", f"there is no tool named {request.tool_name!r}")
            return named[:1]
        case "required" if not request.tools:
            raise InvalidValue.of("tool_choice", "a call is required, but there are no tools")
    return request.tools
