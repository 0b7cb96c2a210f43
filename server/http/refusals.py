"""What the error tables of the doors share: a decoder's complaint in words, clean sentences, bounded delays."""

import logging
import re
from math import ceil

import msgspec
from litestar.exceptions import HTTPException, SerializationException

from server.core.errors import Broken, CannotServe, InvalidValue, ServerError
from server.http.disconnect import ClientLeft

logger = logging.getLogger(__name__)

UNEXPECTED = "The server had an internal error while answering; its log has the details."

LONGEST_RETRY_S = 60
_LONGEST_QUOTE = 200

_MISSING = re.compile(r"Object missing required field `(\w+)`")
_PATH = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s/'\"`]+/)+")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")


def known(error: Exception) -> ServerError | HTTPException | ClientLeft:
    """Return what a door has words for: a body that could not be read as the caller's mistake, the rest as it is.

    What nobody foresaw is logged with its traceback and told in a fixed sentence.
    """
    match error:
        case ServerError() | HTTPException() | ClientLeft():
            return error
        case SerializationException() if isinstance(error.__cause__, Exception):
            return known(error.__cause__)
        case msgspec.DecodeError() | RecursionError() | UnicodeDecodeError() | SerializationException():
            return body_error(error)
        case _:
            logger.error("a request ended with an unexpected error", exc_info=error)
            return ServerError(UNEXPECTED)


def body_error(error: Exception) -> InvalidValue:
    """Return what is wrong with a request's body, from what the decoder raised: the fact `param` is a field's path."""
    match error:
        case msgspec.ValidationError():
            return _validation(str(error))
        case RecursionError():
            return InvalidValue("The request body is nested too deeply.")
        case UnicodeDecodeError():
            return InvalidValue("The request body is not valid UTF-8.")
        case _:
            return InvalidValue("The request body is not valid JSON.")


def sentence(error: ServerError) -> str:
    """Return an error's message without the machine's folders and addresses, which an engine may have put there."""
    if isinstance(error, Broken | CannotServe):
        return _ADDRESS.sub("0x...", _FOLDERS.sub("", error.message))
    return error.message


def delay(error: ServerError | None, otherwise: int) -> str:
    """Return the value of a Retry-After header, 1 ... 60 s: clients fall back to their own delays above that."""
    told = error.fact("retry_after") if error is not None else None
    seconds = told if isinstance(told, int | float) else otherwise
    return str(min(max(ceil(seconds), 1), LONGEST_RETRY_S))


def _validation(text: str) -> InvalidValue:
    found = _PATH.search(text)
    what = (text[: found.start()] if found else text)[:_LONGEST_QUOTE]
    path = found.group(1).replace("[...]", "") if found else ""
    missing = _MISSING.fullmatch(what)
    if missing:
        param = f"{path}.{missing.group(1)}" if path else missing.group(1)
        return InvalidValue.of(param, f"Missing required parameter: '{param}'.")
    if not path:
        return InvalidValue(f"The request body has the wrong type: {what[:1].lower()}{what[1:]}.")
    return InvalidValue.of(path, f"Invalid value for '{path}': {what[:1].lower()}{what[1:]}.")
