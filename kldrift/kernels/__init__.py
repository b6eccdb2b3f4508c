"""Numba functions over plain arrays. Public functions check their arguments cheaply; kernels trust theirs.

Importing the package registers every kernel, so that `warm_up` compiles all of them.
"""

from kldrift.kernels import bounds, divergence, fill, moments
from kldrift.kernels.parsing import csv_lines, csv_records, json_lines, json_rows

__all__ = ["bounds", "csv_lines", "csv_records", "divergence", "fill", "json_lines", "json_rows", "moments"]
