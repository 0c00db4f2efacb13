"""What every kernel computation begins with: checked arguments, and the network with its structure and mask."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from sketchprune import _checks
from sketchprune._leaves import check_real, is_floating
from sketchprune.kernels.structure import Structure, read
from sketchprune.types import ApplyFn, Inputs, Mask, Params


class MaskLeaves(NamedTuple):
    """A checked mask, leaf by leaf.

    Attributes:
        arrays: The mask of each parameter leaf; None where it changes nothing.
        bounds: For each leaf a bound on the number of entries that are not zero; None where there is no mask or its
            values are unknown. Compiled programs depend on it.
    """

    arrays: list[Any]
    bounds: tuple[int | None, ...]


class Selection(NamedTuple):
    """What a mask says of one leaf.

    Attributes:
        weight: The factor of each entry's Jacobian column; ones where there is no mask.
        masked: Whether there is a mask.
        kept: A bound on how many weights are not zero, or None where the values are unknown.
    """

    weight: Float[Array, "..."]
    masked: bool
    kept: int | None


class Network(NamedTuple):
    """A network inside a compiled program.

    Attributes:
        structure: Its program and layers.
        leaves: Its parameter leaves.
        selections: What the mask says of each leaf.
        outputs: The number of outputs, K.
        dtype: The dtype of the outputs.
    """

    structure: Structure
    leaves: list[Any]
    selections: list[Selection]
    outputs: int
    dtype: DTypeLike


def check_inputs(x1: Any, x2: Any = None) -> None:
    """Raise ValueError unless the inputs are arrays of samples of one shape, at least one sample each."""
    for name, x in (("x1" if x2 is not None else "x", x1), ("x2", x2)):
        if x is not None and not hasattr(x, "dtype"):
            raise ValueError(f"{name} is a {type(x).__name__}; it takes an array, samples on the first axis")
        if x is not None and (not jnp.ndim(x) or not len(x)):
            raise ValueError(f"{name} has shape {jnp.shape(x)}; it takes at least one sample, on the first axis")
    if x2 is not None and jnp.shape(x1)[1:] != jnp.shape(x2)[1:]:
        raise ValueError(f"x2 holds samples of shape {jnp.shape(x2)[1:]}; it takes those of x1, {jnp.shape(x1)[1:]}")


def mask_leaves(params: Params, mask: Mask | None) -> MaskLeaves:
    """The mask leaf by leaf, with bounds on what it keeps. Raises ValueError for a mask that does not fit."""
    named, _ = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path) for path, _ in named]
    leaves = [leaf for _, leaf in named]
    check_real("params", params)
    if mask is None:
        return MaskLeaves([None] * len(leaves), (None,) * len(leaves))
    _checks.same_structure("mask", mask, "params", params)
    arrays = [
        _checked_mask(f"mask{name}", leaf, own)
        for name, leaf, own in zip(names, leaves, jax.tree.leaves(mask), strict=True)
    ]
    return MaskLeaves(arrays, _stable_bounds([_count_kept(array) for array in arrays], leaves))


def _checked_mask(name: str, leaf: Any, mask: Any) -> Any:
    """The mask of one leaf; None where it changes nothing."""
    if jnp.shape(mask) != jnp.shape(leaf):
        raise ValueError(f"{name} has shape {jnp.shape(mask)}; it takes that of its parameter, {jnp.shape(leaf)}")
    dtype = jnp.result_type(mask)
    if dtype != jnp.bool_ and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{name} has dtype {dtype}; it takes booleans or floating numbers")
    known = _checks.concrete(mask)
    changes_nothing = known is not None and (known == 1).all()
    return mask if is_floating(leaf) and not changes_nothing else None


def _count_kept(mask: Any) -> int | None:
    """How many entries are not zero; None without a mask and while its values are unknown."""
    known = None if mask is None else _checks.concrete(mask)
    return None if known is None else int(np.count_nonzero(known))


def _stable_bounds(kept: Sequence[int | None], leaves: Sequence[Any]) -> tuple[int | None, ...]:
    """Bounds on the numbers kept that are the same for nearly all random masks of one law.

    Compiled programs depend on these bounds, so masks of one density should share them. A leaf's bound is what a random
    mask keeps of it at most, up to four standard deviations, at a density that starts from that of all leaves together,
    rounded up to a power of 2^(1/4):

    - If the leaf keeps more than the bound, the density is doubled until it does not.
    - While more than 64 entries are expected and the leaf keeps at most half of them, the density is halved.
    """
    sizes = [jnp.size(leaf) for count, leaf in zip(kept, leaves, strict=True) if count is not None]
    total = sum(count for count in kept if count is not None)
    if not total:
        return tuple(kept)
    density = 2.0 ** (math.ceil(4 * math.log2(total / sum(sizes))) / 4)

    def bound(count: int, size: int) -> int:
        expected = density * size
        while expected > 64 and 2 * count <= expected:
            expected /= 2
        while expected + 4 * expected**0.5 < count:
            expected *= 2
        return min(size, math.ceil(expected + 4 * expected**0.5))

    return tuple(
        None if count is None else bound(count, jnp.size(leaf)) for count, leaf in zip(kept, leaves, strict=True)
    )


def network(
    apply: ApplyFn, params: Params, masks: Sequence[Any], x: Inputs, *, bounds: Sequence[int | None] | None = None
) -> Network:
    """The network with its structure and mask, from the two parts of a `MaskLeaves`.

    Without ``bounds`` the mask's values count as unknown. Raises ValueError when ``apply`` does not fit the inputs.
    """
    outputs = outputs_of(apply, params, x)
    structure = read(apply, params, jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype))
    (alone,) = structure.program.out_avals
    if alone.shape != (1, outputs.shape[1]):
        raise ValueError(
            f"apply returns shape {alone.shape} for one sample and {outputs.shape} for {len(x)}; "
            "it takes an apply that treats samples one by one"
        )
    leaves = jax.tree.leaves(params)
    bounds = [None] * len(leaves) if bounds is None else bounds
    selections = [
        _selection(leaf, mask, bound, outputs.dtype) for leaf, mask, bound in zip(leaves, masks, bounds, strict=True)
    ]
    return Network(structure, leaves, selections, outputs.shape[1], outputs.dtype)


def outputs_of(apply: ApplyFn, params: Params, x: Inputs) -> jax.ShapeDtypeStruct:
    """Shape [N, K] and dtype of the outputs."""
    outputs = jax.eval_shape(apply, params, x)
    shape = getattr(outputs, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != len(x) or not shape[1]:
        raise ValueError(
            f"apply returns {outputs if shape is None else f'shape {shape}'} for {len(x)} samples; "
            f"it takes an apply that returns one row of outputs for each, ({len(x)}, K)"
        )
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ValueError(f"apply returns {outputs.dtype}; it takes an apply with real floating outputs")
    return outputs


def _selection(leaf: Any, mask: Any, bound: int | None, dtype: DTypeLike) -> Selection:
    """The weights that a mask gives to the columns of one leaf."""
    if mask is None:
        return Selection(jnp.ones(jnp.shape(leaf), dtype), False, jnp.size(leaf))
    # Without the barrier the compiler would take minutes to evaluate what is done with a large constant mask.
    weight = lax.optimization_barrier(jnp.asarray(mask)).astype(dtype)
    return Selection(weight, True, bound)
