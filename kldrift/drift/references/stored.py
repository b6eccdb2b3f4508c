"""What a monitor has learned besides its counts, as bytes to store: vocabularies and learned references."""

import json
from dataclasses import replace

from kldrift.drift.references.file import dump_references, load_references
from kldrift.drift.references.reference import FeatureReference


def texts_to_bytes(texts: tuple[str, ...]) -> bytes:
    """Return the texts of a vocabulary, in the order of their codes, as bytes."""
    return json.dumps(texts).encode()


def texts_from_bytes(value: bytes) -> tuple[str, ...]:
    """Return the texts that `texts_to_bytes` was given."""
    return tuple(json.loads(value))


def reference_to_bytes(reference: FeatureReference) -> bytes:
    """Return a learned reference as bytes, or the reason why the rows made none."""
    if reference.flaw is not None:
        return json.dumps({"flaw": reference.flaw}).encode()
    return dump_references([reference]).encode()


def reference_from_bytes(value: bytes, awaited: FeatureReference) -> FeatureReference:
    """Return the reference that `reference_to_bytes` was given, in place of the one that was to be learned.

    Raises
    ------
    ReferenceProblem, ValueError
        the bytes are not a reference
    """
    document = json.loads(value)
    if "flaw" in document:
        return replace(awaited, learn=0, flaw=document["flaw"])
    (reference,) = load_references(value.decode(), awaited.name)
    return replace(reference, offset_ms=awaited.offset_ms, created_ms=0 if awaited.offset_ms else reference.created_ms)
