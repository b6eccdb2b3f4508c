"""Telemetry that remembers what it was told."""

from collections.abc import Callable
from typing import Any

from kldrift.export.telemetry import Telemetry


class Told(Telemetry):
    """Remembers every call of the names given, with its arguments, instead of logging and counting it."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        for name in names:
            setattr(self, name, self._remembering(name))

    def _remembering(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: self.calls.append((name, (*arguments, named) if named else arguments))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of each call of a name."""
        return [arguments for called, arguments in self.calls if called == name]
