"""What all events share: the log, the metrics and a clock."""

import logging
import time
from collections.abc import Callable
from threading import Lock

from kldrift.export.logs import EventLog
from kldrift.export.self_metrics import SelfMetrics


class Events:
    """Where events are logged and counted.

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
