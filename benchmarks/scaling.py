"""How costs grow in d, n, s, N, P and the number of masks: measured exponents beside those that docstrings state."""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks._exponents import exponent
from benchmarks._record import Row, Target
from benchmarks._timing import Prepared, in_turns, prepared
from sketchprune import kernels, laws, masks, models, paths, prune, scores, search, sketch, train

SLACK = 0.2
"""How far a measured exponent may exceed the stated one: caches are left behind as sizes grow."""
ROUNDS = 3


class Growth(NamedTuple):
    """A cost that grows.

    Attributes:
        function: whose docstring states the cost.
        letter: of the size that grows, as the docstring has it.
        sizes: the sizes.
        run: makes a run of a size.
        stated: the exponent that the docstring states, of the largest term.
    """

    function: Callable[..., Any]
    letter: str
    sizes: Sequence[int]
    run: Callable[[int], Callable[[], Any] | Prepared]
    stated: float


def growths() -> list[Growth]:
    """All costs that are measured."""
    return [
        Growth(sketch.optimal_probabilities, "d", (2**12, 2**14, 2**16), lambda d: _probabilities(256, d), 1),
        Growth(sketch.optimal_probabilities, "n", (2**9, 2**11, 2**13), lambda n: _probabilities(n, 2048), 1),
        Growth(laws.Multinomial.sample, "d", (2**14, 2**16, 2**18), lambda d: _draw(_multinomial(d, 64)), 1),
        Growth(laws.Multinomial.sample, "s", (2**14, 2**16, 2**18), lambda s: _draw(_multinomial(64, s)), 1),
        Growth(laws.FixedSize.sample, "d", (2**16, 2**18, 2**20), lambda d: _draw(_fixed_size(d)), 1),
        Growth(laws.Determinantal.sample, "d", (128, 256, 512), lambda d: _draw(_determinantal(d)), 3),
        Growth(masks.keep_top, "d", (2**18, 2**20, 2**22), _keep_top, 1),
        Growth(kernels.ntk, "N", (64, 128, 256), lambda n: _ntk(n, 256), 2),
        Growth(kernels.ntk, "P", (128, 256, 512), lambda width: _ntk(64, width), 1),
        Growth(scores.synflow, "P", (512, 1024, 2048), _synflow, 1),
        Growth(paths.trace, "P", (512, 1024, 2048), _path_trace, 1),
        Growth(search.linear_error, "d", (512, 1024, 2048), lambda d: _errors(d, 512), 1),
        Growth(search.linear_error, "n", (512, 1024, 2048), lambda n: _errors(512, n), 1),
        Growth(search.best, "num_masks", (2**12, 2**14, 2**16), _search, 1),
        Growth(train.fit_many, "models", (8, 32, 128), _fit_many, 1),
    ]  # fmt: skip


def rows() -> Iterator[Row]:
    """The exponent of each cost."""
    for growth in growths():
        runs = [growth.run(size) for size in growth.sizes]
        calls = {
            str(size): run.run if isinstance(run, Prepared) else run
            for size, run in zip(growth.sizes, runs, strict=True)
        }
        seconds = [timing.seconds for timing in in_turns(calls, rounds=ROUNDS).values()]
        weights = growth.letter == "P"  # P grows with the square of a width
        found = exponent([size**2 if weights else size for size in growth.sizes], seconds)
        sizes = ", ".join(f"{size:,}" for size in growth.sizes)
        stated = f"{growth.stated:g}, of “{stated_cost(growth.function)}”"
        note = f"stated: {stated}; {seconds[-1] * 1e3:.1f} ms at the largest size"
        yield Row(
            f"exponent in {growth.letter} of {growth.function.__qualname__}, {'widths ' if weights else ''}{sizes}",
            value=found,
            target=Target("value", most=growth.stated + SLACK),
            note=note,
        )


def stated_cost(function: Callable[..., Any]) -> str:
    """The first sentence under ``Cost:`` of a docstring; where that is about memory, the one about time.

    Args:
        function: whose docstring it is.

    Raises:
        ValueError: the docstring states no cost.
    """
    found = re.search(r"Cost:\s*(.+?)(?:\n\s*\n|$)", inspect.getdoc(function) or "", re.DOTALL)
    if found is None:
        raise ValueError(f"function is {function.__qualname__}, whose docstring has no Cost; it takes one that has")
    text = " ".join(found[1].split())
    return text.rpartition("Time: ")[2].partition(". ")[0].rstrip(".")


# --- What runs


def _gaussian(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))


def _probabilities(n: int, d: int) -> Prepared:
    return prepared(sketch.optimal_probabilities, _gaussian(n, d), jnp.ones(d))


def _multinomial(d: int, s: int) -> laws.Multinomial:
    return laws.Multinomial(jnp.full(d, 1 / d, jnp.float32), s)


def _fixed_size(d: int) -> laws.FixedSize:
    return laws.FixedSize(jnp.ones(d), d // 8)


def _determinantal(d: int) -> laws.Determinantal:
    return laws.Determinantal.ridge(_gaussian(2 * d, d), jnp.float32(1.0))


def _draw(law: Any) -> Prepared:
    return prepared(lambda law, key: law.sample(key), law, jax.random.key(0))


def _keep_top(d: int) -> Prepared:
    return prepared(lambda values: masks.keep_top(values, d // 20), _gaussian(d))


def _ntk(samples: int, width: int) -> Prepared:
    x = _gaussian(samples, 256)
    apply, params = models.initial(models.mlp(width, width, 10, bias=False), jax.random.key(0), x)
    return prepared(lambda params, x: kernels.ntk(apply, params, x), params, x)


def _perceptron(width: int) -> tuple[Any, Any, jax.Array]:
    """A network of as many weights as the square of its width, but for its ends."""
    x = jnp.ones((1, width))
    return *models.initial(models.mlp(width, width, 10, bias=False), jax.random.key(0), x), x


def _synflow(width: int) -> Prepared:
    apply, params, x = _perceptron(width)
    return prepared(lambda params: scores.synflow(apply, None, params, (x, None)), params)


def _path_trace(width: int) -> Prepared:
    apply, params, _ = _perceptron(width)
    return prepared(lambda params: paths.trace(apply, params, (width,)), params)


def _errors(d: int, n: int) -> Prepared:
    x = _gaussian(n, d)
    objective = search.linear_error(x, jnp.ones(d))
    weights = (_gaussian(256, d) > 1).astype(jnp.float32)
    return prepared(jax.vmap(objective), weights)


def _search(num_masks: int) -> Callable[[], Any]:
    x = _gaussian(128, 256)
    objective, law = search.linear_error(x, jnp.ones(256)), _multinomial(256, 32)
    return lambda: search.best(objective, law, num_masks, key=jax.random.key(0), num_best=4)


def _fit_many(count: int) -> Callable[[], Any]:
    x, y = _gaussian(64, 64), jnp.zeros(64, jnp.int32)
    apply, params = models.initial(models.mlp(64, 64, 10, bias=False), jax.random.key(0), x)
    keep = prune.count(params, 0.2)
    drawn = jax.vmap(
        lambda key: prune.one_shot(scores.random, apply, None, params, (x, None), keep, key=key)
    )(jax.random.split(jax.random.key(1), count))  # fmt: skip
    optimizer = optax.sgd(0.1)
    return lambda: train.fit_many(
        apply, train.cross_entropy, params, (x, y), optimizer, 50, mask=drawn, key=jax.random.key(0), batch_size=32
    )
