"""The reference artefact: a JSON text that can be reviewed, versioned and compared line by line."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from kldrift.drift.references.gaussian import GaussianReference
from kldrift.drift.references.measured import measure_reference
from kldrift.drift.references.overdispersion import Overdispersion
from kldrift.drift.references.reference import FeatureReference
from kldrift.errors import ReferenceProblem
from kldrift.records.types import FloatArray, IntArray

VERSION = 1


def dump_references(references: Sequence[FeatureReference]) -> str:
    """The artefact's text: one line a pane, edges and hashes in the open.

    Raises
    ------
    ReferenceProblem
        a reference is known exactly or of a parametric family, and so is configuration, not data
    """
    lines = [f'{{"kldrift_reference": {VERSION},', '"features": [']
    for i, reference in enumerate(references):
        if reference.panes is None or reference.counts is None or reference.probabilities is not None:
            raise ReferenceProblem(
                f"{reference.name}: expected counts, got probabilities; they belong in the configuration"
            )
        head = {
            "name": reference.name,
            "kind": reference.kind,
            "created": datetime.fromtimestamp(reference.created_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            "source": reference.source,
            "rows": int(reference.rows),
            "bins_hash": reference.bins_hash,
            "reference_hash": reference.reference_hash,
        }
        if reference.edges is not None:
            head["edges"] = [_edge_to_json(edge) for edge in reference.edges.tolist()]
        else:
            head |= {
                "categories": reference.categories,
                "other": reference.folded,
                "other_is_open": reference.open_ended,
            }
        if reference.dimensions:
            head |= _vector_to_json(reference)
        else:
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
    """Read an artefact back, checking its hashes.

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
    if document["kldrift_reference"] != VERSION:
        raise ReferenceProblem(
            f"{origin}: expected reference version {VERSION}, got {document['kldrift_reference']!r}; build it again"
        )
    try:
        return tuple(_feature(item) for item in document["features"])
    except KeyError as error:
        raise ReferenceProblem(f"{origin}: expected the key {error}, got none; build the reference again") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ReferenceProblem(f"{origin}: {error}; build the reference again") from None


def _feature(item: Mapping[str, Any]) -> FeatureReference:
    name = item["name"]
    panes: IntArray = np.array(item["panes"], dtype=np.int64)
    edges: FloatArray | None = None
    if item["kind"] == "numeric":
        edges = np.array([_edge_from_json(edge) for edge in item["edges"]], dtype=np.float64)
        if edges.size < 2 or not np.all(np.diff(edges) > 0):
            raise ValueError(f"{name}: expected strictly increasing edges")
    elif item["kind"] not in ("categorical", "vector"):
        raise ValueError(f"{name}: expected kind numeric, categorical or vector, got {item['kind']!r}")
    reference = FeatureReference(
        name=name,
        kind=item["kind"],
        edges=edges,
        categories=None if edges is not None else tuple(item["categories"]),
        panes=panes,
        folded=() if edges is not None else tuple(item["other"]),
        open_ended=False if edges is not None else bool(item["other_is_open"]),
        created_ms=round(datetime.fromisoformat(item["created"]).timestamp() * 1000),
        source=item["source"],
        **_spread(name, item),
    )
    if panes.ndim != 2 or panes.shape[1] != len(reference.cells) or panes.min() < 0:
        raise ValueError(f"{name}: expected panes of {len(reference.cells)} counts >= 0, one for each cell")
    if reference.bins_hash != item["bins_hash"] or reference.reference_hash != item["reference_hash"]:
        raise ValueError(
            f"{name}: expected counts and bins that belong to the file's hashes, they were changed by hand"
        )
    return reference


def _overdispersion(name: str, item: Mapping[str, Any]) -> Overdispersion:
    """What was measured when the reference was made."""
    n, phi, lambda_ = (np.array(item[key], dtype=np.float64) for key in ("block_samples", "phi", "lambda"))
    ordered = n.ndim == 1 and n.size > 0 and n[0] > 0 and bool(np.all(np.diff(n) > 0))
    if not ordered or not n.shape == phi.shape == lambda_.shape or not (np.all(phi >= 1) and np.all(lambda_ >= phi)):
        raise ValueError(f"{name}: expected overdispersion with 1 <= phi <= lambda for increasing block_samples")
    return Overdispersion(n, phi, lambda_, bool(item["measured"]))


def _spread(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    if item["kind"] == "vector":
        return _vector_from_json(item)
    # files made before it was stored have none: it is measured again
    return {"overdispersion": _overdispersion(name, item["overdispersion"]) if "overdispersion" in item else None}


def _vector_to_json(reference: FeatureReference) -> dict[str, Any]:
    """Mean and covariance of a vector, and how much more than independent samples it spreads."""
    gaussian = reference.gaussian
    if gaussian is None:
        raise ReferenceProblem(f"{reference.name}: {reference.flaw}")
    return {
        "dimensions": reference.dimensions,
        "mean": gaussian.mean.tolist(),
        "covariance": gaussian.covariance.tolist(),
        "vectors": gaussian.rows,
        "missing_ratio": gaussian.missing_ratio,
        "correlation": None if gaussian.correlation is None else gaussian.correlation.tolist(),
        "overdispersion": {
            "block_samples": gaussian.block_samples.tolist(),
            "phi": gaussian.phi.tolist(),
            "lambda_ratio": gaussian.lambda_ratio.tolist(),
            "measured": gaussian.measured,
        },
    }


def _vector_from_json(item: Mapping[str, Any]) -> dict[str, Any]:
    spread = item["overdispersion"]
    gaussian = GaussianReference(
        np.array(item["mean"], dtype=np.float64),
        np.array(item["covariance"], dtype=np.float64),
        float(item["vectors"]),
        float(item["missing_ratio"]),
        None if item["correlation"] is None else np.array(item["correlation"], dtype=np.float64),
        block_samples=np.array(spread["block_samples"], dtype=np.float64),
        phi=np.array(spread["phi"], dtype=np.float64),
        lambda_ratio=np.array(spread["lambda_ratio"], dtype=np.float64),
        measured=bool(spread["measured"]),
    )
    return {
        "gaussian": gaussian,
        "dimensions": gaussian.dimensions,
        "full_covariance": gaussian.kind == "full",
    }


def _edge_to_json(edge: float) -> float | str:
    return edge if np.isfinite(edge) else ("+Inf" if edge > 0 else "-Inf")


def _edge_from_json(edge: float | str) -> float:
    return float(edge)


def by_name(references: Sequence[FeatureReference], wanted: Sequence[str], origin: str) -> list[FeatureReference]:
    """Pick the references of the wanted features.

    Raises
    ------
    ReferenceProblem
        naming every feature that is not there
    """
    known: Mapping[str, FeatureReference] = {reference.name: reference for reference in references}
    absent = [name for name in wanted if name not in known]
    if absent:
        raise ReferenceProblem(
            f"{origin}: expected a reference for every feature, got none for {', '.join(absent)};"
            f" it has {', '.join(sorted(known))}; build it again or give the feature its own reference"
        )
    return [known[name] for name in wanted]
