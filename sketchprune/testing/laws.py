"""What a law of masks must satisfy, checked on one small law."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from scipy import stats

from sketchprune.laws._joined import joined, split
from sketchprune.laws.items import Items
from sketchprune.laws.law import Law
from sketchprune.types import Key

LEVEL = 1e-9
"""The chance that a right law fails any of the checks on frequencies."""
_ALONE = 4
"""Masks that are drawn one by one as well, to compare with those drawn together."""


def check_law(
    law: Law,
    *,
    key: Key,
    items: Items | None = None,
    samples: int = 20_000,
    bad: Iterable[Callable[[], Any]] = (),
) -> None:
    """Checks that a law keeps the contract of :class:`sketchprune.laws.Law`.

    The law must be small enough for :meth:`outcomes`. What is checked:

    - it is a pytree of numbers, which survives flattening and crosses jit, vmap and grad;
    - masks are the same, bit for bit, drawn eagerly, under jit and under vmap; structure, shapes and dtypes agree with
      those of ``outcomes`` and ``inclusion``;
    - the probabilities of the outcomes are not negative and sum to one; ``inclusion`` and ``error`` are what
      enumeration gives; floating masks that are not ``binary`` are unbiased where an item may be kept;
    - each outcome, and each item, is drawn as often as its probability says, within exact binomial limits;
    - bad input raises ValueError.

    Args:
        law: the law.
        key: for the masks, and for the items where none are given.
        items: the vectors on which ``error`` is checked; random ones by default.
        samples: the number of masks drawn.
        bad: functions without arguments, each of which must raise ValueError.

    Raises:
        AssertionError: naming the law and what it does wrong.

    Cost: the masks and the outcomes; a few seconds of compilation.

    >>> from sketchprune import laws
    >>> check_law(laws.Poisson(jnp.array([0.2, 0.9])), key=jax.random.key(0))
    """
    name = type(law).__name__
    _check_record(name, law)
    item_key, sample_key = jax.random.split(key)
    drawn = _check_samples(name, law, jax.random.split(sample_key, samples))
    known = _check_outcomes(name, law, drawn)
    _check_error(name, law, known, _random_items(known, item_key) if items is None else items)
    _check_frequencies(name, known, drawn)
    for number, call in enumerate(bad):
        _check_refusal(name, number, call)


class _Known(NamedTuple):
    """What a law says of itself, each mask as one row.

    Attributes:
        mask: one mask, for its structure.
        reweighted: whether masks should be unbiased.
        outcomes: [outcomes, d].
        chances: [outcomes].
        inclusion: [d].
        rounding: the relative error that rounding explains in the law's own dtype.
    """

    mask: PyTree[Array]
    reweighted: bool
    outcomes: np.ndarray
    chances: np.ndarray
    inclusion: np.ndarray
    rounding: float


def _check_record(name: str, law: Law) -> None:
    """A pytree of numbers, the same after flattening."""
    assert isinstance(law, Law), f"{name} lacks one of sample, inclusion, error and outcomes"
    leaves, structure = jax.tree.flatten(law)
    for leaf in leaves:
        number = isinstance(leaf, int | float | np.ndarray | np.generic | jax.Array)
        assert number, f"{name} is no pytree of numbers: it has the leaf {leaf!r}; register it, or use flax.struct"
    again = jax.tree.unflatten(structure, leaves)
    assert jax.tree.structure(again) == structure, f"{name} has another structure after it was flattened"


def _check_samples(name: str, law: Law, keys: Array) -> PyTree[np.ndarray]:
    """Masks, each the same however it is drawn."""
    together = jax.device_get(jax.jit(lambda law, keys: jax.vmap(law.sample)(keys))(law, keys))
    alone = jax.jit(law.sample)
    for index in range(_ALONE):
        mask = jax.device_get(law.sample(keys[index]))
        expected = jax.tree.map(lambda leaf: leaf[index], together)  # noqa: B023 - used before the next turn
        _check_same(f"{name}.sample eagerly and under vmap", mask, expected)
        _check_same(f"{name}.sample eagerly and under jit", mask, jax.device_get(alone(keys[index])))
    return together


def _check_same(what: str, one: PyTree, other: PyTree) -> None:
    """Structure, shapes, dtypes and bits."""
    assert jax.tree.structure(one) == jax.tree.structure(other), f"{what} differ in structure"
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype, f"{what} differ in dtype: {a.dtype} and {b.dtype}"
        assert a.shape == b.shape, f"{what} differ in shape: {a.shape} and {b.shape}"
        assert np.array_equal(a, b, equal_nan=True), f"{what} differ: {a} and {b}"


def _check_outcomes(name: str, law: Law, drawn: PyTree[np.ndarray]) -> _Known:
    """Outcomes like the masks, probabilities that sum to one, and the inclusion that they give."""
    mask = jax.tree.map(lambda leaf: leaf[0], drawn)
    outcomes, chances = jax.device_get(jax.jit(lambda law: law.outcomes())(law))
    inclusion = jax.device_get(law.inclusion())
    shapes = [leaf.shape for leaf in jax.tree.leaves(mask)]
    for method, tree in (
        ("outcomes", jax.tree.map(lambda leaf: leaf[0], outcomes)),
        ("inclusion", inclusion),
    ):
        found = [leaf.shape for leaf in jax.tree.leaves(tree)]
        same = jax.tree.structure(tree) == jax.tree.structure(mask) and found == shapes
        assert same, f"{name}.{method}() is not shaped like a mask: {found} for {shapes}"
    kinds = [(a.dtype, b.dtype) for a, b in zip(jax.tree.leaves(outcomes), jax.tree.leaves(mask), strict=True)]
    assert all(a == b for a, b in kinds), f"{name}.outcomes() and its samples differ in dtype: {kinds}"
    rows = np.concatenate([leaf.reshape(len(chances), -1) for leaf in jax.tree.leaves(outcomes)], axis=1)
    floating = all(np.issubdtype(leaf.dtype, np.floating) for leaf in jax.tree.leaves(mask))
    reweighted = floating and not getattr(law, "binary", False)
    tolerance = _tolerance(chances)
    known = _Known(
        mask,
        reweighted,
        rows,
        np.asarray(chances, np.float64),
        np.asarray(joined(inclusion), np.float64),
        tolerance,
    )
    assert (known.chances >= -tolerance).all(), f"{name}.outcomes() has the probability {known.chances.min()}"
    total = known.chances.sum()
    assert abs(total - 1) <= tolerance, f"{name}.outcomes() has probabilities that sum to {total}"
    enumerated = known.chances @ (rows != 0)
    _check_close(f"{name}.inclusion()", known.inclusion, enumerated, tolerance)
    if reweighted:
        mean = known.chances @ rows
        _check_close(f"{name}: the mean of a reweighted mask", mean, (enumerated > 0).astype(float), tolerance)
    return known


def _check_error(name: str, law: Law, known: _Known, items: Items) -> None:
    """The exact error is that of all outcomes; it crosses jit, vmap and grad."""

    def deviation(row: Array) -> Array:
        return items.combination(split(row - 1, known.mask))

    floating = joined(items.squares).dtype
    errors = jax.device_get(jax.jit(jax.vmap(deviation))(known.outcomes.astype(floating)))
    expected = known.chances @ errors.astype(np.float64)

    def found(law: Law) -> Array:
        return law.error(items)

    tolerance = max(_tolerance(errors), known.rounding)
    _check_close(f"{name}.error(items)", law.error(items), expected, tolerance)
    value, slopes = jax.jit(jax.value_and_grad(found, allow_int=True))(law)
    _check_close(f"{name}.error(items) under jit", value, expected, tolerance)
    for slope in jax.tree.leaves(slopes):
        numbers = slope.dtype != jax.dtypes.float0
        assert not numbers or np.isfinite(slope).all(), f"{name}.error(items) has the derivative {slope}"
    stacked = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * 2), law)
    _check_close(f"{name}.error(items) under vmap", jax.jit(jax.vmap(found))(stacked), expected, tolerance)


def _random_items(known: _Known, key: Key) -> Items:
    """Gaussian vectors in three dimensions; zero where a reweighted law never keeps the item."""
    vectors = jax.random.normal(key, (3, len(known.inclusion)))
    if known.reweighted:
        vectors = vectors * (known.inclusion > 0)
    return Items(
        split(jnp.sum(vectors**2, axis=0), known.mask),
        lambda c: jnp.sum((vectors @ joined(c).astype(vectors.dtype)) ** 2),
        lambda: vectors.T @ vectors,
    )


def _check_frequencies(name: str, known: _Known, drawn: PyTree[np.ndarray]) -> None:
    """Outcomes and items as often as their probabilities say."""
    leaves = jax.tree.leaves(drawn)
    rows = np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
    _check_binomial(f"{name}: item", (rows != 0).sum(axis=0), len(rows), known.inclusion)

    masks, of_outcome = np.unique(known.outcomes, axis=0, return_inverse=True)
    chances = np.bincount(of_outcome.ravel(), known.chances, len(masks))
    found, counts = np.unique(rows, axis=0, return_counts=True)
    # Rows of samples are those of outcomes up to rounding: a sampler may round probabilities before it divides.
    alike = np.isclose(found[:, None].astype(float), masks[None].astype(float), rtol=1e-4, atol=0).all(axis=2)
    unknown = found[~np.any(alike, axis=1)]
    assert not len(unknown), f"{name} drew {unknown[0].tolist()}, which is none of its outcomes"
    _check_binomial(f"{name}: outcome", np.bincount(alike.argmax(axis=1), counts, len(masks)), len(rows), chances)


def _check_binomial(what: str, counts: np.ndarray, trials: int, chances: np.ndarray) -> None:
    """Counts within two-sided exact limits that all of them keep with probability 1 - LEVEL."""
    chances = np.clip(chances, 0, 1)
    tails = np.minimum(stats.binom.cdf(counts, trials, chances), stats.binom.sf(counts - 1, trials, chances))
    worst = int(tails.argmin())
    assert tails[worst] >= LEVEL / (2 * len(tails)), (
        f"{what} {worst} was drawn {int(counts[worst])} times of {trials}, with the probability {chances[worst]:.6g}"
    )


def _check_refusal(name: str, number: int, call: Callable[[], Any]) -> None:
    try:
        call()
    except ValueError:
        return
    raise AssertionError(f"{name} takes bad input number {number} without a ValueError")


def _check_close(what: str, found: Any, expected: Any, tolerance: float) -> None:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    gap = abs(found - expected)
    wrong = ~(gap <= tolerance * (1 + abs(expected)))
    assert not wrong.any(), f"{what} is {found.ravel().tolist()}; enumeration gives {expected.ravel().tolist()}"


def _tolerance(values: np.ndarray) -> float:
    """The relative error that rounding explains."""
    return float(np.finfo(values.dtype).eps) ** 0.5
