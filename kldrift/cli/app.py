"""The commands and their arguments; each imports what it needs when it is called, so that `--help` is quick."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

#: Panels of `kldrift --help`, in the order in which they are met.
START, RUN, LOOK, CONNECT = "To start with", "The daemon", "Data at rest", "Prometheus and Grafana"
HERE = "This installation"

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    help="Watches feature streams for drift: Kullback-Leibler divergence from a reference, for Prometheus.",
    epilog="First steps:  kldrift demo  shows a drift in half a minute.  With data of your own:  kldrift init"
    " reference.parquet,  kldrift check -c kldrift.yaml,  kldrift run -c kldrift.yaml;  then send rows, or give it a"
    " source, and open http://127.0.0.1:9867.",
)
reference_app = typer.Typer(no_args_is_help=True, help="Make and show reference files.")
app.add_typer(reference_app, name="reference", rich_help_panel=LOOK)

FailOn = Literal["warning", "critical"]
ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file (YAML).")]


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn errors into their words on stderr and an exit code: 2 for configuration and references, else 1."""
    from kldrift.errors import ConfigError, KldriftError, ReferenceProblem

    try:
        yield
    except (ConfigError, ReferenceProblem) as error:
        print(error, file=sys.stderr)  # noqa: T201
        raise typer.Exit(2) from None
    except KldriftError as error:
        print(error, file=sys.stderr)  # noqa: T201
        raise typer.Exit(1) from None
    except OSError as error:  # stdout is full or gone, a file vanished: nothing that a traceback would help with
        print(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command(rich_help_panel=START)
def demo(
    port: Annotated[int, typer.Option(help="Where to listen, on 127.0.0.1; 0 takes a free port.")] = 9867,
    drift_after: Annotated[str, typer.Option(help="When the stream begins to drift.")] = "30s",
    duration: Annotated[str | None, typer.Option(help="Stop after this time (default: at Ctrl-C).")] = None,
) -> None:
    """Run a daemon on a stream that drifts after a while."""
    from kldrift.cli.demo import demo_command

    with exit_codes():
        demo_command(port, drift_after, duration)


@app.command(rich_help_panel=START)
def init(
    data: Annotated[Path, typer.Argument(help="Rows that were normal: Parquet, CSV or NDJSON (.gz and .zst as well).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The configuration to write.")] = Path("kldrift.yaml"),
    monitor: Annotated[str | None, typer.Option(help="The monitor's name (default: from that of the file).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    live: Annotated[
        str | None, typer.Option(help="Live files to follow, such as 'logs/*.ndjson' (default: rows are pushed).")
    ] = None,
) -> None:
    """Write a starting configuration from data, each guess explained beside it."""
    from kldrift.cli.init import init_command

    with exit_codes():
        init_command(data, output, monitor, force, live)


@app.command(rich_help_panel=START)
def check(config: ConfigOption) -> None:
    """Validate a configuration and its references without starting; print what would be watched.

    All problems are told at once, each with its line. Exit codes: 0 valid, 2 not.
    """
    from kldrift.cli.check import check_command

    with exit_codes():
        check_command(config)


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
        bool, typer.Option("--once", help="Read the sources to their end, print the divergences, exit.")
    ] = False,
) -> None:
    """Run the daemon (or, with --once, one pass over the sources).

    It takes samples by HTTP and from the sources of the configuration, and answers with pages, an API and /metrics
    where `server.listen` says, http://127.0.0.1:9867 by default. SIGHUP loads the configuration again, SIGTERM stops
    in order.

    Exit codes: 0 stopped, 2 bad configuration or reference, 1 failure.
    """
    from kldrift.daemon.allocator import give_back_early

    give_back_early()  # before polars comes in

    from kldrift.cli.run import run_command

    with exit_codes():
        run_command(config, once)


