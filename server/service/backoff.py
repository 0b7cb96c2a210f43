"""How long a model that failed is left alone: 1, 2, 4 ... 60 s after failed loads, one step later after crashes.

Pure; time is an argument.
"""

import msgspec

from server.core.errors import LoadFailed
from server.core.models import ModelId

MAX_PAUSE_S = 60.0
SHORT_PAUSE_S = 4.0
# 2**6 is over the longest pause already; a day of failures must not overflow.
MAX_POWER = 6


class _Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """How often in a row a model failed, why the last time, until when it is left alone, and if jobs wait for that."""

    times: int
    until: float
    reason: str
    waits: bool


class Backoff:
    """Remembers which models failed. A model that was well for a minute after its pause starts anew."""

    def __init__(self) -> None:
        self._trouble: dict[ModelId, _Trouble] = {}

    def load_failed(self, model: ModelId, reason: str, now: float) -> float:
        """Note a failed load and return the seconds until the next try; jobs that come earlier are refused."""
        times = self._times(model, now)
        pause = min(MAX_PAUSE_S, 2.0 ** min(times - 1, MAX_POWER))
        self._trouble[model] = _Trouble(times=times, until=now + pause, reason=reason, waits=False)
        return pause

    def died(self, model: ModelId, reason: str, now: float) -> float:
        """Note a crash and return the seconds until the next try; jobs wait for that while it is short."""
        times = self._times(model, now)
        pause = 0.0 if times == 1 else min(MAX_PAUSE_S, 2.0 ** min(times - 2, MAX_POWER))
        self._trouble[model] = _Trouble(times=times, until=now + pause, reason=reason, waits=pause <= SHORT_PAUSE_S)
        return pause

    def is_pausing(self, model: ModelId, now: float) -> bool:
        """Tell whether the model is not to be loaded yet."""
        trouble = self._trouble.get(model)
        return trouble is not None and now < trouble.until

    def refusal(self, model: ModelId, now: float) -> LoadFailed | None:
        """Return what a job for the model is told now, None when it may wait or be tried."""
        trouble = self._trouble.get(model)
        if trouble is None or trouble.waits or now >= trouble.until:
            return None
        wait = trouble.until - now
        text = f"model {model!r} could not be loaded: {trouble.reason}; it is tried again in {wait:.0f} s"
        return LoadFailed(text, model=model, retry_after=wait)

    def _times(self, model: ModelId, now: float) -> int:
        past = self._trouble.get(model)
        return past.times + 1 if past and now - past.until < MAX_PAUSE_S else 1
