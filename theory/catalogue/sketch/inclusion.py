"""sketch/: how often an item is kept when a number of items is drawn one after another without replacement."""

import jax.numpy as jnp
from jaxtyping import Array, Bool

from sketchprune import laws
from sketchprune.types import Key
from theory.catalogue.sketch.cases import A_LAW, AXES, SAMPLED, SMALL, Linear
from theory.claim import Claim, Sides, Source
from theory.kinds import Expectation


def _law(instance: Linear) -> laws.FixedSize:
    return laws.FixedSize(instance.near_optimal, instance.budget)


def _draw(instance: Linear, key: Key) -> Bool[Array, " d"]:
    return _law(instance).sample(key)


def _inclusion(instance: Linear, mask: Bool[Array, " d"]) -> dict[str, Sides]:
    kept = mask.astype(instance.w.dtype)
    proportional = jnp.minimum(1, instance.budget * instance.near_optimal)
    return {"claim": Sides(kept, proportional)}


SUCCESSIVE_INCLUSION = Claim(
    id="sketch/successive-inclusion",
    title="Successive sampling without replacement keeps each item in proportion to its weight",
    statement=r"\mathbb{E}\,m_i=\min(1,\,s\,q_i)",
    sources=(Source("bar2023sketching", "known-false"),),
    kind=Expectation(),
    cases=(*SAMPLED, *SMALL),
    trial=_inclusion,
    draw=_draw,
    outcomes=lambda instance: _law(instance).outcomes(),
    hypotheses={
        "at most half of the items are drawn": lambda instance: (
            2 * instance.budget <= jnp.sum(instance.near_optimal > 0)
        ),
        **A_LAW,
    },
    free=("x", "w", "tilt", "beta"),
    axes=AXES,
    expected="REFUTED",
    note=(
        "False: once the heavy items are drawn, the others are drawn more often than in proportion to their weights. "
        "The deviations of the items of an instance have sum 0 where no probability is clipped, and an item is too "
        "frequent in one instance and too rare in another: on average they nearly cancel. So this claim also shows "
        "that the check looks at each instance, and not at an average alone."
    ),
)
