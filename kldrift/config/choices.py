"""Which keys go together where a mapping offers alternatives: one table for the checks and the JSON schema."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kldrift.config.document import Path, Problem
from kldrift.records import kinds


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to fill in a mapping: the keys it requires and those it allows."""

    name: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


#: Chosen by the key `method`; `edges` is chosen by its presence.
BIN_METHODS = (
    Choice("quantile", (), ("method", "probabilities", "range")),
    Choice("uniform", ("method",), ("count", "range")),
    Choice("logarithmic", ("method",), ("count", "range")),
    Choice("discrete", ("method",)),
    Choice("edges", ("edges",)),
)

#: Chosen by the key `kind`.
KINDS = tuple(Choice(kind, traits.required, traits.optional) for kind, traits in kinds.KINDS.items())

#: Chosen by the key of the same name; with `previous`, the other key says where the bins come from.
MONITOR_REFERENCES = (
    Choice("data", ("data",)),
    Choice("file", ("file",)),
    Choice("learn", ("learn",)),
    Choice("previous", ("previous",), ("learn",)),
    Choice("previous", ("previous", "data")),
    Choice("previous", ("previous", "file")),
)
FEATURE_REFERENCES = (
    *MONITOR_REFERENCES,
    Choice("counts", ("counts",), ("edges", "missing")),
    Choice("probabilities", ("probabilities",), ("edges", "missing")),
)

#: Chosen by the key `family`, another kind of feature reference: with given parameters, or fitted to a file.
FAMILIES = (
    Choice("normal", ("mean", "std"), ("missing",)),
    Choice("lognormal", ("mean", "sigma"), ("missing",)),
    Choice("exponential", ("scale",), ("missing",)),
    Choice("gamma", ("shape", "scale"), ("missing",)),
    Choice("beta", ("a", "b"), ("missing",)),
    Choice("uniform", ("low", "high"), ("missing",)),
    Choice("poisson", ("rate",), ("missing",)),
    Choice("bernoulli", ("p",), ("missing",)),
    Choice("categorical", ("probabilities",), ("missing",)),
)
FITTED_FAMILIES = tuple(Choice(family.name, ("fit",)) for family in FAMILIES)

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

#: Chosen by the key `protocol` of a Kafka source.
_SASL = ("mechanism", "username_file", "password_file")
_TLS = ("ca", "certificate", "key", "key_password_file")
PROTOCOLS = (
    Choice("plaintext"),
    Choice("ssl", (), _TLS),
    Choice("sasl_plaintext", _SASL),
    Choice("sasl_ssl", _SASL, _TLS),
)
#: Keys that require another key.
BESIDE_ANOTHER: Mapping[str, str] = {"certificate": "key", "key": "certificate", "key_password_file": "key"}


def chosen(choices: tuple[Choice, ...], name: Any) -> Choice | None:
    """Return the choice of this name, if there is one."""
    return next((choice for choice in choices if choice.name == name), None)


def misfits(path: Path, keys: Iterable[str], choice: Choice, subject: str) -> Iterable[Problem]:
    """Report the keys that do not belong to the choice."""
    for key in sorted(keys):
        if key not in choice.required and key not in choice.optional:
            yield Problem((*path, key), f"no {key} with {subject}", "remove the key")


def json_schema_of(
    choices: tuple[Choice, ...], key: str | None = None, common: tuple[str, ...] = (), complete: bool = True
) -> dict[str, Any]:
    """Return the JSON schema of a mapping that follows one of the choices.

    Parameters
    ----------
    key : the key that names the choice, if there is one
    common : keys that every choice allows
    complete : whether all required keys must be present
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
