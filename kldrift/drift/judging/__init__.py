"""Judging: divergences, their bounds, verdicts and explanations."""
