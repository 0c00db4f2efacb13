"""Aliases for what the library's functions take and return.

Arguments are annotated widely, so that NumPy arrays and Python numbers pass where JAX arrays do.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Real

from sketchprune._names import own_names

__dir__ = own_names(__name__)

Key = PRNGKeyArray
"""A typed JAX key, as ``jax.random.key`` makes it."""
Number = int | float | np.number | Real[Array | np.ndarray, ""]
"""One real number, which may be traced."""
Count = int | np.integer | Int[Array | np.ndarray, ""]
"""One whole number, which may be traced."""
Matrix = Float[Array | np.ndarray, "n d"]
"""Samples in rows, features in columns."""
PerColumn = Float[Array | np.ndarray, "d"]
"""One number for each feature of a `Matrix`."""
PerRow = Float[Array | np.ndarray, "n"]
"""One number for each sample of a `Matrix`."""
Params = PyTree[ArrayLike]
"""A network's parameters. A bare vector is a pytree, so theorems on linear models share every function."""
Mask = PyTree[ArrayLike]
"""Arrays shaped like the parameters: boolean when the mask selects, floating when it is a sketch."""
Scores = PyTree[ArrayLike]
"""Arrays shaped like the parameters. Higher is kept, +inf is never pruned, and -inf is already pruned."""
Inputs = Array | np.ndarray
"""Samples, on the first axis."""
Targets = Array | np.ndarray
"""What the samples' outputs are compared with: labels, or numbers shaped like the outputs."""
Batch = tuple[Inputs, Targets]
"""Samples and their targets."""
Prunable = Callable[[str], bool] | PyTree[bool] | None
"""Which leaves may be pruned: see `sketchprune.masks.prunable`."""
Groups = Literal["rows", "columns", "channels"] | tuple[int | None, ...]
"""What a group of weights is: see `sketchprune.masks.group_scores`."""
ApplyFn = Callable[[Any, Any], Float[Array, "n k"]]
"""``apply(params, x) -> [n, k]``; samples are independent of one another."""
StatefulApplyFn = Callable[..., tuple[Float[Array, "n k"], Any]]
"""``apply(params, x, state=…, key=…) -> (outputs [n, k], state)``: a network as it is trained, with what it carries."""
LossFn = Callable[[Any, Any], Float[Array, ""]]
"""``loss(outputs, targets)``: one number, the mean over the samples unless its docstring says otherwise."""
ScoreFn = Callable[..., Scores]
"""``score(apply, loss, params, batch, *, mask=None, key=None) -> Scores``; see :mod:`sketchprune.scores`."""
