"""The kinds of features, one file each; `records.kinds` has what code outside `drift` asks of a kind."""

from collections.abc import Mapping

from kldrift.drift.kinds.base import Shape
from kldrift.drift.kinds.categorical import Categorical
from kldrift.drift.kinds.numeric import Numeric
from kldrift.drift.kinds.posterior import Posterior
from kldrift.drift.kinds.vector import Vector
from kldrift.records.kinds import Kind

SHAPES: Mapping[Kind, type[Shape]] = {shape.kind: shape for shape in (Numeric, Categorical, Vector, Posterior)}
