"""Types and names shared by all records."""

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int32]

TimeUnit = Literal["iso8601", "s", "ms", "us", "ns"]
#: What a feature takes of a value in place of the value itself.
Aspect = Literal["hour", "weekday", "age", "length"]
Severity = Literal["warning", "critical"]
#: The worst first.
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "warning")
Covariance = Literal["diagonal", "full"]
Family = Literal[
    "normal", "lognormal", "exponential", "gamma", "beta", "uniform", "poisson", "bernoulli", "categorical"
]
Estimator = Literal["kldrift", "evidently", "boxkite", "mlrun", "driftwatch"]
Correction = Literal["bh", "by"]
