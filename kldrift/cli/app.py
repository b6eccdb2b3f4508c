"""The commands and their arguments. Each imports what it needs only when called, so that `--help` is quick."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

#: Panels of `kldrift --help`, in the order in which a new user needs them.
START, RUN, LOOK, CONNECT = "Getting started", "The daemon", "Data at rest", "Prometheus and Grafana"
HERE = "This installation"

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    help="Monitors feature streams for drift: Kullback-Leibler divergence from a reference, for Prometheus.",
    epilog="First steps:  kldrift demo  shows drift within half a minute.  With your own data:  kldrift init"
    " reference.parquet,  kldrift check -c kldrift.yaml,  kldrift run -c kldrift.yaml;  then send rows, or configure a"
    " source, and open http://127.0.0.1:9867.",
)
reference_app = typer.Typer(no_args_is_help=True, help="Build and show reference files.")
app.add_typer(reference_app, name="reference", rich_help_panel=LOOK)


def _print_version(wanted: bool) -> None:
    if wanted:
        from kldrift import __version__

        print(f"kldrift {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options of `kldrift` itself."""


FailOn = Literal["warning", "critical"]
ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file (YAML).")]


@contextmanager
def exit_codes() -> Iterator[None]:
    """Print errors to stderr and turn them into an exit code: 2 for the configuration and references, else 1."""
    from kldrift.errors import ConfigError, KldriftError, ReferenceProblem

    try:
        yield
    except (ConfigError, ReferenceProblem) as error:
        print(error, file=sys.stderr)  # noqa: T201
        raise typer.Exit(2) from None
    except KldriftError as error:
        print(error, file=sys.stderr)  # noqa: T201
        raise typer.Exit(1) from None
    except OSError as error:  # stdout is full or closed, a file vanished: a traceback would not help
        print(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command(rich_help_panel=START)
def demo(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 9867,
    drift_after: Annotated[str, typer.Option(help="When the stream starts to drift.")] = "30s",
    duration: Annotated[str | None, typer.Option(help="Stop after this long (default: on Ctrl-C).")] = None,
) -> None:
    """Run a daemon on a synthetic stream that starts to drift after a while."""
    from kldrift.cli.demo import demo_command

    with exit_codes():
        demo_command(port, drift_after, duration)


@app.command(rich_help_panel=START)
def init(
    data: Annotated[Path, typer.Argument(help="Known-good rows: Parquet, CSV or NDJSON, also .gz and .zst.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output file; - for stdout.")] = Path("kldrift.yaml"),
    monitor: Annotated[str | None, typer.Option(help="Name of the monitor (default: from the file name).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    live: Annotated[
        str | None, typer.Option(help="Live files to follow, such as 'logs/*.ndjson' (default: rows are pushed).")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Leave this column out, since the model predicts it and live rows lack it. Can be repeated."),
    ] = None,
) -> None:
    """Write a starting configuration from data, with a reason beside each guess."""
    from kldrift.cli.init import init_command

    with exit_codes():
        init_command(data, output, monitor, force, live, target or [])


@app.command(rich_help_panel=START)
def check(
    config: ConfigOption,
    rate: Annotated[
        float | None,
        typer.Option(min=0.0, help="Rows per second of each monitor: also print the smallest drift of each window."),
    ] = None,
) -> None:
    """Validate a configuration and its references without starting; print what would be monitored, and how well.

    All problems are reported at once, each with its line. Exit codes: 0 valid, 2 invalid.
    """
    from kldrift.cli.check import check_command

    with exit_codes():
        check_command(config, rate)


@app.command(rich_help_panel=START)
def schema() -> None:
    """Print the JSON schema of the configuration, for editors."""
    import json

    from kldrift.config.schema import json_schema

    print(json.dumps(json_schema(), indent=2))  # noqa: T201


@app.command(rich_help_panel=RUN)
def run(
    config: ConfigOption,
    once: Annotated[
        bool, typer.Option("--once", help="Read the sources to the end, print the divergences and exit.")
    ] = False,
) -> None:
    """Run the daemon (or, with --once, one pass over the sources).

    It takes samples over HTTP and from the configured sources, and serves pages, an API and /metrics at
    `server.listen`, http://127.0.0.1:9867 by default. SIGHUP reloads the configuration, SIGTERM stops cleanly.

    Exit codes: 0 stopped, 2 invalid configuration or reference, 1 failure.
    """
    from kldrift.daemon.allocator import give_back_early

    give_back_early()  # before polars is imported

    from kldrift.cli.run import run_command

    with exit_codes():
        run_command(config, once)


@app.command(rich_help_panel=LOOK)
def compare(
    reference: Annotated[Path, typer.Argument(help="Parquet, CSV or NDJSON, also .gz and .zst.")],
    live: Annotated[Path, typer.Argument(help="Data to compare with it, in the same formats.")],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Use the features, bins and tolerances of this configuration.")
    ] = None,
    monitor: Annotated[str | None, typer.Option("--monitor", "-m", help="Which of its monitors to use.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a self-contained report with plots; - for stdout.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    fail_on: Annotated[
        FailOn | None, typer.Option(help="Exit with 3 if any feature drifts this much, or a column is gone.")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="Leave this column out, such as a label that live data lacks. Can be repeated."),
    ] = None,
) -> None:
    """Compare two files: how far the second has drifted from the first, feature by feature.

    Without a configuration, every column that both files have is compared; its values decide whether it holds numbers,
    categories or vectors. A column of the reference that is gone or of another type is critical.
    """
    from kldrift.cli.compare import compare_command

    with exit_codes():
        compare_command(reference, live, config, monitor, html, as_json, fail_on, ignore or [])


@app.command(rich_help_panel=LOOK)
def backtest(
    data: Annotated[list[Path], typer.Argument(help="History: Parquet, CSV or NDJSON, also .gz and .zst.")],
    config: ConfigOption,
    monitor: Annotated[str | None, typer.Option("--monitor", "-m", help="Which of its monitors to use.")] = None,
    target: Annotated[str, typer.Option(help="Acceptable rate of pages: 1/month, 0.5/week, 1/day.")] = "1/month",
    every: Annotated[
        str | None,
        typer.Option(
            help="Time between evaluations: 10m, or `tick` for engine.tick (default: a twelfth of the shortest window,"
            " the interval at which old counts leave it)."
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a self-contained report with plots; - for stdout.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the tables.")] = False,
    first: Annotated[str | None, typer.Option("--from", help="Skip rows before this time (ISO 8601).")] = None,
    before: Annotated[str | None, typer.Option("--to", help="Skip rows from this time on.")] = None,
    timestamp: Annotated[
        str | None, typer.Option(help="Field with the event time, FIELD or FIELD:UNIT (default: the monitor's).")
    ] = None,
) -> None:
    """Replay history: how often would it have paged, and which tolerance meets your target?

    kldrift backtest -c kldrift.yaml last-year.parquet --target 1/month --html backtest.html
    """
    from kldrift.cli.backtest import Asked, backtest_command

    with exit_codes():
        backtest_command(data, config, monitor, Asked(target, every, first, before, timestamp), html, as_json)


@reference_app.command("build")
def reference_build(
    data: Annotated[Path, typer.Argument(help="Parquet, CSV or NDJSON, also .gz and .zst.")],
    config: ConfigOption,
    monitor: Annotated[str, typer.Option("--monitor", "-m", help="The monitor whose features to count.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The reference file to write (JSON); - for stdout.")],
) -> None:
    """Count a reference from data and write it to a file you can review."""
    from kldrift.cli.reference import build_command

    with exit_codes():
        build_command(data, config, monitor, output)


@reference_app.command("show")
def reference_show(
    file: Annotated[Path, typer.Argument(help="A reference file.")],
    feature: Annotated[str | None, typer.Option("--feature", "-f", help="Show the cells of one feature.")] = None,
) -> None:
    """Show a reference file."""
    from kldrift.cli.reference import show_command

    with exit_codes():
        show_command(file, feature)


@app.command(rich_help_panel=HERE)
def bench(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The configuration to measure with.")] = None,
    seconds: Annotated[float, typer.Option(help="Roughly how long to measure each figure.")] = 1.0,
) -> None:
    """Measure what this machine sustains with a configuration, or with 50 numeric features."""
    from kldrift.cli.bench import bench_command

    with exit_codes():
        bench_command(config, seconds)


@app.command(rich_help_panel=CONNECT)
def rules(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Generate them for this configuration; without it, for any.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file, or a folder for kldrift.rules.yml; - for stdout (default)."),
    ] = None,
    tests: Annotated[
        bool, typer.Option("--tests", help="Also write unit tests for promtool (kldrift.rules.test.yml).")
    ] = False,
    job: Annotated[
        str | None, typer.Option(help="Scrape job for all rules (default: kldrift, in the rules that need one).")
    ] = None,
    runbook_url: Annotated[str | None, typer.Option(help="A page with a section for each alert.")] = None,
    warning: Annotated[str, typer.Option(help="Severity label of what can wait.")] = "warning",
    critical: Annotated[str, typer.Option(help="Severity label of what cannot.")] = "critical",
    stale_after: Annotated[str, typer.Option(help="Age at which a reference counts as stale.")] = "90d",
) -> None:
    """Write alerting rules for Prometheus, optionally with unit tests.

    kldrift rules -c kldrift.yaml -o /etc/prometheus/rules --tests
    """
    from kldrift.cli import rules as command
    from kldrift.provisioning.alerts import RUNBOOK, RuleOptions

    with exit_codes():
        options = RuleOptions(job, runbook_url or RUNBOOK, warning, critical, command.stale_after(stale_after))
        command.rules_command(config, output, tests, options)


@app.command(rich_help_panel=CONNECT)
def dashboard(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Leave out panels that this configuration cannot fill.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder, created if needed; - for stdout, with --board.")
    ] = None,
    board: Annotated[str | None, typer.Option(help="Write only this one: fleet, monitor, feature or daemon.")] = None,
    datasource: Annotated[
        str | None, typer.Option(help="Data source selected initially (default: Grafana's default).")
    ] = None,
) -> None:
    """Write Grafana dashboards: the fleet, a monitor, a feature and the daemon itself.

    kldrift dashboard -c kldrift.yaml -o /var/lib/grafana/dashboards
    """
    from kldrift.cli.dashboard import dashboard_command

    with exit_codes():
        dashboard_command(config, output, board, datasource)


@app.command(rich_help_panel=HERE)
def version() -> None:
    """Print the version of kldrift and of the packages that its results depend on."""
    import platform
    from importlib.metadata import version as version_of

    from kldrift import __version__

    print(f"kldrift {__version__}")  # noqa: T201
    print(f"python {platform.python_version()}")  # noqa: T201
    for package in ("numba", "numpy", "polars"):
        print(f"{package} {version_of(package)}")  # noqa: T201
