"""The pages that only say something: the configuration, and errors."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ConfigurationPage:
    """The configuration in force, as YAML."""

    template: ClassVar[str] = "configuration.html"

    text: str


@dataclass(frozen=True, slots=True)
class ProblemPage:
    """Why a request failed, with its HTTP status."""

    template: ClassVar[str] = "problem.html"

    status_code: int
    message: str
