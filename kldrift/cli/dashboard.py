"""``kldrift dashboard``."""

from pathlib import Path

from rich.console import Console

from kldrift.cli.output import STDOUT, write_whole
from kldrift.cli.rules import watched_of
from kldrift.config.load import load_config
from kldrift.errors import ConfigError
from kldrift.provisioning.dashboards import dashboards


def dashboard_command(config: Path | None, output: Path | None, board: str | None, datasource: str | None) -> None:
    """Write the dashboards into a folder, or one of them to stdout."""
    made = dashboards(None if config is None else watched_of(load_config(config)), datasource)
    names = {name.removesuffix(".json").removeprefix("kldrift-"): name for name in made}
    if board is not None and board not in names:
        raise ConfigError([f"dashboard: --board: expected one of {', '.join(names)}, got {board!r}; take one of these"])
    if output is None or output == STDOUT:
        if board is None:
            boards = ", ".join(names)
            raise ConfigError(
                [f"dashboard: expected a folder as --output, got none; give one, or a single --board of {boards}"]
            )
        write_whole(STDOUT, made[names[board]], "dashboard")
        return
    output.mkdir(parents=True, exist_ok=True)
    err = Console(stderr=True)
    for name in made if board is None else [names[board]]:
        write_whole(output / name, made[name], "dashboard")
        err.print(f"wrote {output / name}", markup=False, highlight=False, soft_wrap=True)
