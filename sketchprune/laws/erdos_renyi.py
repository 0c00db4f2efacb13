"""Erdős–Rényi masks: random masks with a density for each layer, of independent entries or of exact counts."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, PyTree

from sketchprune import _checks, masks
from sketchprune._boundary import checked
from sketchprune.laws._joined import check_count, joined, split
from sketchprune.laws.counts import layer_counts, layer_order
from sketchprune.laws.densities import Rule, layer_densities
from sketchprune.laws.items import Items
from sketchprune.laws.poisson import Poisson
from sketchprune.laws.subsets import all_subsets
from sketchprune.types import Key, Mask, Params, Prunable

Shapes = tuple[tuple[int, ...], ...]


class ErdosRenyi(struct.PyTreeNode, eq=False):
    """Independent entries, each kept with the density of its leaf: m_i ~ Bernoulli(p_l) for i in leaf l.

    Masks are boolean: they have the law of a binary :class:`sketchprune.laws.Poisson` with one rate for each leaf.

    A record of arrays: it crosses jit, vmap and grad. Its methods check the numbers where these are known, and not
    under a trace.

    Attributes:
        densities: p, a pytree with one float in [0, 1] for each leaf of the parameters.
        shapes: the shapes of those leaves, in the order of jax.tree.leaves; static.

    Source: gadhikar2023random.

    >>> ErdosRenyi({"a": 1.0, "b": 0.0}, ((2,), (1,))).sample(jax.random.key(0))["a"].tolist()
    [True, True]
    """

    densities: PyTree
    shapes: Shapes = struct.field(pytree_node=False)

    @classmethod
    @checked
    def at_density(
        cls,
        params: Params,
        density: float,
        *,
        rule: Rule = "erk",
        redistribute: bool = True,
        order: Sequence[str] | None = None,
        prunable: Prunable = None,
    ) -> "ErdosRenyi":
        """The densities of :func:`sketchprune.laws.layer_densities` on the leaves that pruning touches, 1 elsewhere.

        Args:
            params: the parameters, of which only shapes count.
            density: in (0, 1], over the prunable weights together.
            rule: how the density is spread over layers.
            redistribute: whether what a full layer cannot take goes to the others. Without it masks realise a smaller
                density: see :func:`sketchprune.laws.realised_density` and :func:`sketchprune.masks.summary`.
            order: the paths of the layers, first layer first, for "pyramidal".
            prunable: which leaves are pruned, as for :func:`sketchprune.masks.prunable`.

        Returns:
            The law.

        Raises:
            ValueError: as :func:`sketchprune.laws.layer_densities` and :func:`sketchprune.laws.layer_order`.
        """
        found = _densities(params, density, rule, redistribute, order, prunable)
        return cls(jax.tree.map(float, found), _shapes(params))

    @checked
    def sample(self, key: Key) -> Mask:
        """One mask: the entries whose random word is below p_l·2^32, with a key of its own for each leaf.

        Densities are taken as whole numbers of a unit, 2^-32 in float32 and 2^-64 in float64, at least one where they
        are not zero: a float32 density of 2^-8 or more is exact. Under a trace a NaN density keeps nothing.

        Args:
            key: a key of jax.random.

        Returns:
            A boolean pytree of the given shapes.

        Raises:
            ValueError: for densities outside [0, 1].

        Cost: O(d), one random word of the densities' width for each entry.
        """
        _checks.rates("densities", self.densities)
        return _sample_independent(key, self.densities, shapes=self.shapes)

    def inclusion(self) -> PyTree[Float[Array, "..."]]:
        """P(m_i ≠ 0) = p_l.

        Returns:
            A pytree of the given shapes.

        Raises:
            ValueError: as :meth:`sample`.
        """
        return self._poisson().inclusion()

    @checked
    def error(self, items: Items) -> Float[Array, ""]:
        """E‖Σ(m_i − 1)B_i‖² = ‖Σ(1 − p_l)B_i‖² + Σp_l(1 − p_l)‖B_i‖².

        Args:
            items: the vectors B_i.

        Returns:
            One number.

        Raises:
            ValueError: for densities outside [0, 1].

        Cost: O(d) and one combination.
        Source: sketch/binary-bias-variance.
        """
        rates = jax.tree.map(lambda rate, square: rate.astype(square.dtype), self.inclusion(), items.squares)
        return Poisson(rates, binary=True).error(items)

    def outcomes(self) -> tuple[Mask, Float[Array, "outcomes"]]:
        """Every subset as a mask, in the order of :func:`sketchprune.laws.all_subsets`, with its probability.

        Returns:
            The boolean masks, on a leading axis, and the probability of each.

        Raises:
            ValueError: for densities outside [0, 1], and for more than 20 items.

        Cost: O(2^d d).
        """
        found, chances = self._poisson().outcomes()
        return jax.tree.map(lambda leaf: leaf > 0, found), chances

    def _poisson(self) -> Poisson:
        _checks.rates("densities", self.densities)
        return Poisson(_broadcast(lambda p, shape: jnp.asarray(p), self.densities, self.shapes), binary=True)


class ErdosRenyiCounts(struct.PyTreeNode, eq=False):
    """Exactly k_l entries of each leaf l, every subset of that size equally likely, leaves independent.

    Masks are boolean.

    A record of arrays: it crosses jit, vmap and grad. Its methods check the numbers where these are known, and not
    under a trace.

    Attributes:
        counts: k, a pytree with one whole number for each leaf of the parameters, from 0 to the size of that leaf.
        shapes: the shapes of those leaves, in the order of jax.tree.leaves; static.

    >>> ErdosRenyiCounts({"a": 2, "b": 0}, ((2,), (1,))).sample(jax.random.key(0))["a"].tolist()
    [True, True]
    """

    counts: PyTree
    shapes: Shapes = struct.field(pytree_node=False)

    @classmethod
    @checked
    def at_density(
        cls,
        params: Params,
        density: float,
        *,
        rule: Rule = "erk",
        redistribute: bool = True,
        least: int = 0,
        order: Sequence[str] | None = None,
        prunable: Prunable = None,
    ) -> "ErdosRenyiCounts":
        """The counts of :func:`sketchprune.laws.layer_counts` on prunable leaves; other leaves are kept whole.

        Args:
            params: the parameters, of which only shapes count.
            density: in (0, 1], over the prunable weights together.
            rule: how the density is spread over layers.
            redistribute: whether what a full layer cannot take goes to the others. Without it masks realise a smaller
                density: see :func:`sketchprune.laws.realised_density` and :func:`sketchprune.masks.summary`.
            least: how many weights a layer keeps at least.
            order: the paths of the layers, first layer first, for "pyramidal".
            prunable: which leaves are pruned, as for :func:`sketchprune.masks.prunable`.

        Returns:
            The law.

        Raises:
            ValueError: as :func:`sketchprune.laws.layer_counts`.
        """
        chosen = masks.prunable(params, prunable)
        options = {"redistribute": redistribute, "least": least, "order": order, "prunable": chosen}
        counts = layer_counts(params, density, rule, **options)
        whole = jax.tree.map(jnp.size, params)
        counts = jax.tree.map(lambda pruned, kept, size: kept if pruned else size, chosen, counts, whole)
        return cls(counts, _shapes(params))

    @checked
    def sample(self, key: Key) -> Mask:
        """One mask: the k_l largest of uniform noise in each leaf, with a key of its own for each.

        Args:
            key: a key of jax.random.

        Returns:
            A boolean pytree of the given shapes.

        Raises:
            ValueError: for counts that are no whole numbers from 0 to the size of their leaf.

        Cost: O(d).
        """
        self._check()
        return _sample_counts(key, self.counts, self.shapes)

    def inclusion(self) -> PyTree[Float[Array, "..."]]:
        """P(m_i ≠ 0) = k_l/n_l, with n_l the size of the leaf.

        Returns:
            A pytree of the given shapes.

        Raises:
            ValueError: as :meth:`sample`.
        """
        self._check()
        return _broadcast(lambda count, shape: count / math.prod(shape), self.counts, self.shapes)

    @checked
    def error(self, items: Items) -> Float[Array, ""]:
        """E‖Σ(m_i − 1)B_i‖², bias and variance.

        ‖Σ(1 − p_l)B_i‖² + Σ_l p_l(1 − p_l)(n_l Σ_{i∈l}‖B_i‖² − ‖Σ_{i∈l}B_i‖²)/(n_l − 1), p_l = k_l/n_l.

        Args:
            items: the vectors B_i.

        Returns:
            One number.

        Raises:
            ValueError: as :meth:`sample`.

        Cost: O(d) and one combination more than there are leaves.
        """
        rates = jax.tree.map(lambda rate, square: rate.astype(square.dtype), self.inclusion(), items.squares)
        leaves, structure = jax.tree.flatten(rates)
        squares = jax.tree.leaves(items.squares)
        found = items.combination(jax.tree.map(lambda rate: 1 - rate, rates))
        for index, (rate, square) in enumerate(zip(leaves, squares, strict=True)):
            if rate.size < 2:
                continue  # one entry, or none, is kept or not for certain
            alone = [jnp.full_like(leaf, other == index) for other, leaf in enumerate(leaves)]
            whole = items.combination(jax.tree.unflatten(structure, alone))
            spread = (rate.size * jnp.sum(square) - whole) / (rate.size - 1)
            p = rate.ravel()[0]
            found = found + p * (1 - p) * jnp.maximum(spread, 0)
        return found

    def outcomes(self) -> tuple[Mask, Float[Array, "outcomes"]]:
        """Every subset as a mask, in the order of :func:`sketchprune.laws.all_subsets`, with its probability.

        Subsets of other counts are listed, with probability 0.

        Returns:
            The boolean masks, on a leading axis, and the probability of each.

        Raises:
            ValueError: as :meth:`sample`, and for more than 20 items.

        Cost: O(2^d d).
        """
        rates = self.inclusion()
        items = len(joined(rates))
        check_count("counts", items, 2**items)
        found = split(all_subsets(items), rates)
        chances = jnp.ones(2**items, joined(rates).dtype)
        for kept, count in zip(jax.tree.leaves(found), jax.tree.leaves(self.counts), strict=True):
            number = kept.reshape(2**items, -1).sum(axis=1)
            ways = jnp.array([math.comb(kept[0].size, k) for k in range(kept[0].size + 1)], chances.dtype)
            chances = chances * (number == count) / ways[count]
        return found, chances

    def _check(self) -> None:
        for count, shape in zip(jax.tree.leaves(self.counts), self.shapes, strict=True):
            known = _checks.whole("counts", count, least=0)
            if known is not None and (known > math.prod(shape)).any():
                raise ValueError(f"counts has the entry {count}; it takes at most {math.prod(shape)}, the leaf's size")


@functools.partial(jax.jit, static_argnames="shapes")
def _sample_independent(key: Key, densities: PyTree, *, shapes: Shapes) -> Mask:
    leaves, structure = jax.tree.flatten(densities)
    keys = jax.random.split(key, len(leaves))
    kept = [_bernoulli(k, jnp.asarray(p), shape) for k, p, shape in zip(keys, leaves, shapes, strict=True)]
    return jax.tree.unflatten(structure, kept)


def _bernoulli(key: Key, density: Array, shape: tuple[int, ...]) -> Bool[Array, "..."]:
    """Independent entries that are True with the given probability, of one random word each."""
    density = density.astype(jnp.promote_types(density.dtype, jnp.float32))
    width = jnp.finfo(density.dtype).bits
    word = jnp.dtype(f"uint{width}")
    units = jnp.maximum(jnp.round(density * 2.0**width), 1)
    # 2^width does not fit into a word, but the largest word that is kept does.
    last = jnp.where(density < 1, units.astype(word) - 1, ~jnp.zeros((), word))
    return (jax.random.bits(key, shape, word) <= last) & (density > 0)


def _sample_counts(key: Key, counts: PyTree, shapes: Shapes) -> Mask:
    leaves, structure = jax.tree.flatten(counts)
    keys = jax.random.split(key, len(leaves))
    noise = [jax.random.uniform(k, shape, jnp.float32) for k, shape in zip(keys, shapes, strict=True)]
    kept = [masks.keep_top(leaf, count) for leaf, count in zip(noise, leaves, strict=True)]
    return jax.tree.unflatten(structure, kept)


def _broadcast(value: Callable[..., Any], tree: PyTree, shapes: Shapes) -> PyTree[Array]:
    """One array of each shape, filled with what ``value`` makes of the leaf."""
    leaves, structure = jax.tree.flatten(tree)
    filled = [jnp.broadcast_to(value(leaf, shape), shape) for leaf, shape in zip(leaves, shapes, strict=True)]
    return jax.tree.unflatten(structure, filled)


def _shapes(params: Params) -> Shapes:
    return tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(params))


def _densities(
    params: Params,
    density: float,
    rule: Rule,
    redistribute: bool,
    order: Sequence[str] | None,
    prunable: Prunable,
) -> PyTree[float]:
    """One density for each leaf: by the rule where pruning touches it, else 1."""
    leaves, structure = jax.tree.flatten(params)
    layers = layer_order(params, rule, order, prunable)
    found = layer_densities(rule, [jnp.shape(leaves[i]) for i in layers], density, redistribute=redistribute)
    of_leaf = dict(zip(layers, found, strict=True))
    return jax.tree.unflatten(structure, [of_leaf.get(i, np.float64(1)) for i in range(len(leaves))])
