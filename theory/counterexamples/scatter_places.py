"""Where the updates of a traced scatter go."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import lax


def places_of_updates(
    params: Mapping[str, Any], shape: tuple[int, ...], indices: Any, updates: tuple[int, ...]
) -> np.ndarray:
    """The place in the raveled operand, counted from 1, that each update goes to; 0 where it is dropped.

    Args:
        params: the parameters of the scatter's equation.
        shape: of the operand.
        indices: the scatter's second operand.
        updates: shape of its third.

    Adding updates into zeros is linear. Its transpose reads at the place that an update goes to: here, the places.
    """

    def add(values: Any) -> Any:
        return lax.scatter_add(
            np.zeros(shape),
            indices,
            values,
            params["dimension_numbers"],
            mode=params["mode"],
            indices_are_sorted=False,
            unique_indices=False,
        )

    read = jax.linear_transpose(add, jax.ShapeDtypeStruct(updates, np.float64))
    (found,) = read(1.0 + np.arange(np.prod(shape, dtype=int)).reshape(shape))
    return np.asarray(found).astype(int)
