"""kldrift: drift of live feature streams from a reference, by Kullback-Leibler divergence, for Prometheus."""

from importlib.metadata import version

__version__ = version("kldrift")
