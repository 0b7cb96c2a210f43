"""Logging set-up: a record is one line on standard error, secrets masked, control codes escaped."""

import contextlib
import logging
import os
import re
import sys

SECRETS = re.compile(r"(?i)(bearer\s+|basic\s+|api[_-]?key[=:]\s*|hf_)[A-Za-z0-9._~+/=-]{4,}")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")


class LineFormatter(logging.Formatter):
    """Formats a record as one line: `time level=info logger=server.app message`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line; a traceback follows on lines of its own."""
        moment = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        message = record.getMessage().replace("\n", "\\n")
        line = f"{moment} level={record.levelname.lower()} logger={record.name} {message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        line = SECRETS.sub(r"\1***", line)
        return CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", line)


class SafeHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error; a closed or full target must not stop the server."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Drop the record; when nobody reads any more, let all later ones go nowhere.

        What a broken pipe leaves unwritten would else turn a good end of the process into a bad exit status.
        """
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)


def set_up(level: str) -> None:
    """Send all records of at least this level to standard error."""
    handler = SafeHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, quiet in (("uvicorn.access", logging.WARNING), ("httpx", logging.WARNING), ("asyncio", logging.WARNING)):
        logging.getLogger(name).setLevel(max(quiet, root.level))
