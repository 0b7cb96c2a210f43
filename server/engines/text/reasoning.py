"""Thoughts that come before an answer: how a model marks them, and the machine that tells them apart.

    <think> ... </think> answer        the usual form; some templates write the first mark into the prompt
    [THINK] ... [/THINK] answer        Magistral and Ministral; others have marks of their own

gpt-oss has channels instead; its parser (`tool_formats.harmony`) does all of this itself.
"""

from typing import NamedTuple

from server.engines.text.tool_formats.lark import LarkWriter
from server.engines.text.tool_formats.pieces import Parser, Piece, Thought, first_of, held_back, merged


class ThoughtForm(NamedTuple):
    """The marks around thoughts.

    `ending` is what is written when thoughts are ended from outside. `after` stands between thoughts and answer where
    that is more than white space. `breaks` end thoughts too, but belong to what follows.
    """

    opening: str
    closing: str
    ending: str
    after: str = ""
    breaks: tuple[str, ...] = ()

    @property
    def marks(self) -> tuple[str, ...]:
        """Return all marks."""
        return (self.opening, self.closing, *([self.after] if self.after else []))


THINK = ThoughtForm("<think>", "</think>", "\n</think>\n\n")
SEED_THINK = ThoughtForm("<seed:think>", "</seed:think>", "</seed:think>")
MISTRAL_THINK = ThoughtForm("[THINK]", "[/THINK]", "[/THINK]")
GEMMA_THINK = ThoughtForm("<|channel>thought\n", "<channel|>", "<channel|>")
MINIMAX_THINK = ThoughtForm("<mm:think>", "</mm:think>", "</mm:think>")
HY_THINK = ThoughtForm("<think:opensource>", "</think:opensource>", "</think:opensource>")
COMMAND_THINK = ThoughtForm("<|START_THINKING|>", "<|END_THINKING|>", "<|END_THINKING|>")
KIMI_THINK = ThoughtForm("<|open|>think<|sep|>", "<|close|>think<|sep|>", "<|close|>think<|sep|>")
APRIEL_THINK = ThoughtForm("Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]", "\n[BEGIN FINAL RESPONSE]\n")
# Thoughts go on after a call; they end with the answer alone.
APERTUS_THINK = ThoughtForm("<|inner_prefix|>", "<|inner_suffix|>", "<|inner_suffix|>", breaks=("<|tools_prefix|>",))
# Thoughts are a message, and what follows is another.
HARMONY_THINK = ThoughtForm(
    "<|channel|>analysis<|message|>", "<|end|>", "<|end|><|start|>assistant", after="<|start|>assistant"
)
MUSE_THINK = ThoughtForm(" to=self<|message|>", "<|eom|>", "<|eom|><|start|>assistant", after="<|start|>assistant")
SOLAR_THINK = ThoughtForm("<|think|>", "<|end|>", "<|end|><|begin|>assistant", after="<|begin|>assistant")

# The first whose marks all stand in the template is taken, so what is more special comes first.
_BY_MARKS: tuple[tuple[tuple[str, ...], ThoughtForm], ...] = (
    (("<|channel|>", "<|message|>"), HARMONY_THINK),
    ((" to=self<|message|>",), MUSE_THINK),
    (("<|begin|>assistant<|think|>",), SOLAR_THINK),
    (("<|channel>thought", "<channel|>"), GEMMA_THINK),
    (("<seed:think>", "</seed:think>"), SEED_THINK),
    (("[THINK]", "[/THINK]"), MISTRAL_THINK),
    (("<mm:think>", "</mm:think>"), MINIMAX_THINK),
    (("<think{}>", "</think{}>", ":opensource"), HY_THINK),
    (("<|START_THINKING|>", "<|END_THINKING|>"), COMMAND_THINK),
    (("<|open|>", "<|close|>", "<|sep|>", "think"), KIMI_THINK),
    (("<|inner_prefix|>", "<|inner_suffix|>"), APERTUS_THINK),
    (("[BEGIN FINAL RESPONSE]",), APRIEL_THINK),
    (("<think>", "</think>"), THINK),
)


def thought_form(template: str) -> ThoughtForm | None:
    """Return how the models of a chat template write thoughts, None when its text shows no marks for them."""
    return next((form for marks, form in _BY_MARKS if all(mark in template for mark in marks)), None)


def opens_thoughts(prompt: str, form: ThoughtForm | None) -> bool:
    """Tell whether a rendered prompt ends within thoughts, so that the reply begins with them."""
    if form is None or form is HARMONY_THINK:
        return False
    return prompt.rstrip().endswith(form.opening.rstrip())


def thought_grammar(write: LarkWriter, form: ThoughtForm, *, opened: bool) -> str:
    """Return the expression for thoughts (optional unless `opened`) and white space before the answer."""
    ending = write.text_until(form.closing)
    after = write.literal(form.after) if form.after else write.space()
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
        """Wait for the first character of an answer, or for the mark of thoughts that have not been yet.

        Some models put the mark that ends thoughts before an answer without any.
        """
        start = self._buffer.lstrip()
        opening, closing = self._form.opening.lstrip(), self._form.closing
        if not start or (
            not self._thought and any(mark != start and mark.startswith(start) for mark in (opening, closing))
        ):
            return []
        if not self._thought and start.startswith(opening):
            self.thinking = True
            self._buffer = start[len(opening) :]
            return self._thoughts()
        if not self._thought and start.startswith(closing):
            self._thought = True
            self._buffer = start[len(closing) :]
            return self._before_answer()
        rest, self._buffer = start if self._thought else self._buffer, ""
        self._over = True
        return self._answers.feed(rest)

    def _thoughts(self) -> list[Piece]:
        # A repeated mark at the beginning is the model's own, behind the one in the prompt.
        if not self._begun:
            start = self._buffer.lstrip()
            opening = self._form.opening.lstrip()
            if opening.startswith(start):
                return []
            self._buffer = start.removeprefix(opening).lstrip()
        marks = (self._form.closing, *self._form.breaks)
        found = first_of(self._buffer, marks)
        if found is not None:
            at, _ = found
            self.thinking = False
            self._thought = True
            thought = self._buffer[:at].rstrip()
            self._buffer = self._buffer[at:].removeprefix(self._form.closing)
        else:
            text = self._buffer
            thought = text[: len(text) - held_back(text, marks)].rstrip()
            self._buffer = text[len(thought) :]
        self._begun = self._begun or bool(thought)
        out: list[Piece] = [Thought(thought)] if thought else []
        return out + self._before_answer() if found is not None else out
