"""Samplers: masks from scores, either the highest of them or drawn in proportion to them.

A sampler is ``sampler(key, scores, keep) -> Mask``. It never keeps what is pruned already (a score of −inf), and always
keeps what is never pruned (+inf).
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sketchprune import _checks, masks
from sketchprune._boundary import checked
from sketchprune._static import can_be_hashed
from sketchprune.types import Count, Key, Mask, Scores

Sampler = Callable[[Any, Scores, Any], Mask]


@checked
def top(key: Key | None, scores: Scores, keep: Count) -> Mask:
    """The ``keep`` highest scores, of equal ones those of the lowest index.

    Args:
        key: not used.
        scores: a pytree of floats.
        keep: how many finite scores are kept.

    Returns:
        A boolean mask, as of :func:`sketchprune.masks.keep_top`.

    Raises:
        ValueError: for NaN scores and too large a ``keep``.

    Cost: O(d).

    >>> top(None, jnp.array([0.5, 2.0, 0.5]), 2).tolist()
    [True, True, False]
    """
    del key
    return masks.keep_top(scores, keep)


@dataclass(frozen=True)
class Proportional:
    """A sampler that draws from a law in proportion to |score|; see `proportional`.

    It is compared by value, so that equal samplers share a compiled program.

    Attributes:
        law: a class of laws.
        options: the options of its ``proportional``, by name.
    """

    law: type
    options: tuple[tuple[str, Hashable], ...] = ()

    def __repr__(self) -> str:
        return f"proportional({', '.join([self.law.__name__, *(f'{name}={value!r}' for name, value in self.options)])})"

    def __call__(self, key: Key | None, scores: Scores, keep: Count) -> Mask:
        """One mask in proportion to |score|."""
        law = self.law.proportional(_sizes(scores), keep, **dict(self.options))
        drawn = law.sample(_checks.needed(key, "since the sampler draws"))
        return _with_unpruned(scores, drawn)


@jax.jit  # one program, and not one for each operation on each leaf
def _with_unpruned(scores: Scores, drawn: Mask) -> Mask:
    """The drawn mask, with one for each weight that is never pruned."""
    return jax.tree.map(lambda score, kept: jnp.where(score == jnp.inf, jnp.ones((), kept.dtype), kept), scores, drawn)


@checked
def proportional(law: type, **options: Any) -> Proportional:
    """The sampler that draws masks from a law in proportion to |score|.

    The size of a signed score counts, as of GraSP. Under a trace of ``keep`` `laws.Multinomial` needs ``max_budget``.

    Args:
        law: a class of :mod:`sketchprune.laws` with a class method ``proportional(sizes, keep, **options)``, such as
            FixedSize, Poisson and Multinomial.
        options: of that method, such as ``binary=True`` for masks that do not reweight what they keep.

    Returns:
        A sampler ``(key, scores, keep) -> Mask``.

    Raises:
        ValueError: for another law and for options that cannot be hashed; by the sampler, without a key, and as the law
            raises for sizes and counts.

    >>> from sketchprune import laws
    >>> sampler = proportional(laws.FixedSize)
    >>> sampler(jax.random.key(0), jnp.array([0.3, 0.0, -0.7]), 2).tolist()
    [True, False, True]
    >>> sampler == proportional(laws.FixedSize)
    True
    """
    if not callable(getattr(law, "proportional", None)):
        raise ValueError(f"law is {law}; it takes a class of laws with a class method `proportional`")
    for name, value in options.items():
        if not can_be_hashed(value):
            raise ValueError(f"{name} is {value}; it takes a hashable value, since samplers are compared by value")
    return Proportional(law, tuple(sorted(options.items())))


@jax.jit
def _sizes(scores: Scores) -> PyTree[Float[Array, "..."]]:
    """|score|, and 0 for what is pruned already or never pruned; a NaN stays one."""
    return jax.tree.map(lambda leaf: jnp.where(jnp.isinf(leaf), 0, abs(leaf)), scores)
