"""Bounds on the error of a multinomial sketch: on its expectation, and with high probability.

The error is ‖X(m∘w) − Xw‖². p* are the probabilities with the least expected error, which is (Z² − ‖Xw‖²)/s for s
draws and Z = Σ‖x_i‖|w_i|; p ≥ βp* says how near the optimum p is.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune import _checks
from sketchprune._arithmetic import product
from sketchprune._boundary import checked
from sketchprune.sketch.probabilities import magnitudes
from sketchprune.types import Matrix, Number, PerColumn

Failure = float | Float[Array | np.ndarray, "*t"]


@checked
def near_optimal_bound(x: Matrix, w: PerColumn, budget: Number, *, beta: Number = 1.0) -> Float[Array, ""]:
    """An upper bound on the expected error of a multinomial sketch with p ≥ βp*: (Z²/β − ‖Xw‖²)/s.

    Args:
        x: [n, d].
        w: [d].
        budget: s > 0.
        beta: β in (0, 1].

    Returns:
        A bound on a squared norm.

    Raises:
        ValueError: for a budget or β out of range.

    Cost: O(nd).
    Source: sketch/near-optimal.

    >>> float(near_optimal_bound(jnp.eye(2), jnp.ones(2), 2, beta=0.5))
    3.0
    """
    _checks.positive("budget", budget)
    _checks.interval("beta", beta, closed=True)
    largest = magnitudes(x, w).sum() ** 2 / beta
    return jnp.maximum(largest - jnp.sum(product(x, w) ** 2), 0) / budget  # negative by rounding alone


@checked
def frobenius_bound(x: Matrix, w: PerColumn, budget: Number, *, beta: Number = 1.0) -> Float[Array, ""]:
    """An upper bound on the expected error of a multinomial sketch with p ≥ βp*, by norms alone: ‖X‖_F²‖w‖²/(βs).

    Args:
        x: [n, d].
        w: [d].
        budget: s > 0.
        beta: β in (0, 1].

    Returns:
        A bound on a squared norm.

    Raises:
        ValueError: for a budget or β out of range.

    Cost: O(nd).
    Source: drineas2006matmul, sketch/frobenius.

    >>> float(frobenius_bound(jnp.eye(2), jnp.ones(2), 2))
    2.0
    """
    _checks.positive("budget", budget)
    _checks.interval("beta", beta, closed=True)
    return jnp.sum(x**2) * jnp.sum(w**2) / (beta * budget)


@checked
def dkm_tail(x: Matrix, w: PerColumn, budget: Number, delta: Failure, *, beta: Number = 1.0) -> Float[Array, "*t"]:
    """With probability 1 − δ, ‖X(m∘w) − Xw‖ ≤ η‖X‖_F‖w‖/√(βs), where η = 1 + √((8/β)log(1/δ)).

    For multinomial sketches with p ≥ βp*.

    Args:
        x: [n, d].
        w: [d].
        budget: s > 0.
        delta: δ in (0, 1), the failure rate; one or several.
        beta: β in (0, 1].

    Returns:
        A bound on a norm, not squared, for each δ.

    Raises:
        ValueError: for a budget, δ or β out of range.

    Cost: O(nd).
    Source: drineas2006matmul (Theorem 1), sketch/high-probability.

    >>> round(float(dkm_tail(jnp.eye(2), jnp.ones(2), 4, jnp.exp(-2.0))), 4)
    5.0
    """
    _checks.interval("delta", delta, closed=False)
    eta = 1 + jnp.sqrt(8 / jnp.asarray(beta) * jnp.log(1 / jnp.asarray(delta)))
    return eta * jnp.sqrt(frobenius_bound(x, w, budget, beta=beta))


@checked
def mcdiarmid_tail(x: Matrix, w: PerColumn, budget: Number, delta: Failure) -> Float[Array, "*t"]:
    """With probability 1 − δ, ‖X(m∘w) − Xw‖ ≤ √((Z² − ‖Xw‖²)/s) + Z√(2log(1/δ)/s).

    For multinomial sketches at p = p*.

    Args:
        x: [n, d].
        w: [d].
        budget: s > 0.
        delta: δ in (0, 1), the failure rate; one or several.

    Returns:
        A bound on a norm, not squared, for each δ.

    Raises:
        ValueError: for a budget or δ out of range.

    Cost: O(nd).
    Source: sketch/high-probability-sharp.

    >>> round(float(mcdiarmid_tail(jnp.array([[1.0, 1.0]]), jnp.ones(2), 4, jnp.exp(-2.0))), 4)
    2.0
    """
    _checks.interval("delta", delta, closed=False)
    mean = jnp.sqrt(near_optimal_bound(x, w, budget))
    return mean + magnitudes(x, w).sum() * jnp.sqrt(2 * jnp.log(1 / jnp.asarray(delta)) / budget)
