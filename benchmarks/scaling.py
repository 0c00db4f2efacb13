"""How costs grow in d, n, s, N, P and the number of masks: measured exponents beside those that docstrings state."""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import _roofs
from benchmarks._exponents import exponent
from benchmarks._record import Row, Target
from benchmarks._timing import Prepared, in_turns, prepared
from sketchprune import kernels, laws, masks, models, paths, prune, scores, search, sketch, train

SLACK = 0.2
"""How far a measured exponent may exceed the stated one: caches are left behind as sizes grow."""
ROUNDS = 3
LEAST_CALLS = 10
"""How many times as long as a call that does nothing the smallest size has to take: else the call is measured."""
_WORDS = {"pair of samples": "N²", "pass": "P", "pullback": "P", "each model": "models"}
"""What docstrings say in words, as the sizes that it grows with: a pass reads each weight."""
_SUPERSCRIPTS = {"": 1, "²": 2, "³": 3}


class Growth(NamedTuple):
    """A cost that grows.

    Attributes:
        function: whose docstring states the cost.
        letter: of the size that grows, as the docstring has it.
        sizes: the sizes.
        run: makes a run of a size.
        letter_at: what the letter is at a size; the size itself unless that is a width.
    """

    function: Callable[..., Any]
    letter: str
    sizes: Sequence[int]
    run: Callable[[int], Callable[[], Any] | Prepared]
    letter_at: Callable[[int], int] = int


def growths() -> list[Growth]:
    """All costs that are measured."""
    return [
        Growth(sketch.optimal_probabilities, "d", (2**12, 2**14, 2**16), lambda d: _probabilities(256, d)),
        Growth(sketch.optimal_probabilities, "n", (2**9, 2**11, 2**13), lambda n: _probabilities(n, 2048)),
        Growth(laws.Multinomial.sample, "d", (2**14, 2**16, 2**18), lambda d: _draw(_multinomial(d, 64))),
        Growth(laws.Multinomial.sample, "s", (2**14, 2**16, 2**18), lambda s: _draw(_multinomial(64, s))),
        Growth(laws.FixedSize.sample, "d", (2**16, 2**18, 2**20), lambda d: _draw(_fixed_size(d))),
        Growth(laws.Determinantal.sample, "d", (128, 256, 512), lambda d: _draw(_determinantal(d))),
        Growth(masks.keep_top, "d", (2**18, 2**20, 2**22), _keep_top),
        Growth(kernels.ntk, "N", (64, 128, 256), lambda n: _ntk(n, 256)),
        Growth(kernels.ntk, "P", (128, 256, 512), lambda width: _ntk(64, width), lambda width: _weights(256, width)),
        Growth(scores.synflow, "P", (512, 1024, 2048), _synflow, lambda width: _weights(width, width)),
        Growth(paths.trace, "P", (512, 1024, 2048), _path_trace, lambda width: _weights(width, width)),
        Growth(search.linear_error, "d", (512, 1024, 2048), lambda d: _errors(d, 512)),
        Growth(search.linear_error, "n", (512, 1024, 2048), lambda n: _errors(512, n)),
        Growth(search.best, "num_masks", (2**12, 2**14, 2**16), _search),
        Growth(train.fit_many, "models", (8, 32, 128), _fit_many),
    ]


def rows() -> Iterator[Row]:
    """The exponent of each cost."""
    empty = _roofs.calls()
    for growth in growths():
        runs = [growth.run(size) for size in growth.sizes]
        calls = {
            str(size): run.run if isinstance(run, Prepared) else run
            for size, run in zip(growth.sizes, runs, strict=True)
        }
        timings = in_turns(calls | {empty.name: empty.run}, rounds=ROUNDS)
        nothing = timings.pop(empty.name).seconds
        yield _row(growth, [timing.seconds for timing in timings.values()], nothing)


