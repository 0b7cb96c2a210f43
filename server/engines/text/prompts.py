"""Text work -> checked prompts: token ids that fit into the context, what is echoed, what ends the reply."""

from typing import NamedTuple

import numpy as np

from server.core.errors import ContextTooLong, InvalidValue, Unsupported
from server.core.text import ChatRequest, CompletionRequest, JsonConstraint
from server.engines.text.constraints import Constraints
from server.engines.text.conversation import ConversationPrompts
from server.engines.text.pictures import Runs
from server.engines.text.placed_pictures import check_pictures, cut_at_pictures, pictures_in
from server.engines.text.prefix import Tokens
from server.engines.text.reply_plan import ReplyPlan
from server.engines.text.sight import Sight
from server.engines.text.vocabulary import Vocabulary

MOST_REPLIES = 2048
MOST_LOGPROBS = 100


class Prompt(NamedTuple):
    """One prompt of a request.

    Its ids [n], the text that is sent before the reply, whether it ends within thoughts, and where its pictures are.
    """

    tokens: Tokens
    echo: str = ""
    opened: bool = False
    pictures: Runs = ()


class Prompts:
    """Tokenises the requests for one model whose sequences have `context` tokens."""

    def __init__(
        self, vocabulary: Vocabulary, conversations: ConversationPrompts, context: int, sight: Sight | None = None
    ) -> None:
        self._sight = sight
        self._vocabulary = vocabulary
        self._conversations = conversations
        self._context = context

    def of(self, work: ChatRequest | CompletionRequest) -> list[Prompt]:
        """Return the prompts of a request.

        Raises:
            InvalidValue: empty, or a token that does not exist, or the chat template refuses.
            Unsupported: pictures, and the model does not see.
            BadImage: a picture cannot be read.
            ContextTooLong: a prompt leaves no room for one more token.
        """
        self.check(work)
        if isinstance(work, ChatRequest):
            rendered = self._conversations.prompt(work)
            prompts = [Prompt(rendered.tokens, opened=rendered.opened, pictures=rendered.pictures)]
        else:
            prompts = [self._completion(number, prompt, work) for number, prompt in enumerate(work.prompts)]
        if not 1 <= len(prompts) * self.drawn(work) <= MOST_REPLIES:
            count = f"{len(prompts)} prompts with {self.drawn(work)} choices each"
            raise InvalidValue.of("prompt", f"a request can have 1 ... {MOST_REPLIES} replies, not {count}")
        for prompt in prompts:
            if len(prompt.tokens) == 0:
                raise InvalidValue.of("prompt", "the prompt is empty and the model has no begin token")
            if len(prompt.tokens) >= self._context:
                raise ContextTooLong.of(self._context, len(prompt.tokens))
        return prompts

    def check(self, work: ChatRequest | CompletionRequest) -> None:
        """Raise for what can be told of a request before its prompts are made, see `of`."""
        _check_counts(work)
        if isinstance(work, ChatRequest):
            self._conversations.check(work)
        elif work.pictures:
            check_pictures(pictures_in(work), sees=self._sight is not None)
            if work.suffix is not None or (work.echo and work.logprobs is not None):
                text = "a prompt with pictures can neither be scored nor have a suffix"
                raise Unsupported.of(work.pictures[0].picture.param, text)

    @property
    def constraints(self) -> Constraints:
        """Return what compiles constraints for this model."""
        return self._conversations.constraints

    def plan(self, work: ChatRequest | CompletionRequest, *, opened: bool) -> ReplyPlan:
        """Return how the replies to a request are held and read, see `ReplyPlanner.plan` for the errors."""
        if isinstance(work, ChatRequest):
            return self._conversations.planner.plan(work, opened=opened)
        if work.constraint is None:
            return ReplyPlan()
        as_json = isinstance(work.constraint, JsonConstraint)
        return ReplyPlan(mask=self.constraints.mask(work.constraint), ends_as_json=as_json)

    def own_stops(self, work: ChatRequest | CompletionRequest) -> tuple[str, ...]:
        """Return the strings that end a reply to this request although it does not name them."""
        return self._conversations.stops if isinstance(work, ChatRequest) else ()

    def drawn(self, work: ChatRequest | CompletionRequest) -> int:
        """Return how many replies are drawn to each prompt; at least as many as are sent."""
        return work.choices if isinstance(work, ChatRequest) else max(work.choices, work.best_of)

    def conversation(self, request: ChatRequest) -> Tokens:
        """Return the prompt [n] of a conversation, see `ConversationPrompts.tokens`."""
        return self._conversations.tokens(request)

    def _completion(self, number: int, prompt: str | tuple[int, ...], work: CompletionRequest) -> Prompt:
        if work.suffix is not None:
            return self._filling(prompt, work.suffix, work)
        placed = [each for each in work.pictures if each.prompt == number]
        if self._sight is not None and placed and isinstance(prompt, str):
            pictures = [self._sight.look(each.picture) for each in placed]
            ids, runs = self._sight.tokens(cut_at_pictures(prompt, placed, pictures), self._context)
            return Prompt(ids, prompt if work.echo else "", pictures=runs)
        if isinstance(prompt, str):
            # Control tokens are parsed here, unlike in chats: clients of raw completions write whole templates.
            tokens = self._vocabulary.with_bos(self._vocabulary.tokenise(prompt, special=True, room=self._context))
            return Prompt(tokens, prompt if work.echo else "")
        tokens = self._vocabulary.checked(prompt, "prompt")
        if len(tokens) == 0:
            tokens = self._vocabulary.with_bos(tokens)
        return Prompt(tokens, self._vocabulary.detokenise(tokens) if work.echo else "")

    def _filling(self, prompt: str | tuple[int, ...], suffix: str, work: CompletionRequest) -> Prompt:
        """Return a prompt that asks for what stands between two texts: prefix, suffix, then the middle (PSM)."""
        marks = self._vocabulary.fill
        if marks is None:
            raise Unsupported.of("suffix", "this model has no tokens for filling in the middle")
        if work.echo and work.logprobs is not None:
            raise Unsupported.of("echo", "the prompt of a completion with a suffix cannot be scored")
        room = self._context
        if isinstance(prompt, str):
            before, echo = self._vocabulary.tokenise(prompt, special=False, room=room), prompt
        else:
            before = self._vocabulary.checked(prompt, "prompt")
            echo = self._vocabulary.detokenise(before)
        after = self._vocabulary.tokenise(suffix, special=False, room=room)
        parts = [[marks.prefix], before, [marks.suffix], after, [marks.middle]]
        tokens = np.concatenate([np.asarray(part, np.int32) for part in parts])
        return Prompt(self._vocabulary.with_bos(tokens), echo if work.echo else "")


def _check_counts(work: ChatRequest | CompletionRequest) -> None:
    if not 1 <= work.choices <= MOST_REPLIES:
        raise InvalidValue.of("n", f"1 ... {MOST_REPLIES} choices can be asked for, not {work.choices}")
    if work.logprobs is not None and not 0 <= work.logprobs <= MOST_LOGPROBS:
        text = f"0 ... {MOST_LOGPROBS} likely tokens can be told of, not {work.logprobs}"
        raise InvalidValue.of("logprobs" if isinstance(work, CompletionRequest) else "top_logprobs", text)
    if isinstance(work, CompletionRequest) and work.best_of and not work.choices <= work.best_of <= MOST_REPLIES:
        text = f"best_of must lie in n ({work.choices}) ... {MOST_REPLIES}, not {work.best_of}"
        raise InvalidValue.of("best_of", text)
