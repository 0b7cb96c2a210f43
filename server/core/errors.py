"""The error tree of the house. A core error knows no status code and no dialect.

    ServerError
      BadRequest            the caller's fault; asking again unchanged is pointless
        UnknownModel  InvalidValue  Unsupported  ContextTooLong  BadImage
      NotNow                a fine request at a bad time; may be tried again
        QueueFull  ModelBusy  ShuttingDown
      CannotServe           a fine request this machine cannot do
        DoesNotFit  LoadFailed
      Cancelled             the job was ended on request
      Broken                our fault
        WorkerDied  OutOfMemory  ProtocolError

Errors cross the process boundary as data: `to_data` and `from_data` are inverse for every class below.
"""

from typing import Any, ClassVar, Self

import msgspec

Fact = str | int | float | bool | None | list[str]


class ErrorData(msgspec.Struct, frozen=True, kw_only=True):
    """An error as it travels between processes: the stable code, a sentence for people, facts as fields."""

    code: str
    message: str
    facts: dict[str, Fact] = {}


class ServerError(Exception):
    """Base of every error that a request can end with."""

    code: ClassVar[str] = "server_error"

    def __init__(self, message: str, /, **facts: Fact) -> None:
        super().__init__(message)
        self.message = message
        self.facts: dict[str, Fact] = facts

    def fact(self, name: str) -> Fact:
        """Return one fact of the error, None when it carries no such fact."""
        return self.facts.get(name)

    def to_data(self) -> ErrorData:
        """Return the error as plain data for the process border."""
        return ErrorData(code=self.code, message=self.message, facts=self.facts)


class BadRequest(ServerError):
    """The caller's fault; asking again unchanged is pointless."""

    code = "bad_request"


class UnknownModel(BadRequest):
    """No model of that name is registered. Facts: model, close (names that are near)."""

    code = "unknown_model"

    @classmethod
    def named(cls, model: str, close: list[str]) -> Self:
        """Build the error with the near names in its sentence."""
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        return cls(f"no model named {model!r} is known{hint}", model=model, close=close)


class InvalidValue(BadRequest):
    """A field has a value outside its type or range. Facts: param."""

    code = "invalid_value"

    @classmethod
    def of(cls, param: str, message: str) -> Self:
        """Build the error for one field of the request."""
        return cls(message, param=param)


class Unsupported(BadRequest):
    """A feature that would change the result is not offered. Facts: feature, param."""

    code = "unsupported"

    @classmethod
    def of(cls, param: str, message: str) -> Self:
        """Build the error for one field of the request."""
        return cls(message, feature=param, param=param)


class ContextTooLong(BadRequest):
    """The prompt does not fit in the model's context. Facts: limit, got (both in tokens)."""

    code = "context_too_long"

    @classmethod
    def of(cls, limit: int, got: int) -> Self:
        """Build the error in the words that clients match."""
        text = (
            f"This model's maximum context length is {limit} tokens, "
            f"but the prompt is too long: {got} tokens (context_length_exceeded)"
        )
        return cls(text, limit=limit, got=got)


class BadImage(BadRequest):
    """An input image cannot be decoded or is over the pixel limit. Facts: param."""

    code = "bad_image"


class NotNow(ServerError):
    """A fine request at a bad time; may be tried again. Facts: retry_after (seconds)."""

    code = "not_now"


class QueueFull(NotNow):
    """The queue has no place left."""

    code = "queue_full"


class ModelBusy(NotNow):
    """The model cannot be unloaded or changed while jobs run on it."""

    code = "model_busy"


class ShuttingDown(NotNow):
    """The server drains and takes no new work."""

    code = "shutting_down"


class CannotServe(ServerError):
    """A fine request this machine cannot do."""

    code = "cannot_serve"


class DoesNotFit(CannotServe):
    """The model can never fit in the memory budget. Facts: model, pool, needed, limit (bytes)."""

    code = "does_not_fit"


class LoadFailed(CannotServe):
    """The model's file could not be loaded. Facts: model, retry_after (seconds)."""

    code = "load_failed"


class Cancelled(ServerError):
    """The job was ended on request. Facts: mode."""

    code = "cancelled"


class Broken(ServerError):
    """Our fault: something that must not happen did."""

    code = "broken"


class WorkerDied(Broken):
    """The process that held the model ended in mid-job. Facts: model, exit; the log has its last lines."""

    code = "worker_died"


class OutOfMemory(Broken):
    """A device ran out of memory while working. Facts: device."""

    code = "out_of_memory"


class ProtocolError(Broken):
    """Parent and worker no longer understand each other."""

    code = "protocol_error"


def _tree(root: type[ServerError]) -> dict[str, type[ServerError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


_BY_CODE = _tree(ServerError)


def from_data(data: ErrorData) -> ServerError:
    """Rebuild the error that `to_data` flattened; an unknown code becomes `Broken`."""
    facts: dict[str, Any] = dict(data.facts)
    return _BY_CODE.get(data.code, Broken)(data.message, **facts)
