"""What all events need: the log, the metrics, a clock."""

import logging
import time
from collections.abc import Callable
from threading import Lock

from kldrift.export.logs import EventLog
from kldrift.export.self_metrics import SelfMetrics


class Events:
    """The log and the metrics that events go to.

    Parameters
    ----------
    logger : where failures are logged
    clock : Unix time, seconds
    """

    def __init__(self, logger: logging.Logger | None = None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._log = EventLog(logger or logging.getLogger("kldrift"), clock=clock)
        self._metrics = SelfMetrics()
        self._lock = Lock()
