"""Messages -> the prompt a model was trained on, by the Jinja template in its file.

A template is code from a stranger. It runs in a sandbox (`template_sandbox`) with the functions that templates are
written for (`raise_exception`, `strftime_now`, `tojson`), within limits of time, memory and length. Lists of its own
it may add to and take from, which some do. Whatever goes wrong in it is told as InvalidValue with its own words.
"""

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import Template
from jinja2.exceptions import SecurityError, TemplateError

from server.core.errors import InvalidValue
from server.engines.text.deadline import Deadline, TookTooLong
from server.engines.text.memory_limit import MemoryLimit
from server.engines.text.template_sandbox import LENGTH_LIMIT, Given, Sandbox, tojson

TIME_LIMIT_S = 2.0
FATAL_S = 15.0
MEMORY_LIMIT = 128 * 1024 * 1024
_REASON_LIMIT = 500
_NEEDLE = "needle in a haystack"

Json = dict[str, Any]


class TemplateRefused(TemplateError):
    """The template called `raise_exception`: it does not take such a conversation."""


class ChatTemplate:
    """A compiled template. A source that does not compile is refused by the first use, not before."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        self._source = source
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self._template: Template | None = None
        self._probed: tuple[bool, bool] | None = None

    @property
    def knows_tools(self) -> bool:
        """Tell whether the template looks at `tools` (or `functions`, as old ones call them) at all."""
        return re.search(r"\b(tools|functions)\b", self._source) is not None

    def reads(self, key: str) -> bool:
        """Tell whether the template's text names a key of a message."""
        return re.search(rf"[.\"']{key}\b", self._source) is not None

    def render(
        self,
        messages: Sequence[Json],
        *,
        tools: Sequence[Json] = (),
        options: Mapping[str, object] | None = None,
        open_turn: bool = True,
    ) -> str:
        """Return the prompt for a conversation whose contents are strings.

        Args:
            messages: dicts with `role`, `content` (a string) and what the template may look at besides.
            tools: descriptions of functions in JSON schema's terms.
            options: further variables; those of the template's own contract cannot be overridden.
            open_turn: whether to open the turn of the assistant.

        Raises:
            InvalidValue: the template is broken, refuses the conversation, or exceeds its limits.
        """
        conversation = list(messages)
        try:
            takes_system, wants_parts = self._probe()
            conversation = conversation if takes_system else fold_system(messages)
            return self._run(conversation, tools, options, open_turn, wants_parts)
        except TemplateRefused as refusal:
            folded = fold_system(conversation)
            if folded == conversation:
                _refuse(refusal)
            try:
                return self._run(folded, tools, options, open_turn, wants_parts)
            except Exception:
                _refuse(refusal)
        except Exception as error:  # a template can raise anything Python can
            _refuse(error)

    def _probe(self) -> tuple[bool, bool]:
        """Find out once whether the template shows system messages and whether it wants contents as lists of parts."""
        if self._probed is None:
            user = {"role": "user", "content": "x"}
            wants_parts = not self._shows([{"role": "user", "content": _NEEDLE}], False) and self._shows(
                [{"role": "user", "content": _NEEDLE}], True
            )
            system = [{"role": "system", "content": _NEEDLE}, user]
            folds = not self._shows(system, wants_parts) and self._shows(fold_system(system), wants_parts)
            self._probed = (not folds, wants_parts)
        return self._probed

    def _shows(self, messages: list[Json], parts: bool) -> bool:
        try:
            return _NEEDLE in self._run(messages, (), None, True, parts)
        except (TookTooLong, MemoryError):  # so would the real conversation; nobody shall wait for both
            raise
        except Exception:  # what is wrong is told by the render of the real conversation
            return False

    def _run(
        self,
        messages: Sequence[Json],
        tools: Sequence[Json],
        options: Mapping[str, object] | None,
        open_turn: bool,
        parts: bool,
    ) -> str:
        variables = {
            **(options or {}),
            **self._tokens,
            "messages": Given(map(_with_parts, messages) if parts else messages),
            "tools": Given(tools) or None,
            "add_generation_prompt": open_turn,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
            "functions": tojson([tool["function"] for tool in tools]),
            "datetime": _strftime_now("%b %d %Y %H:%M:%S"),
        }
        pieces: list[str] = []
        length = 0
        with Deadline(TIME_LIMIT_S, fatal=FATAL_S), MemoryLimit(MEMORY_LIMIT):
            for piece in self._compiled().generate(variables):
                length += len(piece)
                if length > LENGTH_LIMIT:
                    raise SecurityError(f"its result is longer than {LENGTH_LIMIT} characters")
                pieces.append(piece)
            return "".join(pieces)

    def _compiled(self) -> Template:
        if self._template is None:
            self._template = Sandbox().from_string(self._source)
        return self._template


def fold_system(messages: Sequence[Json]) -> list[Json]:
    """Return the conversation with a leading system message put in front of the first user message."""
    if not messages or messages[0]["role"] != "system":
        return list(messages)
    system, rest = messages[0], list(messages[1:])
    if rest and rest[0]["role"] == "user":
        first = rest.pop(0)
        return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]
    return [{**system, "role": "user"}, *rest]


def _with_parts(message: Json) -> Json:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def _raise_exception(message: str) -> NoReturn:
    raise TemplateRefused(str(message))


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().astimezone().strftime(form)


def _refuse(error: Exception) -> NoReturn:
    if isinstance(error, TookTooLong):
        reason = f"it ran for more than {TIME_LIMIT_S:g} s"
    elif isinstance(error, MemoryError):
        reason = f"it needs more than {MEMORY_LIMIT >> 20} MiB of memory"
    else:
        reason = str(error)[:_REASON_LIMIT] or type(error).__name__
    raise InvalidValue.of("messages", f"the model's chat template refused this conversation: {reason}") from error
