"""Items: the vectors B_i that a mask weighs, known through what the error of a law needs of them."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Float, PyTree


class Items(NamedTuple):
    """The vectors B_i of a sum ΣB_i that a random mask m turns into Σm_i B_i.

    For a linear model B_i = w_i x_i (:func:`sketchprune.sketch.linear_items`); for a tangent kernel B_i = J_iJ_iᵀ
    (:func:`sketchprune.sketch.tangent_items`). Only norms of B_i and of their combinations are needed, so that the
    vectors themselves are never formed.

    Attributes:
        squares: ‖B_i‖², a pytree shaped like a mask.
        combination: coefficients c, a pytree shaped like a mask, -> ‖Σc_i B_i‖².
        gram: () -> the [d, d] inner products ⟨B_i, B_j⟩, the leaves of a mask joined in order. Called only by the laws
            whose error needs it.
    """

    squares: PyTree[Float[Array, "..."]]
    combination: Callable[[PyTree[Float[Array, "..."]]], Float[Array, ""]]
    gram: Callable[[], Float[Array, "d d"]]
