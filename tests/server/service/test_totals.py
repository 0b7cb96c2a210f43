from server.core.text import ChatRequest, CompletionRequest, TextFinished, Usage
from server.service.totals import TextTotals, Totals

USED = Usage(prompt_tokens=10, completion_tokens=4, cached_tokens=3)


def finished(choice: int) -> TextFinished:
    return TextFinished(choice=choice, reason="stop", usage=USED, prompt_ms=500.0, predicted_ms=2000.0)


def test_a_prompt_counts_once_for_all_its_choices() -> None:
    totals = Totals()
    work = CompletionRequest(model="m", prompts=("a", "b"), choices=2)
    for choice in range(4):
        totals.note(work, finished(choice))
    assert totals.view() == TextTotals(
        prompt_tokens=14, cached_tokens=6, predicted_tokens=16, prompt_seconds=1.0, predicted_seconds=8.0
    )


def test_sums_grow_and_a_view_stays_as_it_was() -> None:
    totals = Totals()
    totals.note(ChatRequest(model="m", messages=()), finished(0))
    before = totals.view()
    totals.note(ChatRequest(model="m", messages=()), finished(0))
    assert before.predicted_tokens == 4 and totals.view().predicted_tokens == 8
