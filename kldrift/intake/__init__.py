"""Intakes: from bytes to work for the engine.

`PushIntake` takes bodies from HTTP and gathers those that wait for the same monitor into one decode, because a bulk
decode costs about the same for one row as for a thousand. `PullIntake` drives one source in a thread of its own.
"""

from kldrift.intake.observing import now_ms
from kldrift.intake.pull import PullIntake
from kldrift.intake.push import HTTP, PushIntake

__all__ = ["HTTP", "PullIntake", "PushIntake", "now_ms"]
