"""A bound of one's own: `sketchprune verify my_bounds.py`."""

import jax.numpy as jnp
from flax import struct

from sketchprune import laws, sketch
from theory import Case, Claim, Expectation, Sides, Source

BUDGET = 16


class Model(struct.PyTreeNode):
    x: jnp.ndarray  # [samples, features]
    w: jnp.ndarray  # [features]


def gaussian(rng, dataset):
    return Model(x=rng.standard_normal((50, 64)), w=rng.standard_normal(64))


def images(rng, dataset):
    return Model(x=rng.choice(dataset.x, 50), w=rng.standard_normal(dataset.x.shape[1]))


def draw(model, key):
    return laws.Multinomial(sketch.optimal_probabilities(model.x, model.w), BUDGET).sample(key)


def trial(model, mask):
    error = jnp.linalg.norm(model.x @ (mask * model.w) - model.x @ model.w)
    bound = jnp.sum(sketch.magnitudes(model.x, model.w)) / BUDGET**0.5
    return {"claim": Sides(error, bound), "half": Sides(error, bound / 2)}


MEAN_ERROR = Claim(
    id="my/mean-error",
    title="On average a mask of s draws misses the dense predictions by at most Z/√s",
    statement=r"\mathbb{E}\,\|X(m\circ w)-Xw\|\le\frac{1}{\sqrt{s}}\sum_i\|x_i\||w_i|",
    sources=(Source("bar2023sketching"),),
    kind=Expectation("at most"),
    cases=(Case("gaussian", gaussian), Case("{data}", images)),
    trial=trial,
    draw=draw,
    mutants=("half",),
)
