"""The ``kldrift`` command: one file a command. Exit codes: 0 done, 1 failure, 2 bad configuration or reference."""

from kldrift.cli.app import app


def main() -> None:
    """Entry point of the installed command."""
    app()
