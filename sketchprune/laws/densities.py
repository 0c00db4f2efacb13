"""Layer densities: the fraction of each layer that a random mask keeps."""

from collections.abc import Sequence
from math import prod
from typing import Literal

import numpy as np

from sketchprune._boundary import checked

Rule = Literal["uniform", "erk", "balanced", "pyramidal"]


@checked
def layer_densities(
    rule: Rule,
    shapes: Sequence[Sequence[int]],
    density: int | float,
    *,
    redistribute: bool = True,
) -> np.ndarray:
    """The density p_l of each layer, first layer first, such that Σp_l N_l = ρN.

    N_l is the size of layer l, N = ΣN_l and ρ the density. By rule:

    - uniform: p_l = ρ;
    - erk: p_l ∝ (Σ dims)/(Π dims), at most 1;
    - balanced: p_l = min(1, c/N_l), the same number of weights in every layer that is not full;
    - pyramidal: p_l = x^l, never more than 1.

    Layers that would exceed 1 stay at 1 and the others take what is left over. With ``redistribute=False`` they are
    clipped instead, as is often done; that keeps less than ρN (see :func:`realised_density`).

    Args:
        rule: the name of the rule.
        shapes: the shape of each layer's weights.
        density: ρ, in (0, 1].
        redistribute: whether what a full layer cannot take goes to the others.

    Returns:
        One float64 for each layer, on the host.

    Raises:
        ValueError: for another rule, a density outside (0, 1], and no layers or empty ones.

    Cost: O(L²) for L layers.
    Source: evci2020rigl, gadhikar2023random.

    >>> layer_densities("balanced", [(1, 2), (2, 4)], 0.5).tolist()
    [1.0, 0.375]
    """
    sizes = _sizes(shapes)
    if not 0 < density <= 1:
        raise ValueError(f"density is {density}; it takes a number in (0, 1]")
    if rule == "uniform":
        return np.full(len(sizes), float(density))
    if rule == "erk":
        return _proportional(np.array([sum(shape) for shape in shapes]) / sizes, sizes, density, redistribute)
    if rule == "balanced":
        return _proportional(1 / sizes, sizes, density, redistribute)
    if rule == "pyramidal":
        return _pyramidal(sizes, density)
    raise ValueError(f"rule is {rule!r}; it takes 'uniform', 'erk', 'balanced' or 'pyramidal'")


@checked
def realised_density(densities: Sequence[float] | np.ndarray, shapes: Sequence[Sequence[int]]) -> float:
    """The fraction of all weights that layers keep at these densities, Σp_l N_l/N.

    It is the density that was asked for, unless layers were clipped (``redistribute=False``).

    Args:
        densities: p_l, one in [0, 1] for each layer, such as those of :func:`layer_densities`.
        shapes: the shape of each layer's weights.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: for another number of densities than shapes, densities outside [0, 1], and no layers or empty ones.

    Cost: O(L) for L layers.
    Source: gadhikar2023random.

    >>> realised_density(layer_densities("balanced", [(1, 2), (2, 4)], 0.5, redistribute=False), [(1, 2), (2, 4)])
    0.45
    """
    sizes, densities = _sizes(shapes), np.asarray(densities, np.float64)
    if densities.shape != sizes.shape:
        raise ValueError(f"densities has shape {densities.shape}; it takes {sizes.shape}, one for each layer")
    if not ((densities >= 0) & (densities <= 1)).all():
        raise ValueError(f"densities is {densities.tolist()}; it takes numbers in [0, 1]")
    return float(densities @ sizes / sizes.sum())


def _sizes(shapes: Sequence[Sequence[int]]) -> np.ndarray:
    """How many weights each layer has."""
    sizes = np.array([prod(shape) for shape in shapes], np.float64)
    if not len(sizes) or not (sizes > 0).all():
        raise ValueError(f"shapes is {list(shapes)}; it takes one shape for each layer, each with at least one weight")
    return sizes


def _proportional(ratios: np.ndarray, sizes: np.ndarray, density: int | float, redistribute: bool) -> np.ndarray:
    """min(1, c·ratio), with c solving for the density, or ignoring the clipping."""
    saturated = np.zeros(len(sizes), bool)
    while not saturated.all():
        rest = density * sizes.sum() - sizes[saturated].sum()
        densities = np.where(saturated, 1.0, rest * ratios / (ratios * sizes)[~saturated].sum())
        if not redistribute or (densities <= 1).all():
            break
        saturated = densities >= 1
    else:
        densities = np.ones(len(sizes))
    return np.minimum(densities, 1.0)


def _pyramidal(sizes: np.ndarray, density: float) -> np.ndarray:
    depths = np.arange(1, len(sizes) + 1)
    low, high = 0.0, 1.0
    # Σ N_l x^l increases with x: halve the interval until no number lies between its ends.
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if (sizes * middle**depths).sum() < density * sizes.sum() else (low, middle)
    return high**depths
