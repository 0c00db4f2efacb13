"""Flow preservation: a few random edges that give every unit an input and every input a unit."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Shaped

from sketchprune import _checks
from sketchprune._arithmetic import decay_and_gain
from sketchprune._boundary import checked
from sketchprune._leaves import chosen_of_mask
from sketchprune.lottery import _inputs
from sketchprune.types import Key, Mask, Prunable


@checked
def repair(key: Key, mask: Mask, *, prunable: Prunable = None) -> Mask:
    """The mask with an edge added wherever a unit or an input of a layer has none; nothing is removed.

    In each layer every unit without a kept input gets one uniformly random edge; then every input that is still
    without one gets one. For a convolution units and inputs are channels and an edge is one weight at a random
    position. Layers are treated independently.

    Leaves that are never pruned stay as they are. Added entries are 1 in the mask's
    dtype, kept ones stay as they are. Repairing twice adds nothing.

    Args:
        key: layer i of those that are pruned, in leaf order, uses ``fold_in(key, i)``.
        mask: one kernel mask [inputs, units] or [rows, columns, inputs, units], or a pytree of them.
        prunable: which leaves are pruned, as for :func:`sketchprune.masks.prunable`.

    Returns:
        The mask, of the same structure, shapes and dtypes.

    Raises:
        ValueError: a pruned leaf that is a vector, or a layer without weights; and as
            :func:`sketchprune.masks.prunable`.

    Cost: O(weights).

    Source: gadhikar2023random, lottery/flow-preservation.

    >>> repair(jax.random.key(0), jnp.array([[True, False]])).tolist()
    [[True, True]]
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(mask)
    layers = [i for i, pruned in enumerate(jax.tree.leaves(chosen_of_mask(mask, prunable))) if pruned]
    for i in layers:
        path, leaf = leaves[i]
        if jnp.ndim(leaf) < 2 or not jnp.size(leaf):
            name = "mask" + jax.tree_util.keystr(path)
            raise ValueError(f"{name} has shape {jnp.shape(leaf)}; it takes [..., inputs, units], each >= 1")
    repaired = [leaf for _, leaf in leaves]
    for i, layer in zip(layers, _repair_layers(key, [repaired[i] for i in layers]), strict=True):
        repaired[i] = layer
    return jax.tree.unflatten(structure, repaired)


@jax.jit
def _repair_layers(key: Key, layers: list[Shaped[Array, "..."]]) -> list[Shaped[Array, "..."]]:
    return [_repair_layer(jax.random.fold_in(key, i), layer) for i, layer in enumerate(layers)]


def _repair_layer(key: Key, mask: Shaped[Array, "*positions inputs units"]) -> Shaped[Array, "*positions inputs units"]:
    *_, inputs, units = mask.shape
    key_units, key_inputs = jax.random.split(key)
    kept = _fill_empty_columns(key_units, (mask != 0).reshape(-1, units))
    # One column for each input: positions and units together in its rows.
    by_input = jnp.swapaxes(kept.reshape(-1, inputs, units), 1, 2)
    by_input = _fill_empty_columns(key_inputs, by_input.reshape(-1, inputs)).reshape(by_input.shape)
    kept = jnp.swapaxes(by_input, 1, 2).reshape(mask.shape)
    return jnp.where(kept & (mask == 0), jnp.ones((), mask.dtype), mask)


def _fill_empty_columns(key: Key, kept: Bool[Array, "rows columns"]) -> Bool[Array, "rows columns"]:
    """One uniformly random entry in each column that has none."""
    rows, columns = kept.shape
    drawn = jax.random.randint(key, (columns,), 0, rows)
    return kept | (~kept.any(0) & (jnp.arange(rows)[:, None] == drawn))


@checked
def expected_added_edges(
    density: Float[ArrayLike, "..."],
    inputs: Int[ArrayLike, "..."],
    units: Int[ArrayLike, "..."],
    positions: Int[ArrayLike, "..."] = 1,
) -> Float[Array, "..."]:
    """The expected number of edges that :func:`repair` adds to a layer kept independently with probability p.

    n(1−p)^{rk} + k((1−p)^r − (1−p)^{rk}/k)^n for k inputs, n units and r positions (r = 1 in a dense layer): the units
    without inputs, and the inputs that are without a unit after those have been served. Accurate for small p.
    Arguments broadcast and may be traced.

    Args:
        density: p, in [0, 1].
        inputs: k, at least 1: inputs, or input channels.
        units: n, at least 1: units, or output channels.
        positions: r, at least 1: rows · columns of a convolution's kernel.

    Returns:
        The expected number, in the dtype of the density.

    Raises:
        ValueError: a density outside [0, 1], or counts below 1.

    Cost: O(1) for each number.

    Source: lottery/flow-preservation.

    >>> float(expected_added_edges(0.5, 1, 3)), float(expected_added_edges(0.0, 2, 1))
    (1.5, 2.0)
    """
    _inputs.probability("density", density)
    for name, count in {"inputs": inputs, "units": units, "positions": positions}.items():
        _checks.whole(name, count, least=1)
    density = jnp.asarray(density)
    density = density.astype(jnp.promote_types(density.dtype, jnp.float32))
    _, connected = decay_and_gain(density, jnp.asarray(positions))
    empty, _ = decay_and_gain(density, jnp.asarray(positions) * jnp.asarray(inputs))
    # 1 minus the probability that one unit, once it has an input, has no edge to a given input.
    fed = jnp.minimum(connected + empty / inputs, 1)
    return jnp.asarray(units) * empty + jnp.asarray(inputs) * jnp.exp(jnp.asarray(units) * jnp.log1p(-fed))
