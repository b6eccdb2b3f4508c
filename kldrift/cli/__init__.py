"""The ``kldrift`` command, one file per subcommand. Exit codes: 0 done, 1 failure, 2 bad configuration or reference."""

from kldrift.cli.app import app


def main() -> None:
    """Run the installed command."""
    app()
