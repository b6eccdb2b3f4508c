"""Numba functions over plain arrays. Public ones validate cheaply; kernels trust their arguments.

Importing the package registers every kernel, so that `warm_up` knows all of them.
"""

from kldrift.kernels import bounds, divergence, fill, moments, scan

__all__ = ["bounds", "divergence", "fill", "moments", "scan"]
