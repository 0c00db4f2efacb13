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

from benchmarks.roofline import matmul_rate, prepared
from sketchprune import laws, sketch
from sketchprune.types import Key
from theory.cli import runtime

OURS = "sketchprune"
SAMPLES = 512
FEATURES = 1024
BUDGET = 102
TILE = 256
TILES = 32
LOOPED = 64
"""Masks of a NumPy loop a round; where it waits for busy cores it takes milliseconds a mask."""
AT_ONCE = 1024
"""Masks of a round in NumPy that go through one product."""
ROUNDS = 9
"""What is compared runs in turns, so that other work on the machine slows all of it alike."""
OPERATIONS = 2 * FEATURES * SAMPLES
"""Floating-point operations of one mask in the product of masks and data; nothing else is counted."""


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
    """The same in NumPy: the mean error, and the masks a second.

    Args:
        x: data, [n, d].
        w: weights, [d].
        probabilities: those of the multinomial law, [d].
        threads: how many threads a product uses; None for as many as there are cores.
        batch: masks that go through one product.
    """
    rng = np.random.default_rng(0)
    law = probabilities.astype(np.float64) / probabilities.sum(dtype=np.float64)
    weights, last = w / (BUDGET * probabilities), np.cumsum(law)
    first = FEATURES * np.arange(batch)[:, None]
    count = max(LOOPED, batch)
    with threadpool_limits(threads, user_api="blas"):
        begin = time.perf_counter()
        dense = x @ w
        total = 0.0
        for _ in range(count // batch):
            if batch == 1:
                counts = rng.multinomial(BUDGET, law)[None]
            else:  # many masks are drawn faster by inverting the distribution function
                draws = np.minimum(np.searchsorted(last, rng.random((batch, BUDGET))), FEATURES - 1)
                counts = np.bincount((first + draws).ravel(), minlength=batch * FEATURES).reshape(batch, FEATURES)
            total += np.sum(((counts.astype(np.float32) * weights) @ x.T - dense) ** 2)
        return total / count, count / (time.perf_counter() - begin)


def main() -> None:
    """Print the rates of all ways as a table."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, FEATURES), np.float32)
    w = rng.standard_normal(FEATURES, np.float32)
    p = sketch.optimal_probabilities(jnp.asarray(x), jnp.asarray(w))
    theory = float(laws.Multinomial(p, BUDGET).error(sketch.linear_items(x, w)))
    loops = {
        "NumPy loop, all cores": functools.partial(loop, threads=None),
        "NumPy loop, one core": functools.partial(loop, threads=1),
        f"NumPy, {AT_ONCE:,} masks at once": functools.partial(loop, threads=None, batch=AT_ONCE),
    }

    arguments = jax.random.key(0), jnp.asarray(x), jnp.asarray(w), p
    means = {OURS: float(jax.jit(errors)(*arguments).mean())}
    ours = prepared(errors, *arguments)
    rates: dict[str, list[float]] = {OURS: [], **{name: [] for name in loops}}
    products = []
    for _ in range(ROUNDS):
        products.append(matmul_rate(size=1024))
        rates[OURS].append(TILE * TILES / statistics.median(ours.seconds() for _ in range(3)))
        for name, run in loops.items():
            means[name], rate = run(x, w, np.asarray(p))
            rates[name].append(rate)

    console = Console()
    console.print(
        f"‖X(m∘w)−Xw‖² of random masks, d={FEATURES}, n={SAMPLES}, s={BUDGET}, float32, on {runtime.hardware()} with "
        f"{statistics.median(products) / 1e9:.0f} GFLOP/s, jax {jax.__version__}"
    )
    console.print(compared(rates, products, {name: mean / theory for name, mean in means.items()}))


def compared(rates: dict[str, list[float]], products: list[float], relative_means: dict[str, float]) -> Table:
    """A row for each way, from its rates in all rounds."""
    table = Table("", "masks/s", "ours is", "of product rate", "mean ÷ theory")
    for name, measured in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates[OURS], measured, strict=True))
        share = statistics.median(OPERATIONS * m / product for m, product in zip(measured, products, strict=True))
        table.add_row(
            name,
            f"{statistics.median(measured):,.0f}",
            "" if name == OURS else f"{ratio:.1f}x",
            f"{share:.1%}",
            f"{relative_means[name]:.3f}",
        )
    return table
