"""Requests that continue a text -> their replies, with all that each needs of its own."""

import os
from collections.abc import Sequence

from server.core.adapters import chosen_set
from server.core.jobs import JobId
from server.core.models import AdapterFacts
from server.core.text import ChatRequest, CompletionRequest, SamplingParams
from server.engines.text.contest import Contest
from server.engines.text.detokenise import Detokeniser
from server.engines.text.dry import BreakerTable
from server.engines.text.lead import Leads
from server.engines.text.logprobs import LogprobReader
from server.engines.text.prefix import Scope
from server.engines.text.prompt_scores import PromptScores
from server.engines.text.prompts import Prompt, Prompts
from server.engines.text.reply import Reply
from server.engines.text.sampling_values import SEED_LIMIT, resolve
from server.engines.text.stop_strings import StopStrings
from server.engines.text.token_sampling import Candidates, TokenSampler
from server.engines.text.vocabulary import Vocabulary


class Replies:
    """Makes the replies of one model, for texts of at most `context` tokens. `adapters` may act on them."""

    def __init__(
        self, vocabulary: Vocabulary, prompts: Prompts, context: int, adapters: Sequence[AdapterFacts] = ()
    ) -> None:
        self._vocabulary = vocabulary
        self._prompts = prompts
        self._context = context
        self._adapters = tuple(adapters)
        self._candidates = Candidates(vocabulary.size)
        self._breakers = BreakerTable(vocabulary)
        self._leads = Leads(vocabulary, prompts.constraints)

    def of(self, job: JobId, work: ChatRequest | CompletionRequest, prompts: Sequence[Prompt]) -> list[Reply]:
        """Return a reply for each choice of each prompt; see `resolve` and `chosen_set` for the errors."""
        params = work.sampling
        scope = Scope(work.scope, chosen_set(work.adapters, self._adapters))
        chain = resolve(params, vocabulary=self._vocabulary.size, context=self._context, tokens_of=self._biased_tokens)
        # As llama.cpp does for ignore_eos: end tokens are not chosen at all.
        forbidden = (*self._vocabulary.suppressed, *(self._vocabulary.ends if params.ignore_eos else ()))
        drawn = self._prompts.drawn(work)
        replies = []
        for index, prompt in enumerate(prompts):
            plan = self._prompts.plan(work, opened=prompt.opened)
            limit = _limit(params, self._context - len(prompt.tokens))
            scores = self._scores(work, prompt)
            contest = Contest(drawn, work.choices, index * work.choices) if drawn > work.choices else None
            for k in range(drawn):
                sampler = TokenSampler(chain, _seed(params, k), self._candidates, forbidden, self._breakers)
                replies.append(
                    Reply(
                        job,
                        index * drawn + k,
                        prompt.tokens,
                        limit=limit,
                        ends=self._vocabulary.ends,
                        sampler=sampler,
                        text=Detokeniser(self._leads.piece(plan)),
                        stops=StopStrings(params.stop, self._prompts.own_stops(work)),
                        echo=prompt.echo,
                        tell=work.logprobs is not None,
                        logprobs=None if work.logprobs is None and contest is None else self._reader(work),
                        scores=scores,
                        contest=contest,
                        lead=self._leads.lead(plan, limit),
                        scope=scope,
                        seeded=params.seed is not None and not sampler.is_greedy,
                        pictures=prompt.pictures,
                        slot=work.slot,
                    )
                )
        return replies

    def _biased_tokens(self, text: str) -> list[int]:
        return self._vocabulary.tokenise(text, special=False, room=self._context).tolist()

    def _reader(self, work: ChatRequest | CompletionRequest) -> LogprobReader:
        return LogprobReader(self._vocabulary.written, work.logprobs or 0)

    def _scores(self, work: ChatRequest | CompletionRequest, prompt: Prompt) -> PromptScores | None:
        """Return where the scores of a prompt are gathered, None when nobody wants them."""
        if not prompt.echo or work.logprobs is None:
            return None
        return PromptScores(prompt.tokens, self._reader(work))


def _limit(params: SamplingParams, room: int) -> int:
    return room if params.max_tokens is None else min(params.max_tokens, room)


def _seed(params: SamplingParams, choice: int) -> int:
    """Return the seed of one choice: the choices of a prompt differ, and the first has the seed that was asked for."""
    if params.seed is None:
        return int.from_bytes(os.urandom(4), "little") % (SEED_LIMIT - 1)
    return (params.seed + choice) % SEED_LIMIT
