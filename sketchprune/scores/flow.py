"""Scores that are flows along paths: SynFlow, its squares, and the trace of the path kernel.

A flow goes through the network with its activations left out, from one input of ones, or with ``inputs="data"`` from
the mean of |x|^q over the batch, q being the power of the weights. Flows use neither ``loss`` nor targets nor ``key``.

**Scale.** Scores are exact while the largest lies between about 1e-10 and 1e19 in float32 (1e-77 and 1e154 in float64).
Beyond that all of them are multiplied by one power of two that brings it there. Within a layer the limits are those of
`sketchprune.paths`.

**Max pooling and biases** have no paths. As in the code of SynFlow's authors, max pooling passes on its largest entry,
and a bias or shift b is an edge |b|^q from an input of one.

**Batch normalisation** must have running means of zero, as at the start; others are refused with a ValueError. The
authors' code subtracts the size of the mean there: units become negative, their ReLUs close, and the scores are no
longer those of a flow.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from sketchprune.paths._derivatives import SquaredNetwork, squared_network
from sketchprune.paths._exponents import Exponent, exponent_of, power_of_two, scaled
from sketchprune.paths._flow import Flow, Leaves, alive, flow
from sketchprune.scores.contract import Pruned, score
from sketchprune.types import Params


@score(uses="inputs")
def synflow(net: Pruned, *, inputs: str = "ones") -> Params:
    """Synaptic flow, |θ_i| ∂R_1/∂|θ_i| = Σ_{p∋i} |v_p|: the sum over the paths through weight i.

    Each layer sums to R_1.

    Args:
        net: the network, its inputs and its mask.
        inputs: "ones", or "data" for the mean of |x| over the batch.

    Returns:
        Scores >= 0 shaped like the parameters, up to one power of two for all.

    Raises:
        ValueError: for another value of ``inputs``, and for networks whose outputs are no sums over paths, such as
            those that multiply two functions of x.

    Cost: one forward and one backward pass on one sample; three of each where these show that heavy weights on no path
    could matter.
    Source: tanaka2020synflow, paths/conservation, sketch/linear-scores.

    >>> batch = (jnp.ones((5, 2)), None)
    >>> synflow(lambda w, x: x @ w, None, jnp.array([1.0, -2.0]), batch).tolist()
    [1.0, 2.0]
    """
    return _shares_of_flow(net, 1, inputs, "conserved")


@score(uses="inputs")
def synflow_l2(net: Pruned, *, inputs: str = "ones", form: str = "conserved") -> Params:
    """Synaptic flow of squares in one of its three published forms.

    - "conserved": θ_i² ∂R_2/∂(θ_i²) = Σ_{p∋i} v_p². Each layer sums to R_2.
    - "authors": θ_i² ∂R_1/∂|θ_i| = |θ_i| Σ_{p∋i} |v_p|, as in the code of the paper's authors.
    - "later": |θ_i| ∂R_2/∂(θ_i²), which is Σ_{p∋i} v_p²/|θ_i|, as in later code; 0 at θ_i = 0.

    The last two do not sum to the same in every layer (paths/conservation-variants).

    Args:
        net: the network, its inputs and its mask.
        inputs: "ones", or "data" for the mean over the batch of |x|^q, where q is that of R_q above.
        form: which of the three.

    Returns:
        Scores >= 0 shaped like the parameters, up to one power of two for all.

    Raises:
        ValueError: for another value of ``form``, and as `synflow`.

    Cost: that of `synflow`.
    Source: gebhart2021paths, paths/conservation.

    >>> layers, batch = [jnp.array([[2.0]]), jnp.array([[-4.0]])], (jnp.ones((5, 1)), None)
    >>> for form in ("conserved", "authors", "later"):
    ...     first, second = synflow_l2(lambda p, x: x @ p[0] @ p[1], None, layers, batch, form=form)
    ...     print(form, first.item(), second.item())
    conserved 64.0 64.0
    authors 16.0 32.0
    later 32.0 16.0
    """
    if form not in ("conserved", "authors", "later"):
        raise ValueError(f"form is {form!r}; it takes 'conserved', 'authors' or 'later'")
    return _shares_of_flow(net, 1 if form == "authors" else 2, inputs, form)


@score(uses="inputs")
def path_trace(net: Pruned, *, inputs: str = "ones") -> Params:
    """What a weight contributes to the trace of the path kernel, ∂R_2/∂(θ_i²): the squared length of its column of J.

    Over the kept weights it sums to Tr Π. With ``inputs="data"``, and averaged over the signs of the weights, it is in
    proportion to what the weight contributes to the trace of the tangent kernel (`ntk_trace`).

    Args:
        net: the network, its inputs and its mask.
        inputs: "ones", or "data" for the mean of x² over the batch.

    Returns:
        Scores >= 0 shaped like the parameters, up to one power of two for all.

    Raises:
        ValueError: as `synflow`, and where a path uses a weight twice.

    Cost: one forward and one backward pass on one sample, two of each where weights or inputs are zero.
    Source: gebhart2021paths, paths/trace, paths/sign-average.

    >>> layers, batch = [jnp.array([[2.0]]), jnp.array([[3.0]])], (jnp.ones((5, 1)), None)
    >>> [layer.item() for layer in path_trace(lambda p, x: x @ p[0] @ p[1], None, layers, batch)]
    [9.0, 4.0]
    """
    network = _squared_network(net, inputs)
    values, exponent = network.slopes()
    return _like_params(net, _representable(_kept(network, values), exponent))


@score(uses="inputs")
def trace_drop(net: Pruned, *, inputs: str = "ones") -> Params:
    """By how much removing a weight lowers the trace of the path kernel, ∂R_2/∂(θ_i²) + θ_i² ∂Tr Π/∂(θ_i²).

    This is the exact change, not a first-order one. Each layer sums to Tr Π.

    Args:
        net: the network, its inputs and its mask.
        inputs: "ones", or "data" for the mean of x² over the batch.

    Returns:
        Scores >= 0 shaped like the parameters, up to one power of two for all.

    Raises:
        ValueError: as `path_trace`.

    Cost: one Hessian-vector product on one sample; otherwise that of `path_trace`.
    Source: paths/trace-drop.

    >>> layers, batch = [jnp.array([[2.0]]), jnp.array([[3.0]])], (jnp.ones((5, 1)), None)
    >>> [layer.item() for layer in trace_drop(lambda p, x: x @ p[0] @ p[1], None, layers, batch)]
    [13.0, 13.0]
    """
    network = _squared_network(net, inputs)
    values, exponent = network.removal_drops()
    return _like_params(net, _representable(_kept(network, values), exponent))


# --- Shares of R_q


class _Shares(NamedTuple):
    """Scores from one evaluation of the flow."""

    values: Leaves
    reliable: Bool[Array, ""]
    """Whether no heavy weight on no path can have cost them their precision."""


def _shares_of_flow(net: Pruned, power: int, inputs: str, form: str) -> Params:
    """|θ_i|^q ∂R_q/∂|θ_i|^q, or one of the other forms."""
    fed = _fed(net, power, inputs)

    def without_dead_weights() -> Leaves:
        kept = jax.tree.map(lambda leaf: leaf != 0, net.params)
        return _shares(net, alive(net.apply, net.params, fed, kept, allow_max_and_bias=True), fed, power, form).values

    # Heavy weights on no path are rare, so the passes that find them are made only where they could matter.
    first = _shares(net, net.params, fed, power, form)
    # Zeros where the first are good cost less than copies of them.
    zeros = [jnp.zeros_like(leaf) for leaf in first.values]
    second = lax.cond(first.reliable, lambda: zeros, without_dead_weights)
    return _like_params(net, [jnp.where(first.reliable, *pair) for pair in zip(first.values, second, strict=True)])


def _shares(net: Pruned, params: Params, fed: Float[Array, "..."], power: int, form: str) -> _Shares:
    """One evaluation of the flow at these parameters."""
    found = flow(net.apply, params, fed, power, allow_max_and_bias=True)
    (total, (exponent, lost_bits)), slopes = jax.value_and_grad(found.total_and_lost_bits, has_aux=True)(found.powers)
    products = [slope * part for slope, part in zip(slopes, found.powers, strict=True)]
    info = jnp.finfo(total.dtype)
    reliable = (total > 0) & (lost_bits < info.maxexp // 2) & jnp.isfinite(_largest(products))
    if form == "authors":
        products, exponent = _times_sizes(found, params, products, exponent)
    elif form == "later":
        products, exponent = _times_sizes(found, params, slopes, exponent, per_square=True)
    return _Shares(_representable(products, exponent), reliable)


def _times_sizes(
    found: Flow, params: Params, factors: Leaves, exponent: Exponent, *, per_square: bool = False
) -> tuple[Leaves, Exponent]:
    """factors·|θ|, where factors have the exponent of R_q; with ``per_square`` they are slopes in θ²."""
    terms = []
    for leaf, factor, own in zip(jax.tree.leaves(params), factors, found.exponents, strict=True):
        size = abs(leaf) * power_of_two(-own, leaf.dtype)  # of |θ| = size * 2**own
        # The slope in a weight that is zero may be larger than all others, and would then set the scale.
        factor = jnp.where(size > 0, factor, 0)
        shift = exponent_of(factor)
        terms.append((scaled(factor, -shift) * size, exponent + shift + (-own if per_square else own)))
    return _aligned(terms)


def _fed(net: Pruned, power: int, inputs: str) -> Float[Array, "..."]:
    """The input of a flow: ones, or the mean of |x|^q."""
    dtype = jnp.result_type(*jax.tree.leaves(net.params))
    if inputs not in ("ones", "data"):
        raise ValueError(f"inputs is {inputs!r}; it takes 'ones' or 'data'")
    if inputs == "ones":
        return jnp.ones(net.x.shape[1:], dtype)
    return jnp.mean(abs(net.x).astype(dtype) ** power, axis=0)


# --- The squared network


def _squared_network(net: Pruned, inputs: str) -> SquaredNetwork:
    """R_2 and its derivatives in the squared weights."""
    return squared_network(net.apply, net.params, _fed(net, 2, inputs), net.mask, allow_max_and_bias=True)


def _kept(network: SquaredNetwork, values: Leaves) -> Leaves:
    """Zeros where the mask has pruned: those slopes are no scores, so they must not set the scale."""
    return [kept * value for kept, value in zip(network.kept, values, strict=True)]


def _like_params(net: Pruned, leaves: Leaves) -> Params:
    """Leaves as a pytree of the parameters' structure."""
    return jax.tree.unflatten(jax.tree.structure(net.params), leaves)


# --- Powers of two


def _representable(values: Leaves, exponent: Exponent) -> Leaves:
    """The values * 2**exponent, or times another power of two that brings the largest into the range of the dtype."""
    bits = jnp.finfo(values[0].dtype).maxexp
    largest = exponent + exponent_of(_largest(values))
    shift = jnp.clip(largest, -bits // 4, bits // 2) - largest
    return [scaled(value, exponent + shift) for value in values]


def _aligned(terms: list[tuple[Float[Array, "..."], Exponent]]) -> tuple[Leaves, Exponent]:
    """Arrays with exponents of their own brought to one exponent, at which the largest entry is about one."""
    lowest = jnp.iinfo(jnp.int32).min // 2
    tops = [jnp.where(jnp.any(values > 0), exponent + exponent_of(values), lowest) for values, exponent in terms]
    common = jnp.stack(tops).max()
    return [scaled(values, exponent - common) for values, exponent in terms], common


def _largest(values: Leaves) -> Float[Array, ""]:
    """The largest entry of all leaves."""
    return jnp.stack([jnp.max(value, initial=0) for value in values]).max()
