"""What may change while the daemon runs.

Records of the configuration name the fields that may, in `CHANGES_WHILE_RUNNING`. A change of any other field is
refused, so that a new key is refused until somebody makes a reload apply it.
"""

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from kldrift.config.records import key_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RESTART = "cannot change while running; restart the daemon, or restore the old value"


def changes_that_need_a_restart(old: "DataclassInstance", new: "DataclassInstance") -> list[str]:
    """Return the keys, such as ``engine.threads``, that differ between two records and must not."""
    return list(_changes(old, new, ""))


def _changes(old: Any, new: Any, prefix: str) -> Iterator[str]:
    for field in fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after or field.name in old.CHANGES_WHILE_RUNNING:
            continue
        key = f"{prefix}{key_of(field.name)}"
        if hasattr(before, "CHANGES_WHILE_RUNNING"):
            yield from _changes(before, after, f"{key}.")
        else:
            yield key
