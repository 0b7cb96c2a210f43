"""Text work -> checked prompts: token ids that fit into the context, what is echoed, what ends the reply."""

from typing import NamedTuple

import numpy as np

from server.core.errors import ContextTooLong, InvalidValue
from server.core.text import ChatRequest, CompletionRequest
from server.engines.text.conversation import ConversationPrompts
from server.engines.text.prefix import Tokens
from server.engines.text.vocabulary import Vocabulary

MOST_REPLIES = 2048


class Prompt(NamedTuple):
    """One prompt of a request: its ids [n], and the text that is sent before the reply."""

    tokens: Tokens
    echo: str = ""


class Prompts:
    """Tokenises the requests for one model whose sequences have `context` tokens."""

    def __init__(self, vocabulary: Vocabulary, conversations: ConversationPrompts, context: int) -> None:
        self._vocabulary = vocabulary
        self._conversations = conversations
        self._context = context

    def of(self, work: ChatRequest | CompletionRequest) -> list[Prompt]:
        """Return the prompts of a request.

        Raises:
            InvalidValue: empty, or a token that does not exist, or the chat template refuses.
            Unsupported: pictures, or tools without a place in the template.
            ContextTooLong: a prompt leaves no room for one more token.
        """
        if not 1 <= work.choices <= MOST_REPLIES:
            raise InvalidValue.of("n", f"1 ... {MOST_REPLIES} choices can be asked for, not {work.choices}")
        if isinstance(work, ChatRequest):
            prompts = [Prompt(self._conversations.tokens(work))]
        else:
            prompts = [self._completion(prompt, work.echo) for prompt in work.prompts]
        if not 1 <= len(prompts) * work.choices <= MOST_REPLIES:
            count = f"{len(prompts)} prompts with {work.choices} choices each"
            raise InvalidValue.of("prompt", f"a request can have 1 ... {MOST_REPLIES} replies, not {count}")
        for prompt in prompts:
            if len(prompt.tokens) == 0:
                raise InvalidValue.of("prompt", "the prompt is empty and the model has no begin token")
            if len(prompt.tokens) >= self._context:
                raise ContextTooLong.of(self._context, len(prompt.tokens))
        return prompts

    def stops(self, work: ChatRequest | CompletionRequest) -> tuple[str, ...]:
        """Return all strings that end a reply to this request."""
        own = self._conversations.stops if isinstance(work, ChatRequest) else ()
        return (*work.sampling.stop, *own)

    def _completion(self, prompt: str | tuple[int, ...], echo: bool) -> Prompt:
        if isinstance(prompt, str):
            # Control tokens are parsed here, unlike in chats: clients of raw completions write whole templates.
            tokens = self._vocabulary.with_bos(self._vocabulary.tokenise(prompt, special=True, room=self._context))
            return Prompt(tokens, prompt if echo else "")
        size = self._vocabulary.size
        for token in prompt:
            if not 0 <= token < size:
                raise InvalidValue.of("prompt", f"token {token} does not exist; the model has {size} tokens")
        tokens = np.array(prompt, np.int32)
        if len(tokens) == 0:
            tokens = self._vocabulary.with_bos(tokens)
        return Prompt(tokens, self._vocabulary.detokenise(tokens) if echo else "")
