"""The law of a setting, and what is known of any law."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from sketchprune import laws
from sketchprune.search.problems.setting import DELTA, Setting


def law_of_sizes(setting: Setting, sizes: PyTree) -> tuple[Any, int]:
    """The law in proportion to sizes, and how many weights it keeps or draws."""
    weights = sum(leaf.size for leaf in jax.tree.leaves(sizes))
    positive = sum(int(jnp.sum(leaf > 0)) for leaf in jax.tree.leaves(sizes))
    keep = round(setting.density * weights)
    if not keep:
        raise ValueError(
            f"density is {setting.density:g}, which keeps none of {weights} weights; it takes a larger one"
        )
    if not positive:
        raise ValueError(
            f"data is {setting.data}, which gives every weight the size 0, as features do that are constant or 0; "
            "it takes data with features that vary"
        )
    law = laws.LAWS[setting.law]
    if law is not laws.Multinomial:  # which may draw one weight again and again
        keep = min(keep, positive)
    return law.proportional(sizes, keep, binary=setting.binary), keep


def realised_density(law: Any) -> float:
    """The fraction of weights that its masks keep on average; multinomial masks keep fewer than are drawn."""
    if isinstance(law, laws.FixedSize):  # whose inclusion probabilities are known for few weights only
        return int(law.size) / sum(leaf.size for leaf in jax.tree.leaves(law.weights))
    rates = jax.tree.leaves(law.inclusion())
    return sum(float(jnp.sum(rate)) for rate in rates) / sum(rate.size for rate in rates)


def max_kept(law: Any) -> int | None:
    """The most weights that a mask of the law keeps; None where it may keep all."""
    match law:
        case laws.Multinomial(budget=count) | laws.FixedSize(size=count):
            return count
    return None


def expectation(law: Any, items: laws.Items) -> dict[str, Array]:
    """The expected error of a law, where it can be had for this many items."""
    try:
        return {"expectation": law.error(items)}
    except ValueError:
        return {}


def with_markov(found: dict[str, Array]) -> dict[str, float]:
    """The values as numbers; if there is only an expectation, with Markov's bound."""
    numbers = {name: float(value) for name, value in found.items()}
    if len(numbers) == 1:
        (mean,) = numbers.values()
        numbers["Markov"] = mean / DELTA
    return numbers
