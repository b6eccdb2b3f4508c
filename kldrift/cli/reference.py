"""``kldrift reference build`` and ``show``."""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from kldrift.assembly.references import reference_from_data
from kldrift.cli.compare import pick_monitor
from kldrift.cli.output import messages, shown, write_whole
from kldrift.cli.tables import console
from kldrift.config.load import load_config
from kldrift.drift.references.file import dump_references, load_references
from kldrift.drift.references.reference import FeatureReference
from kldrift.engine.observing import now_ms
from kldrift.errors import ReferenceProblem
from kldrift.kernels.compilation import warm_up
from kldrift.records.kinds import INVALID, MISSING, STRUCTURAL_CELLS, WITH_REFERENCE
from kldrift.records.specs import FeatureSpec, ReferenceFamily, ReferenceInline, ReferenceLearn, ReferencePrevious

#: Features read at a time, so that the progress bar moves and a wide file is never in memory as a whole.
FEATURES_AT_A_TIME = 16


def build_command(data: Path, config_path: Path, monitor: str, output: Path) -> None:
    """Count those features of a monitor whose reference is data, and write the reference file."""
    config = load_config(config_path)
    spec = pick_monitor(config.monitors, monitor, config_path)
    features = [feature for feature in spec.features if _is_counted(feature)]
    if not features:
        raise ReferenceProblem(
            f"{monitor}: nothing to build: every feature learns its reference or has it in the configuration"
        )
    warm_up()
    err = Console(stderr=True)
    created_ms = now_ms()
    built: list[FeatureReference] = []
    with Progress(
        TextColumn("counting {task.fields[at]}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as progress:
        task = progress.add_task("", total=len(features), at="")
        for start in range(0, len(features), FEATURES_AT_A_TIME):
            some = features[start : start + FEATURES_AT_A_TIME]
            progress.update(task, at=some[0].name)
            built += reference_from_data(
                data,
                some,
                created_ms,
                timestamp=spec.timestamp,
                missing_values=spec.missing_texts,
                watched=[feature.name for feature in spec.features],
            )[0]
            progress.advance(task, len(some))
    write_whole(output, dump_references(built), "reference")
    n = len(built)
    messages(output).print(
        f"{shown(output)}: {n:,} feature{'' if n == 1 else 's'}, {built[0].rows:,.0f} rows, from {built[0].source}",
        highlight=False,
        markup=False,
    )


def _is_counted(feature: FeatureSpec) -> bool:
    """Whether its reference is counted from data, rather than written out, parametric or learned from the stream."""
    given = feature.reference
    if isinstance(given, ReferencePrevious):
        return given.bins is not None
    return feature.kind in WITH_REFERENCE and not isinstance(given, ReferenceInline | ReferenceFamily | ReferenceLearn)


def show_command(path: Path, feature: str | None) -> None:
    """Print a table of the features, or of one feature's cells."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReferenceProblem(f"{path}: expected a reference file, got {error}") from None
    references = load_references(text, str(path))
    out = console()
    if feature is None:
        table = Table(title=f"{path.name}: {references[0].source}" if references else path.name, title_justify="left")
        for heading in ("feature", "kind", "bins", "rows", "missing", "invalid", "bins hash", "reference hash"):
            table.add_column(heading, justify="right" if heading in ("bins", "rows", "missing", "invalid") else "left")
        for reference in references:
            assert reference.counts is not None
            missing, invalid = reference.counts[[MISSING, INVALID]] / reference.rows
            table.add_row(
                Text(reference.name),
                reference.kind,
                str(len(reference.cells) - STRUCTURAL_CELLS),
                f"{reference.rows:,.0f}",
                f"{missing:.2%}",
                f"{invalid:.2%}",
                reference.bins_hash,
                reference.reference_hash,
            )
        out.print(table)
        return
    chosen = next((reference for reference in references if reference.name == feature), None)
    if chosen is None or chosen.counts is None:
        raise ReferenceProblem(f"{feature}: expected one of {', '.join(r.name for r in references)}")
    table = Table(title=f"{chosen.name}: {chosen.rows:,.0f} rows", title_justify="left")
    table.add_column("cell", overflow="fold")
    table.add_column("count", justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    shares = chosen.counts / chosen.rows
    for cell, count, share in zip(chosen.cells, chosen.counts.tolist(), shares.tolist(), strict=True):
        table.add_row(Text(cell), f"{count:,}", f"{share:.2%}", "█" * round(40 * share / shares.max()))
    out.print(table)
