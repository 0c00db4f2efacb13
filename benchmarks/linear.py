"""Errors of random masks of a linear model, beside NumPy and the machine's rate of matrix products."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from threadpoolctl import threadpool_limits

from benchmarks._record import OURS, Row
from benchmarks._roofs import products
from benchmarks._timing import in_turns, prepared
from sketchprune import laws, sketch
from sketchprune.types import Key

SAMPLES, FEATURES, BUDGET = 512, 1024, 102
TILE, TILES = 256, 32
LOOPED = 64
"""Masks of a NumPy loop a round; where it waits for busy cores it takes milliseconds a mask."""
AT_ONCE = 1024
"""Masks of a round in NumPy that go through one product."""
OPERATIONS = 2 * FEATURES * SAMPLES
"""Floating-point operations of one mask in the product of masks and data; nothing else is counted."""
WHAT = f"‖X(m∘w)−Xw‖² of a mask, d={FEATURES}, n={SAMPLES}, s={BUDGET}"


def errors(
    key: Key, x: Float[Array, "n d"], w: Float[Array, " d"], probabilities: Float[Array, " d"]
) -> Float[Array, " masks"]:
    """‖X(m∘w) − Xw‖² of TILES tiles of multinomial masks."""

    def error(index: Array) -> Array:
        return jnp.sum((x @ ((_mask(key, index, probabilities) - 1) * w)) ** 2)

    return lax.map(error, jnp.arange(TILE * TILES), batch_size=TILE)


def _mask(key: Key, index: Array, probabilities: Float[Array, " d"]) -> Float[Array, " d"]:
    """The multinomial mask of a number."""
    return laws.Multinomial(probabilities, BUDGET).sample(jax.random.fold_in(key, index))


def loop(
    x: np.ndarray, w: np.ndarray, probabilities: np.ndarray, *, threads: int | None, batch: int = 1, count: int = LOOPED
) -> float:
    """The mean error of masks that NumPy draws.

    Args:
        x: data, [n, d].
        w: weights, [d].
        probabilities: those of the multinomial law, [d].
        threads: how many threads a product uses; None for as many as there are cores.
        batch: masks that go through one product.
        count: how many masks; a multiple of batch.
    """
    rng = np.random.default_rng(0)
    law = probabilities.astype(np.float64) / probabilities.sum(dtype=np.float64)
    weights, last = w / (BUDGET * probabilities), np.cumsum(law)
    first = FEATURES * np.arange(batch)[:, None]
    with threadpool_limits(threads, user_api="blas"):
        dense = x @ w
        total = 0.0
        for _ in range(count // batch):
            if batch == 1:
                counts = rng.multinomial(BUDGET, law)[None]
            else:  # many masks are drawn faster by inverting the distribution function
                draws = np.minimum(np.searchsorted(last, rng.random((batch, BUDGET))), FEATURES - 1)
                counts = np.bincount((first + draws).ravel(), minlength=batch * FEATURES).reshape(batch, FEATURES)
            total += np.sum(((counts.astype(np.float32) * weights) @ x.T - dense) ** 2)
        return total / count


def rows() -> Iterator[Row]:
    """Our program, and NumPy's loop in three ways."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, FEATURES), np.float32)
    w = rng.standard_normal(FEATURES, np.float32)
    p = sketch.optimal_probabilities(jnp.asarray(x), jnp.asarray(w))
    theory = float(laws.Multinomial(p, BUDGET).error(sketch.linear_items(x, w)))
    arguments = jax.random.key(0), jnp.asarray(x), jnp.asarray(w), p
    ours, numpy = prepared(errors, *arguments), functools.partial(loop, x, w, np.asarray(p))
    runs: dict[str, tuple[int, Callable[[], Any]]] = {
        OURS: (TILE * TILES, ours.run),
        "NumPy loop, all cores": (LOOPED, functools.partial(numpy, threads=None)),
        "NumPy loop, one core": (LOOPED, functools.partial(numpy, threads=1)),
        f"NumPy, {AT_ONCE:,} masks at once": (
            AT_ONCE,
            functools.partial(numpy, threads=None, batch=AT_ONCE, count=AT_ONCE),
        ),
    }
    roof = products()
    timings = in_turns({name: run for name, (_, run) in runs.items()} | {roof.name: roof.run})
    values = np.asarray(ours.run(), np.float64)
    for name, (count, run) in runs.items():
        seconds = timings[name].seconds / count
        mean = values.mean() if name == OURS else run()
        yield Row(
            WHAT,
            name,
            seconds,
            compile_s=ours.compile_s if name == OURS else None,
            ratio=None if name == OURS else timings[name].over(timings[OURS]) * TILE * TILES / count,
            roofline=roof.share(OPERATIONS * count, timings[name], timings[roof.name]),
            roof=roof.name,
            error=_rounding(values, arguments) if name == OURS else None,
            memory_mib=ours.peak_mib if name == OURS else None,
            note=f"mean ÷ theory {mean / theory:.3f}",
        )


def _rounding(values: np.ndarray, arguments: tuple[Any, ...]) -> float:
    """The largest relative error of the first tile's values against float64, on the same masks."""
    key, *data, probabilities = arguments
    masks = jax.vmap(lambda index: _mask(key, index, probabilities))(jnp.arange(TILE))
    x, w = (np.asarray(part, np.float64) for part in data)
    exact = np.sum(((np.asarray(masks, np.float64) - 1) * w @ x.T) ** 2, axis=1)
    return float(np.max(abs(values[:TILE] - exact) / exact))
