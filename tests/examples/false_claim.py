"""A false claim, on the catalogue's cases: the expected error of a mask with s − 1 where s belongs."""

import jax.numpy as jnp

from sketchprune import laws
from theory import Claim, Expectation, Sides, Source
from theory.catalogue.sketch.cases import COMMON


def draw(instance, key):
    return instance.multinomial.sample(key)


def trial(instance, mask):
    x, w = instance.x, instance.w
    error = jnp.sum((x @ (mask * w) - x @ w) ** 2)
    return {"claim": Sides(error, laws.Multinomial(instance.near_optimal, instance.budget - 1).error(instance.items))}


SECOND_MOMENT = Claim(
    id="my/second-moment",
    title="The expected error of a multinomial mask, wrongly",
    statement=r"\mathbb{E}\,\|X(m\circ w)-Xw\|^2=\frac{1}{s-1}\Big(\sum_i\frac{a_i^2}{p_i}-\|Xw\|^2\Big)",
    sources=(Source("drineas2006matmul"),),
    kind=Expectation(),
    cases=COMMON,
    trial=trial,
    draw=draw,
)
