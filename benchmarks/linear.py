"""Random masks of a linear model a second, next to a NumPy loop and to the machine's rate of matrix products."""

import functools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks.roofline import hardware, matmul_rate, prepared
from sketchprune import laws, sketch
from sketchprune.types import Key

OURS = "sketchprune"
SAMPLES, FEATURES, BUDGET = 512, 1024, 102
TILE, TILES = 256, 32
LOOPED, AT_ONCE = 64, 1024
"""Masks of a NumPy loop a round, where a loop that waits for busy cores takes milliseconds a mask, and of a batch."""
ROUNDS = 9
"""What is compared runs in turns, so that a machine which others use too slows all of it alike."""
OPERATIONS = 2 * FEATURES * SAMPLES
"""Of one mask in the product of masks and data; drawing the mask and adding up count as nothing."""


def errors(
    key: Key, x: Float[Array, "n d"], w: Float[Array, " d"], probabilities: Float[Array, " d"]
) -> Float[Array, " masks"]:
    """‖X(m∘w) − Xw‖² of TILES tiles of multinomial masks."""

    def error(index: Array) -> Array:
        mask = laws.Multinomial(probabilities, BUDGET).sample(jax.random.fold_in(key, index))
        return jnp.sum((x @ ((mask - 1) * w)) ** 2)

    return lax.map(error, jnp.arange(TILE * TILES), batch_size=TILE)


def loop(
    x: np.ndarray, w: np.ndarray, probabilities: np.ndarray, *, threads: int | None, batch: int = 1
) -> tuple[float, float]:
    """The same in NumPy, so many masks at once, with so many threads a product (None: as many as there are cores).

    Returns the mean error and the masks a second.
    """
    rng = np.random.default_rng(0)
    law = probabilities.astype(np.float64) / probabilities.sum(dtype=np.float64)
    weights, last = w / (BUDGET * probabilities), np.cumsum(law)
    first = FEATURES * np.arange(batch)[:, None]
    count = max(LOOPED, batch)
    with threadpool_limits(threads, user_api="blas"):
        begin = time.perf_counter()
        dense, total = x @ w, 0.0
        for _ in range(count // batch):
            if batch == 1:
                counts = rng.multinomial(BUDGET, law)[None]
            else:  # many at once are drawn faster one draw at a time
                draws = np.minimum(np.searchsorted(last, rng.random((batch, BUDGET))), FEATURES - 1)
                counts = np.bincount((first + draws).ravel(), minlength=batch * FEATURES).reshape(batch, FEATURES)
            total += np.sum(((counts.astype(np.float32) * weights) @ x.T - dense) ** 2)
        return total / count, count / (time.perf_counter() - begin)


def main() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, FEATURES), np.float32)
    w = rng.standard_normal(FEATURES, np.float32)
    law = np.asarray(sketch.optimal_probabilities(jnp.asarray(x), jnp.asarray(w)))
    arguments = jax.random.key(0), jnp.asarray(x), jnp.asarray(w), jnp.asarray(law)
    theory = float(laws.Multinomial(arguments[-1], BUDGET).error(sketch.linear_items(*arguments[1:3])))
    loops = {
        "NumPy loop, all cores": functools.partial(loop, threads=None),
        "NumPy loop, one core": functools.partial(loop, threads=1),
        f"NumPy, {AT_ONCE:,} masks at once": functools.partial(loop, threads=None, batch=AT_ONCE),
    }

    means = {OURS: float(jax.jit(errors)(*arguments).mean())}
    ours = prepared(errors, *arguments)
    rates: dict[str, list[float]] = {OURS: [], **{name: [] for name in loops}}
    products = []
    for _ in range(ROUNDS):
        products.append(matmul_rate(size=1024))
        rates[OURS].append(TILE * TILES / statistics.median(ours.seconds() for _ in range(3)))
        for name, run in loops.items():
            means[name], rate = run(x, w, law)
            rates[name].append(rate)

    console = Console()
    console.print(
        f"‖X(m∘w)−Xw‖² of random masks, d={FEATURES}, n={SAMPLES}, s={BUDGET}, float32, on {hardware()} with "
        f"{statistics.median(products) / 1e9:.0f} GFLOP/s, jax {jax.__version__}"
    )
    table = Table("", "masks/s", "ours is", "of product rate", "mean ÷ theory")
    for name, measured in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates[OURS], measured, strict=True))
        share = statistics.median(OPERATIONS * m / product for m, product in zip(measured, products, strict=True))
        table.add_row(
            name,
            f"{statistics.median(measured):,.0f}",
            "" if name == OURS else f"{ratio:.1f}x",
            f"{share:.1%}",
            f"{means[name] / theory:.3f}",
        )
    console.print(table)
