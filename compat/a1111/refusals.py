"""Mistakes that A1111 words itself: the same words, but never its status 500 for what the caller did wrong."""

from server.core.errors import BadImage, BadRequest, UnknownModel


class Refused(BadRequest):
    """A refusal in A1111's words. Facts: status, error (A1111's exception class), detail or errors (the text)."""

    code = "a1111_refused"

    @classmethod
    def raised(cls, error: str, text: str, *, status: int = 422) -> "Refused":
        """Return what A1111 answers when a `raise` of its own ends the request: the text under `errors`."""
        return cls(text, status=status, error=error, detail="", errors=text)

    @classmethod
    def http(cls, text: str, *, status: int = 422) -> "Refused":
        """Return what A1111 answers by an HTTPException: the text under `detail`."""
        return cls(text, status=status, error="HTTPException", detail=text, errors="")


class NotHere(BadRequest):
    """A route of A1111 whose work this server does not do yet."""

    code = "not_here"

    @classmethod
    def of(cls, what: str) -> "NotHere":
        """Return the error for one route."""
        return cls(f"{what} is not offered by this server yet")


def unknown_checkpoint(name: str) -> UnknownModel:
    """Return the error for a checkpoint that is not there, in A1111's words."""
    return UnknownModel(f"model {name!r} not found", model=name, close=[])


def bad_image(error: BadImage) -> Refused:
    """Return the error for a picture that the worker could not use: A1111's words where it is none at all."""
    return Refused.http("Invalid encoded image" if error.fact("reason") == "unreadable" else error.message)
