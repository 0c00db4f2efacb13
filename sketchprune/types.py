"""Aliases for what the library's functions take and return."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Real

Key = PRNGKeyArray
Number = int | float | Real[Array, ""]
Params = PyTree[Array]
"""A network's parameters. A bare vector is a pytree: theorems on linear models share every function."""
Mask = PyTree[Array]
"""Arrays shaped like the parameters: boolean where it selects, floating where it is a sketch."""
Scores = PyTree[Array]
"""Arrays shaped like the parameters; higher is kept, +inf where never pruned, -inf where already pruned."""
Inputs = Array
Targets = Array
Batch = tuple[Inputs, Targets]
ApplyFn = Callable[[Any, Inputs], Float[Array, "n k"]]
"""``apply(params, x) -> [n, k]``; samples are independent of one another."""
LossFn = Callable[[Float[Array, "n k"], Targets], Float[Array, ""]]
"""``loss(outputs, targets)``: one number, the mean over the samples unless its docstring says otherwise."""
