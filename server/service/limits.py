"""How long the loop waits for what, in seconds."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds after which the hall acts by itself.

    `tick`: how often it looks at the clock. `cancel`: how long a worker may take to end a job. `silence`: how long a
    worker with jobs may send nothing; a single step of a large picture on a slow CPU takes minutes. `load`: how long a
    load may take. `stop`: how long a worker may take to end when asked to. `rest`: how long nothing goes on before a
    spare worker is started.
    """

    tick: float = 0.5
    cancel: float = 120.0
    silence: float = 900.0
    load: float = 1800.0
    stop: float = 10.0
    rest: float = 2.0
