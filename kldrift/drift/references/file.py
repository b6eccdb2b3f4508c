"""The reference file: JSON that can be reviewed, versioned and compared line by line."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from kldrift.drift.kinds import SHAPES
from kldrift.drift.references.measured import measure_reference
from kldrift.drift.references.overdispersion import Overdispersion
from kldrift.drift.references.reference import FeatureReference
from kldrift.errors import ReferenceProblem
from kldrift.records.kinds import WITH_REFERENCE
from kldrift.records.types import IntArray

VERSION = 2
#: Versions that can be read. The first had no cell for invalid values.
_READABLE = (1, VERSION)


def dump_references(references: Sequence[FeatureReference]) -> str:
    """Return the text of a reference file: one line per pane, edges and hashes readable.

    Raises
    ------
    ReferenceProblem
        a reference is known exactly or comes from a parametric family, which makes it configuration, not data
    """
    lines = [f'{{"kldrift_reference": {VERSION},', '"features": [']
    for i, reference in enumerate(references):
        if reference.panes is None or reference.counts is None or reference.probabilities is not None:
            raise ReferenceProblem(
                f"{reference.name}: expected counts, got probabilities; they belong in the configuration"
            )
        if reference.flaw is not None:
            raise ReferenceProblem(f"{reference.name}: {reference.flaw}")
        head: dict[str, Any] = {
            "name": reference.name,
            "kind": reference.kind,
            "created": datetime.fromtimestamp(reference.created_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            "source": reference.source,
            "rows": int(reference.rows),
            "bins_hash": reference.bins_hash,
            "reference_hash": reference.reference_hash,
        }
        head |= {"by_time": True} if reference.by_time else {}
        head |= reference.shape.to_json()
        if reference.shape.moments is None:
            measured = measure_reference(reference)
            head["overdispersion"] = {
                "block_samples": measured.block_samples.tolist(),
                "phi": measured.phi.tolist(),
                "lambda": measured.lambda_.tolist(),
                "measured": measured.measured,
            }
        head["cells"] = reference.cells
        head["counts"] = reference.counts.tolist()
        lines.append("{")
        lines += [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}," for key, value in head.items()]
        rows = ",\n".join(f"    {json.dumps(row)}" for row in reference.panes.tolist())
        lines.append(f'  "panes": [\n{rows}\n  ]\n}}{"," if i + 1 < len(references) else ""}')
    lines.append("]}\n")
    return "\n".join(lines)


def load_references(text: str, origin: str) -> tuple[FeatureReference, ...]:
    """Read a reference file and check its hashes.

    Raises
    ------
    ReferenceProblem
        it is not an artefact, of another version, or its counts do not belong to its hashes
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReferenceProblem(f"{origin}: expected a reference file in JSON, got {error}; build it again") from None
    if not isinstance(document, dict) or "kldrift_reference" not in document:
        raise ReferenceProblem(
            f"{origin}: expected a file made by `kldrift reference build`, got other JSON;"
            " for a data file use `reference: {data: …}`"
        )
    if document["kldrift_reference"] not in _READABLE:
        raise ReferenceProblem(
            f"{origin}: expected reference version {VERSION} or earlier, got {document['kldrift_reference']!r};"
            " build it again"
        )
    try:
        return tuple(_feature(item, document["kldrift_reference"]) for item in document["features"])
    except KeyError as error:
        raise ReferenceProblem(f"{origin}: expected the key {error}, got none; build the reference again") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ReferenceProblem(f"{origin}: {error}; build the reference again") from None


def _feature(item: Mapping[str, Any], version: int) -> FeatureReference:
    name = item["name"]
    panes: IntArray = np.array(item["panes"], dtype=np.int64)
    if version == 1 and panes.ndim == 2:
        panes = np.insert(panes, panes.shape[1], 0, axis=1)
    if item["kind"] not in WITH_REFERENCE:
        *others, last = WITH_REFERENCE
        raise ValueError(f"{name}: expected kind {', '.join(others)} or {last}, got {item['kind']!r}")
    reference = FeatureReference(
        name=name,
        shape=SHAPES[item["kind"]].from_json(name, item),
        panes=panes,
        created_ms=round(datetime.fromisoformat(item["created"]).timestamp() * 1000),
        source=item["source"],
        by_time=bool(item.get("by_time", False)),
    )
    # files made before overdispersion was stored have none: it is measured again
    if reference.shape.moments is None and "overdispersion" in item:
        reference = replace(reference, overdispersion=_overdispersion(name, item["overdispersion"]))
    if panes.ndim != 2 or panes.shape[1] != len(reference.cells) or panes.min() < 0:
        raise ValueError(f"{name}: expected panes of {len(reference.cells)} counts >= 0, one for each cell")
    if reference.bins_hash != item["bins_hash"] or reference.reference_hash != item["reference_hash"]:
        raise ValueError(
            f"{name}: expected counts and bins that match the file's hashes, but they were changed by hand"
        )
    return reference


def _overdispersion(name: str, item: Mapping[str, Any]) -> Overdispersion:
    """Read the overdispersion that was measured when the reference was made."""
    n, phi, lambda_ = (np.array(item[key], dtype=np.float64) for key in ("block_samples", "phi", "lambda"))
    ordered = n.ndim == 1 and n.size > 0 and n[0] > 0 and bool(np.all(np.diff(n) > 0))
    if not ordered or not n.shape == phi.shape == lambda_.shape or not (np.all(phi >= 1) and np.all(lambda_ >= phi)):
        raise ValueError(f"{name}: expected overdispersion with 1 <= phi <= lambda for increasing block_samples")
    return Overdispersion(n, phi, lambda_, bool(item["measured"]))


def by_name(references: Sequence[FeatureReference], wanted: Sequence[str], origin: str) -> list[FeatureReference]:
    """Pick the references of the wanted features.

    Raises
    ------
    ReferenceProblem
        with the names of all features that are not there
    """
    known: Mapping[str, FeatureReference] = {reference.name: reference for reference in references}
    absent = [name for name in wanted if name not in known]
    if absent:
        raise ReferenceProblem(
            f"{origin}: expected a reference for every feature, got none for {', '.join(absent)};"
            f" it has {', '.join(sorted(known))}; build it again or give the feature its own reference"
        )
    return [known[name] for name in wanted]
