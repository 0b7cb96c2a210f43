"""Thoughts that come before an answer: how a model marks them, and the machine that tells them apart.

    <think> ... </think> answer        the usual form; some templates write the first mark into the prompt
    [THINK] ... [/THINK] answer        Magistral and Ministral

gpt-oss has channels instead; its parser (`tool_formats.harmony`) does all of this itself.
"""

from typing import NamedTuple

from server.engines.text.tool_formats.lark import LarkWriter
from server.engines.text.tool_formats.pieces import Parser, Piece, Thought, held_back, merged


class ThoughtForm(NamedTuple):
    """The marks around thoughts. `ending` is what is written when thoughts are ended from outside."""

    opening: str
    closing: str
    ending: str

    @property
    def marks(self) -> tuple[str, ...]:
        """Return both marks."""
        return (self.opening, self.closing)


THINK = ThoughtForm("<think>", "</think>", "\n</think>\n\n")
SEED_THINK = ThoughtForm("<seed:think>", "</seed:think>", "</seed:think>")
MISTRAL_THINK = ThoughtForm("[THINK]", "[/THINK]", "[/THINK]")
GEMMA_THINK = ThoughtForm("<|channel>thought\n", "<channel|>", "<channel|>")
HARMONY_THINK = ThoughtForm("<|channel|>analysis<|message|>", "<|end|>", "<|end|><|start|>assistant")

_FORMS = (HARMONY_THINK, GEMMA_THINK, SEED_THINK, MISTRAL_THINK, THINK)


def thought_form(template: str) -> ThoughtForm | None:
    """Return how the models of a chat template write thoughts, None when its text shows no marks for them."""
    if "<|channel|>" in template and "<|message|>" in template:
        return HARMONY_THINK
    return next((form for form in _FORMS if form.opening.rstrip() in template and form.closing in template), None)


def opens_thoughts(prompt: str, form: ThoughtForm | None) -> bool:
    """Tell whether a rendered prompt ends within thoughts, so that the reply begins with them."""
    if form is None or form is HARMONY_THINK:
        return False
    return prompt.rstrip().endswith(form.opening.rstrip())


def thought_grammar(write: LarkWriter, form: ThoughtForm, *, opened: bool) -> str:
    """Return the expression for thoughts (optional unless `opened`) and white space before the answer."""
    ending = write.text_until(form.closing)
    after = write.literal("<|start|>assistant") if form is HARMONY_THINK else write.space()
    if opened:
        return f"{ending} {after}"
    return f"({write.literal(form.opening)} {ending} {after})?"


class ReasoningSplitter:
    """Splits off the thoughts at the beginning of a reply and hands the rest to a parser of answers."""

    def __init__(self, answers: Parser, form: ThoughtForm, *, opened: bool) -> None:
        self._answers = answers
        self._form = form
        self._buffer = ""
        self._begun = False
        self._thought = False
        self._over = False
        self.thinking = opened

    @property
    def streams(self) -> bool:
        """Tell what the parser of answers does."""
        return self._answers.streams

    @streams.setter
    def streams(self, streams: bool) -> None:
        self._answers.streams = streams

    def feed(self, text: str) -> list[Piece]:
        """Take more text and return what is certain now."""
        if self._over:
            return self._answers.feed(text)
        self._buffer += text
        return self._thoughts() if self.thinking else self._before_answer()

    def finish(self) -> list[Piece]:
        """Return what was held back."""
        rest, self._buffer = self._buffer, ""
        if self._over:
            return self._answers.finish()
        if self.thinking:
            return [Thought(rest.rstrip())] if rest.strip() else []
        if self._thought:
            rest = rest.lstrip()
        return merged(self._answers.feed(rest) + self._answers.finish())

    def _before_answer(self) -> list[Piece]:
        """Wait for the first character of an answer, or for the mark of thoughts that have not been yet."""
        start = self._buffer.lstrip()
        opening = self._form.opening
        if not start or (not self._thought and len(start) < len(opening) and opening.startswith(start)):
            return []
        if not self._thought and start.startswith(opening):
            self.thinking = True
            self._buffer = start[len(opening) :]
            return self._thoughts()
        rest, self._buffer = start if self._thought else self._buffer, ""
        self._over = True
        return self._answers.feed(rest)

    def _thoughts(self) -> list[Piece]:
        # A repeated mark at the beginning is the model's own, behind the one in the prompt.
        if not self._begun:
            start = self._buffer.lstrip()
            if self._form.opening.startswith(start):
                return []
            self._buffer = start.removeprefix(self._form.opening).lstrip()
        text, found, rest = self._buffer.partition(self._form.closing)
        if found:
            self.thinking = False
            self._thought = True
            self._buffer = rest
            thought = text.rstrip()
        else:
            keep = held_back(text, (self._form.closing,))
            thought = text[: len(text) - keep].rstrip()
            self._buffer = text[len(thought) :]
        self._begun = self._begun or bool(thought)
        out: list[Piece] = [Thought(thought)] if thought else []
        return out + self._before_answer() if found else out
