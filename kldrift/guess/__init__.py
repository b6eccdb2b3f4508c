"""A starting configuration from data: what each column is, what its time is, and how long windows should be."""

from kldrift.datafiles.sample import column_names, read_sample
from kldrift.guess.document import Place, write_document
from kldrift.guess.plan import Plan, make_plan

__all__ = ["Place", "Plan", "column_names", "make_plan", "read_sample", "write_document"]
