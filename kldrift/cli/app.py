"""The commands and their arguments; each imports what it needs when it is called, so that `--help` is quick."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    help="Watches feature streams for drift: Kullback-Leibler divergence from a reference, for Prometheus.",
)
reference_app = typer.Typer(no_args_is_help=True, help="Make and show reference files.")
app.add_typer(reference_app, name="reference")

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


@app.command()
def run(
    config: ConfigOption,
    once: Annotated[
        bool, typer.Option("--once", help="Read the sources to their end, print the divergences, exit.")
    ] = False,
) -> None:
    """Run the daemon (or, with --once, one pass over the sources)."""
    from kldrift.cli.run import run_command

    with exit_codes():
        run_command(config, once)


@app.command()
def check(config: ConfigOption) -> None:
    """Validate a configuration and its references without starting; print what would be watched."""
    from kldrift.cli.check import check_command

    with exit_codes():
        check_command(config)


@app.command()
def schema() -> None:
    """Print the JSON schema of the configuration, for editors."""
    import json

    from kldrift.config import json_schema

    print(json.dumps(json_schema(), indent=2))  # noqa: T201


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="Where to listen, on 127.0.0.1; 0 takes a free port.")] = 9867,
    drift_after: Annotated[str, typer.Option(help="When the stream begins to drift.")] = "30s",
    duration: Annotated[str | None, typer.Option(help="Stop after this time (default: at Ctrl-C).")] = None,
) -> None:
    """Run a daemon on a stream that drifts after a while."""
    from kldrift.cli.demo import demo_command

    with exit_codes():
        demo_command(port, drift_after, duration)


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


@app.command()
def bench(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Measure with this configuration.")] = None,
    seconds: Annotated[float, typer.Option(help="About how long each figure is measured.")] = 1.0,
) -> None:
    """Measure what this machine sustains, with a configuration or with 50 numeric features."""
    from kldrift.cli.bench import bench_command

    with exit_codes():
        bench_command(config, seconds)


@app.command()
def version() -> None:
    """Print the versions of kldrift and of what its figures depend on."""
    import platform
    from importlib.metadata import version as version_of

    from kldrift import __version__

    print(f"kldrift {__version__}")  # noqa: T201
    print(f"python {platform.python_version()}")  # noqa: T201
    for package in ("numba", "numpy", "polars"):
        print(f"{package} {version_of(package)}")  # noqa: T201
