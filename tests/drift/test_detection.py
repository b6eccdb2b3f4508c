import math

from kldrift.drift.detection import severity


def test_severities_are_reached_in_order() -> None:
    found = [severity(lower, 0.01, 0.1) for lower in (0.0, 0.01, 0.011, 0.1, 0.11, math.inf)]
    assert found == [None, None, "warning", "warning", "critical", "critical"]


def test_nothing_is_said_of_what_is_undecided() -> None:
    assert severity(math.nan, 0.01, 0.1) is None