@app.command(rich_help_panel=LOOK)
def compare(
    reference: Annotated[Path, typer.Argument(help="Parquet, CSV or NDJSON (.gz and .zst as well).")],
    live: Annotated[Path, typer.Argument(help="What is compared with it.")],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Take features, bins and tolerances from this configuration.")
    ] = None,
    monitor: Annotated[str | None, typer.Option("--monitor", "-m", help="Which of its monitors.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report with plots, one file that needs no other.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False,
    fail_on: Annotated[FailOn | None, typer.Option(help="Exit with 3 where any feature drifts so much.")] = None,
) -> None:
    """Compare two files: by how much the second drifts from the first, feature by feature.

    Without a configuration every column that both files have is compared, of the kind that its values suggest:
    numbers, categories, or vectors.
    """
    from kldrift.cli.compare import compare_command

    with exit_codes():
        compare_command(reference, live, config, monitor, html, as_json, fail_on)


@app.command(rich_help_panel=LOOK)
def backtest(
    data: Annotated[list[Path], typer.Argument(help="History: Parquet, CSV or NDJSON (.gz and .zst as well).")],
    config: ConfigOption,
    monitor: Annotated[str | None, typer.Option("--monitor", "-m", help="Which of its monitors.")] = None,
    target: Annotated[str, typer.Option(help="Pages that are bearable: 1/month, 0.5/week, 1/day.")] = "1/month",
    every: Annotated[
        str | None,
        typer.Option(
            help="Evaluate so often: 10m, or `tick` for engine.tick (default: a twelfth of the smallest window; until"
            " one is over, the counts of that window only grow)."
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report with plots, one file that needs no other.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the tables.")] = False,
    first: Annotated[str | None, typer.Option("--from", help="Leave out rows before this time (ISO 8601).")] = None,
    before: Annotated[str | None, typer.Option("--to", help="Leave out rows from this time on.")] = None,
    timestamp: Annotated[
        str | None, typer.Option(help="The field of the event times, FIELD or FIELD:UNIT (default: the monitor's).")
    ] = None,
) -> None:
    """Replay history: how often would it have paged, and which tolerance would page as seldom as you like?

    kldrift backtest -c kldrift.yaml last-year.parquet --target 1/month --html backtest.html
    """
    from kldrift.cli.backtest import Asked, backtest_command

    with exit_codes():
        backtest_command(data, config, monitor, Asked(target, every, first, before, timestamp), html, as_json)


@reference_app.command("build")
def reference_build(
    data: Annotated[Path, typer.Argument(help="Parquet, CSV or NDJSON (.gz and .zst as well).")],
    config: ConfigOption,
    monitor: Annotated[str, typer.Option("--monitor", "-m", help="The monitor whose features are counted.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The reference file to write (JSON).")],
) -> None:
    """Count a reference from data and write it to a file that can be reviewed."""
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
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Measure with this configuration.")] = None,
    seconds: Annotated[float, typer.Option(help="About how long each figure is measured.")] = 1.0,
) -> None:
    """Measure what this machine sustains, with a configuration or with 50 numeric features."""
    from kldrift.cli.bench import bench_command

    with exit_codes():
        bench_command(config, seconds)


@app.command(rich_help_panel=CONNECT)
def rules(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Make them for this configuration; without it, for any.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file, or a folder for kldrift.rules.yml (default: stdout).")
    ] = None,
    tests: Annotated[
        bool, typer.Option("--tests", help="Write unit tests for promtool beside them (kldrift.rules.test.yml).")
    ] = False,
    job: Annotated[
        str | None, typer.Option(help="The scrape job, for all rules (default: kldrift, where one needs it).")
    ] = None,
    runbook_url: Annotated[str | None, typer.Option(help="A page with a section for each alert.")] = None,
    warning: Annotated[str, typer.Option(help="The label severity of what can wait.")] = "warning",
    critical: Annotated[str, typer.Option(help="The label severity of what cannot.")] = "critical",
    stale_after: Annotated[str, typer.Option(help="The age from which a reference is worth a question.")] = "90d",
) -> None:
    """Write alerting rules for Prometheus, and unit tests for them.

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
        Path | None, typer.Option("--config", "-c", help="Leave out what this configuration cannot fill.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder; it is made if it is not there.")
    ] = None,
    board: Annotated[str | None, typer.Option(help="Only one: fleet, monitor, feature or daemon.")] = None,
    datasource: Annotated[
        str | None, typer.Option(help="The Prometheus of Grafana that is chosen at first (default: Grafana's default).")
    ] = None,
) -> None:
    """Write dashboards for Grafana: the fleet, a monitor, a feature, the daemon itself.

    kldrift dashboard -c kldrift.yaml -o /var/lib/grafana/dashboards
    """
    from kldrift.cli.dashboard import dashboard_command

    with exit_codes():
        dashboard_command(config, output, board, datasource)


@app.command(rich_help_panel=HERE)
def version() -> None:
    """Print the versions of kldrift and of what its figures depend on."""
    import platform
    from importlib.metadata import version as version_of

    from kldrift import __version__

    print(f"kldrift {__version__}")  # noqa: T201
    print(f"python {platform.python_version()}")  # noqa: T201
    for package in ("numba", "numpy", "polars"):
        print(f"{package} {version_of(package)}")  # noqa: T201