def _row(growth: Growth, seconds: Sequence[float], nothing: float) -> Row:
    """The exponent through measured times; none where the smallest size takes hardly longer than a call of nothing."""
    letters = [growth.letter_at(size) for size in growth.sizes]
    found = exponent(letters, seconds)
    stated = stated_exponent(growth.function, growth.letter)
    note = f"stated: {stated}, of “{stated_cost(growth.function)}”; {seconds[-1] * 1e3:.1f} ms at the largest size"
    measured = seconds[0] >= LEAST_CALLS * nothing
    if not measured:
        note += f"; the smallest takes {seconds[0] / nothing:.1f} calls of nothing, which hides the exponent"
    sizes = ("" if letters == list(growth.sizes) else "widths ") + ", ".join(f"{size:,}" for size in growth.sizes)
    return Row(
        f"exponent in {growth.letter} of {growth.function.__qualname__}, {sizes}",
        value=found if measured else None,
        target=Target("value", most=stated + SLACK),
        note=note,
    )


def stated_cost(function: Callable[..., Any]) -> str:
    """The first sentence under ``Cost:`` of a docstring; where that is about memory, the one about time.

    Args:
        function: whose docstring it is.

    Raises:
        ValueError: the docstring states no cost.
    """
    return _stated_time(function).partition(". ")[0].rstrip(".")


def stated_exponent(function: Callable[..., Any], letter: str) -> int:
    """The largest power of a letter in the time that a docstring states; logarithms do not count.

    Args:
        function: whose docstring it is.
        letter: of the size, such as ``"d"``.

    Raises:
        ValueError: the docstring states no cost, or none that grows with the letter.
    """
    text = _stated_time(function)
    for words, size in _WORDS.items():
        text = re.sub(rf"{words}\w*", size, text)
    # A product of letters, such as nd² or N, that is no part of a word.
    products = re.findall(r"(?<!\w)(?<!log )(?:(?:[dnsNPK]|num_masks|models)[²³]?)+(?!\w)", text)
    powers = re.findall(rf"{letter}([²³]?)", " ".join(products))
    if not powers:
        name = function.__qualname__
        raise ValueError(f"letter is {letter!r}; it takes one in which the docstring of {name} states the time")
    return max(_SUPERSCRIPTS[power] for power in powers)


def _stated_time(function: Callable[..., Any]) -> str:
    """What stands under ``Cost:``, or after ``Time:`` there, in one line."""
    found = re.search(r"Cost:\s*(.+?)(?:\n\s*\n|$)", inspect.getdoc(function) or "", re.DOTALL)
    if found is None:
        raise ValueError(f"function is {function.__qualname__}, whose docstring has no Cost; it takes one that has")
    return " ".join(found[1].split()).rpartition("Time: ")[2]


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
    apply, params = _perceptron(256, width)
    return prepared(lambda params, x: kernels.ntk(apply, params, x), params, _gaussian(samples, 256))


def _perceptron(inputs: int, width: int) -> tuple[Any, Any]:
    """A network of two hidden layers."""
    return models.initial(models.mlp(width, width, 10, bias=False), jax.random.key(0), jnp.ones((1, inputs)))


def _weights(inputs: int, width: int) -> int:
    """How many weights that network has."""
    return prune.size(_perceptron(inputs, width)[1])


def _synflow(width: int) -> Prepared:
    apply, params = _perceptron(width, width)
    x = jnp.ones((1, width))
    return prepared(lambda params: scores.synflow(apply, None, params, (x, None)), params)


def _path_trace(width: int) -> Prepared:
    apply, params = _perceptron(width, width)
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
    drawn = jax.vmap(lambda key: prune.one_shot(scores.random, apply, None, params, (x, None), keep, key=key))(
        jax.random.split(jax.random.key(1), count)
    )
    optimizer = optax.sgd(0.1)
    return lambda: train.fit_many(
        apply, train.cross_entropy, params, (x, y), optimizer, 50, mask=drawn, key=jax.random.key(0), batch_size=32
    )
