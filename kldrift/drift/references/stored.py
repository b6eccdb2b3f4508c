"""What a monitor has found out besides its counts, as bytes to be stored: vocabularies and learned references."""

import json
from dataclasses import replace

from kldrift.drift.references.file import dump_references, load_references
from kldrift.drift.references.reference import FeatureReference


def texts_to_bytes(texts: tuple[str, ...]) -> bytes:
    """The texts of a vocabulary, in the order of their codes."""
    return json.dumps(texts).encode()


def texts_from_bytes(value: bytes) -> tuple[str, ...]:
    """What `texts_to_bytes` was given."""
    return tuple(json.loads(value))


def reference_to_bytes(reference: FeatureReference) -> bytes:
    """A learned reference, or why none could be made of the rows."""
    if reference.flaw is not None:
        return json.dumps({"flaw": reference.flaw}).encode()
    return dump_references([reference]).encode()


def reference_from_bytes(value: bytes, awaited: FeatureReference) -> FeatureReference:
    """What `reference_to_bytes` was given, in the place of the one that was to be learned.

    Raises
    ------
    ReferenceProblem, ValueError
        the bytes are no reference
    """
    document = json.loads(value)
    if "flaw" in document:
        return replace(awaited, learn=0, flaw=document["flaw"])
    (reference,) = load_references(value.decode(), awaited.name)
    return replace(reference, offset_ms=awaited.offset_ms, created_ms=0 if awaited.offset_ms else reference.created_ms)
