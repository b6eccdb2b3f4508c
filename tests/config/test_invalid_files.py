"""Every rule of the configuration file has a file in testdata that breaks it, headed by its exact words."""

from pathlib import Path

import pytest

from kldrift.config.load import parse_config
from kldrift.errors import ConfigError

TESTDATA = Path(__file__).parent / "testdata"
INVALID = sorted(TESTDATA.glob("invalid-*.yml"))
EXPECT = "# expect: "


def test_there_are_invalid_files() -> None:
    assert len(INVALID) > 100


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_file_is_refused_with_all_its_problems_word_for_word(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    expected = [line.removeprefix(EXPECT) for line in text.split("\n") if line.startswith(EXPECT)]
    assert expected
    with pytest.raises(ConfigError) as refused:
        parse_config(text, Path(path.name), environment={})
    assert refused.value.problems == tuple(f"{path.name}:{line}" for line in expected)


def test_one_run_finds_every_mistake_of_a_file_in_the_order_of_its_lines() -> None:
    text = (TESTDATA / "invalid-everything.yml").read_text(encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        parse_config(text, Path("kldrift.yaml"), environment={})
    lines = [int(problem.split(":")[1]) for problem in refused.value.problems]
    assert len(lines) > 60
    assert lines == sorted(lines)
    assert str(refused.value) == "\n".join(refused.value.problems)


def test_the_words_of_the_contract() -> None:
    text = (TESTDATA / "invalid-bins-edges-repeated.yml").read_text(encoding="utf-8")
    shifted = "#\n" * 5 + text
    with pytest.raises(ConfigError) as refused:
        parse_config(shifted, Path("kldrift.yaml"))
    assert str(refused.value) == (
        "kldrift.yaml:14: monitors.loans.features.risk.bins.edges: "
        "expected strictly increasing numbers, got [0, 5, 5]; drop the repeated edge"
    )
