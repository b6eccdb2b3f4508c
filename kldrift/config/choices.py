"""Which keys go together, where a mapping offers a choice: one table for the checks and for the JSON schema."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Choice:
    """One way of filling a mapping: the keys it needs and those it may have besides."""

    name: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


#: Chosen by the key `method`; `edges` by being there.
BIN_METHODS = (
    Choice("quantile", (), ("method", "probabilities", "range")),
    Choice("uniform", ("method",), ("count", "range")),
    Choice("logarithmic", ("method",), ("count", "range")),
    Choice("discrete", ("method",)),
    Choice("edges", ("edges",)),
)

#: Chosen by the key of the same name.
REFERENCES = (
    Choice("data", ("data",)),
    Choice("file", ("file",)),
    Choice("counts", ("counts",), ("edges",)),
    Choice("probabilities", ("probabilities",), ("edges",)),
)

#: Keys of references that this version does not have.
LATER_REFERENCES = ("family", "mean", "std", "fit", "previous", "learn")

#: Chosen by the key `distribution`.
DISTRIBUTIONS = (
    Choice("normal", ("mean", "std")),
    Choice("lognormal", ("mean", "sigma")),
    Choice("uniform", ("low", "high")),
    Choice("exponential", ("scale",)),
    Choice("poisson", ("rate",)),
    Choice("categorical", ("probabilities",)),
    Choice("constant", ("value",)),
)


def json_schema_of(
    choices: tuple[Choice, ...], key: str | None = None, common: tuple[str, ...] = (), complete: bool = True
) -> dict[str, Any]:
    """Say in JSON schema that a mapping follows one of the choices.

    Parameters
    ----------
    key : names the choice, if any key does
    common : keys that go with each
    complete : whether the required keys must all be there
    """
    alternatives = []
    for choice in choices:
        keys = [*choice.required, *choice.optional, *common]
        alternative: dict[str, Any] = {
            "title": choice.name,
            "properties": dict.fromkeys(keys, True),
            "additionalProperties": False,
        }
        if key is not None and key in keys:
            alternative["properties"][key] = {"const": choice.name}
        if complete:
            alternative["required"] = [*choice.required, *([key] if key in common else [])]
        alternatives.append(alternative)
    return {"anyOf": alternatives}
