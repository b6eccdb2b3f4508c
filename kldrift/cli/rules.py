"""``kldrift rules``."""

from pathlib import Path

from rich.console import Console

from kldrift.cli.output import STDOUT, write_whole
from kldrift.config.load import load_config
from kldrift.config.records import Config
from kldrift.config.values import milliseconds
from kldrift.errors import ConfigError
from kldrift.provisioning.alerts import (
    RuleOptions,
    Watched,
    left_out,
    rule_groups,
    rules_text,
    unit_tests_text,
)

NAME = "kldrift.rules.yml"

GENERIC = "Alerts of kldrift; kldrift.rules.test.yml shows each one firing and each one silent."


def rules_command(config: Path | None, output: Path | None, tests: bool, options: RuleOptions) -> None:
    """Write the rules to stdout or a file, the tests to a file beside it."""
    if tests and output in (None, STDOUT):
        raise ConfigError(
            ["rules: expected a file as --output with --tests, got none; the tests name the rules file beside them"]
        )
    watched = None if config is None else watched_of(load_config(config))
    groups = rule_groups(watched, options)
    if watched is None or config is None:
        text = rules_text(groups, options, GENERIC)
    else:
        omitted = left_out(watched)
        notes = [*(["Left out, as nothing could raise them:"] if omitted else []), *omitted]
        text = rules_text(
            groups, options, f"Alerts of kldrift, made by `kldrift rules` for {_shown(config.name)}.", notes
        )
    if output is None or output == STDOUT:
        write_whole(STDOUT, text, "rules")
        return
    rules_path = output / NAME if output.is_dir() else output
    written = [(rules_path, text)]
    if tests:
        written.append((_tests_path(rules_path), unit_tests_text(groups, options, rules_path.name)))
    err = Console(stderr=True)
    for path, content in written:
        write_whole(path, content, "rules")
        err.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


def stale_after(text: str) -> int:
    """The age of a reference in milliseconds.

    Raises
    ------
    ConfigError
        not a duration, or no time at all
    """
    found = milliseconds(text)
    if not found:
        raise ConfigError([f"rules: --stale-after: expected a duration such as 90d, got {_shown(text)}; write one"])
    return found


def watched_of(config: Config) -> Watched:
    """What of a configuration decides about its alerts."""
    return Watched(
        config.monitors,
        config.sources,
        config.engine.tick_ms,
        config.state.path is not None,
        config.server.tls is not None,
    )


def _tests_path(rules_path: Path) -> Path:
    """``kldrift.rules.yml`` is tested by ``kldrift.rules.test.yml``."""
    return rules_path.with_name(f"{rules_path.stem}.test{rules_path.suffix or '.yml'}")


def _shown(text: str) -> str:
    """A text in a comment or a message: one line of it, whatever it is."""
    return "".join(char if char.isprintable() else "?" for char in text)
