"""What every pruning score does, so that a new score is its formula alone: the decorator `score`.

A formula takes a `Pruned` network and returns arrays shaped like its parameters. The decorator gives it the signature
``(apply, loss, params, batch, *, mask=None, key=None, prunable=None, **options)`` and these conventions:

- The network that is scored has masked parameters, m∘θ.
- Scores are +inf on leaves that are never pruned and −inf where ``mask`` has pruned already. Higher is kept. Which
  leaves may be pruned is chosen by ``prunable``, as for `masks.prunable`.
- Scores have the dtype of the parameters. A formula sees the floating leaves alone, with None where the others are:
  these are never pruned, and handed to ``apply`` as they are.
- NaN passes through, because under a trace it could not be caught; `masks.keep_top` refuses it.
- Samples go through the network in blocks. ``apply`` must treat each sample alone, in evaluation mode, which is checked
  where values are known.
- The formula is compiled once for each apply, loss, options and shape of the arrays.
"""

import functools
import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, overload, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sketchprune import _checks, masks
from sketchprune._boundary import check, shown
from sketchprune._coupling import check_samples_apart
from sketchprune._leaves import beside, check_real, joined, on_floating, split
from sketchprune._static import can_be_hashed, static
from sketchprune.scores import _blocks
from sketchprune.types import ApplyFn, Inputs, Key, LossFn, Mask, Params, Prunable, Scores

BLOCK_SIZE = 256
"""How many samples go through the network at once, unless a score says otherwise."""

Uses = Literal["params", "inputs", "batch"]


class Pruned(NamedTuple):
    """The pruned network that a formula scores.

    Attributes:
        apply: the network, ``apply(params, x) -> [n, k]``; None for a score that uses only parameters.
        loss: ``loss(outputs, targets)``, one number; None unless the score uses the whole batch.
        params: the parameters, masked already.
        x: the inputs [n, ...]; None for a score that uses only parameters.
        y: the targets; None unless the score uses the whole batch.
        mask: the mask as it was given; None where nothing is pruned.
        key: a key of jax.random; None unless the score needs one.
        block_size: how many samples go through the network at once.
        prunable: which leaves may be pruned, a pytree of booleans; None for the default of `masks.prunable`.
    """

    apply: Any
    loss: Any
    params: Params
    x: Any = None
    y: Any = None
    mask: Mask | None = None
    key: Any = None
    block_size: int = BLOCK_SIZE
    prunable: PyTree[bool] | None = None

    def gradient(self) -> Params:
        """∂L/∂θ at the masked parameters.

        The loss sees the outputs of all samples at once, so it need not be a mean.

        Returns:
            Arrays shaped like the parameters; also of pruned weights.

        Cost: one forward and one backward pass; one forward pass more where samples fill several blocks.
        """
        if len(self.x) <= self.block_size:
            return jax.grad(self._loss_of)(self.params)
        outputs = _blocks.mapped(lambda x: self.apply(self.params, x), self.x, self.block_size)
        cotangents = jax.grad(self.loss)(outputs, self.y)
        return self.sum_over_blocks(lambda x, cotangent: self._pullback(x, self.params, cotangent), cotangents)

    def hessian_product(self, direction: Params) -> Params:
        """∂²L/∂θ² times a direction: the derivative of `gradient` along it.

        Args:
            direction: arrays shaped like the parameters.

        Returns:
            Arrays shaped like the parameters.

        Cost: about two gradients.
        """
        if len(self.x) <= self.block_size:
            return jax.jvp(jax.grad(self._loss_of), (self.params,), (direction,))[1]

        def push(x: Inputs) -> tuple[Array, Array]:
            return jax.jvp(lambda params: self.apply(params, x), (self.params,), (direction,))

        def pull(x: Inputs, cotangent: Array, its_change: Array) -> Params:
            at, along = (self.params, cotangent), (direction, its_change)
            return jax.jvp(functools.partial(self._pullback, x), at, along)[1]

        outputs, change = _blocks.mapped(push, self.x, self.block_size)
        cotangents = jax.jvp(lambda outputs: jax.grad(self.loss)(outputs, self.y), (outputs,), (change,))
        return self.sum_over_blocks(pull, *cotangents)

    def sum_over_blocks(self, function: Callable[..., Params], *weights: Array) -> Params:
        """The sum of ``function(x, *weights)`` over blocks of samples.

        Args:
            function: of a block of inputs and of the same block of each of the weights, and linear in the weights.
                The last block is filled up with copies of the last sample that have weight zero.
            weights: arrays with one entry (of any shape) for each sample.

        Returns:
            What ``function`` returns, summed.
        """
        return _blocks.summed(function, self.x, *weights, block_size=self.block_size)

    def zero_unless_kept(self, tree: Params) -> Params:
        """A pytree shaped like the parameters with zeros except at the kept weights of leaves that pruning touches.

        Biases and norm scales, which are never pruned, become zero too.
        """
        mask = tree if self.mask is None else self.mask

        def leaf(prunable: bool, values: Array, kept: Array) -> Array:
            if not prunable:
                return jnp.zeros_like(values)
            return values if self.mask is None else jnp.where(kept != 0, values, 0)

        return jax.tree.map(leaf, masks.prunable(self.params, self.prunable), tree, mask)

    def _loss_of(self, params: Params) -> Float[Array, ""]:
        return self.loss(self.apply(params, self.x), self.y)

    def _pullback(self, x: Inputs, params: Params, cotangent: Array) -> Params:
        return jax.vjp(lambda params: self.apply(params, x), params)[1](cotangent)[0]


@runtime_checkable
class Score(Protocol):
    """A pruning score, as `score` makes it and as `prune`, searches and claims take it."""

    @property
    def __name__(self) -> str: ...

    def __call__(
        self,
        apply: ApplyFn | None,
        loss: LossFn | None,
        params: Params,
        batch: tuple[Any, Any] | None,
        *,
        mask: Mask | None = None,
        key: Key | None = None,
        prunable: Prunable = None,
        **options: Any,
    ) -> Scores:
        """Scores shaped like the parameters."""
        ...


@overload
def score(formula: Callable[..., Params], /) -> Score: ...
@overload
def score(
    *, uses: Uses = "batch", needs_key: str | None = None, block_size: int = BLOCK_SIZE
) -> Callable[..., Score]: ...
def score(
    formula: Callable[..., Params] | None = None,
    /,
    *,
    uses: Uses = "batch",
    needs_key: str | None = None,
    block_size: int = BLOCK_SIZE,
) -> Score | Callable[..., Score]:
    """Turns a formula into a score; ``@score`` and ``@score(uses=…)`` both work.

    Keyword-only arguments of the formula are options of the score. Options are compared by value and must be hashable.
    What the score does not use is not passed on: a score of the parameters alone is compiled once whatever the network,
    and targets that are not used need not be arrays.

    Args:
        formula: ``formula(net: Pruned, **options)``, which returns arrays shaped like the parameters.
        uses: "params"; or "inputs", the network and the inputs; or "batch", the network, the loss, inputs and targets.
        needs_key: why a key is needed, as the end of the message that is raised without one. None: no key is passed on.
        block_size: how many samples go through the network at once.

    Returns:
        A function with the signature of `Score`.

    Raises:
        ValueError: by the score, for parameters without a floating leaf or with what is no array, a mask of another
            shape, a missing key, options that cannot be hashed, and a formula whose result is not shaped like the
            parameters.

    >>> @score(uses="params")
    ... def distance(net, *, center=0.0):
    ...     return jax.tree.map(lambda w: abs(w - center), net.params)
    >>> distance(None, None, jnp.array([1.0, 4.0]), None, center=2.0).tolist()
    [1.0, 2.0]
    """

    def decorated(formula: Callable[..., Params]) -> Score:
        return _with_conventions(formula, uses, needs_key, block_size)

    return decorated if formula is None else decorated(formula)


def _with_conventions(formula: Callable[..., Params], uses: Uses, needs_key: str | None, block_size: int) -> Score:
    """The score of a formula."""
    options_of = {
        name: parameter
        for name, parameter in inspect.signature(formula).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }

    @functools.wraps(formula)
    def scored(
        apply: ApplyFn | None,
        loss: LossFn | None,
        params: Params,
        batch: tuple[Any, Any] | None,
        *,
        mask: Mask | None = None,
        key: Key | None = None,
        prunable: Prunable = None,
        **options: Any,
    ) -> Scores:
        _check_parameters(params, mask, prunable)
        chosen = _hashable_options(formula, options_of, options)
        key = None if needs_key is None else _checks.needed(key, needs_key)
        check("key", key, Key | None)
        apply, loss, x, y = _used(uses, apply, loss, batch)
        if apply is not None:
            check_samples_apart(apply, params, x)
        return _compiled(
            params,
            x,
            y,
            mask,
            key,
            formula=formula,
            apply=None if apply is None else static(apply),
            loss=None if loss is None else static(loss),
            options=chosen,
            block_size=block_size,
            prunable=tuple(jax.tree.leaves(masks.prunable(params, prunable))),
        )

    common = [each for name, each in inspect.signature(Score.__call__).parameters.items() if name != "self"]
    vars(scored).update(
        __signature__=inspect.Signature([*common[:-1], *options_of.values()], return_annotation=Scores),
        uses=uses,
        # For the contract check: blocks must not change a score.
        with_block_size=functools.partial(_with_conventions, formula, uses, needs_key),
    )
    return scored


def _used(uses: Uses, apply: Any, loss: Any, batch: Any) -> tuple[Any, Any, Any, Any]:
    """What a score uses of the network, the loss, the inputs and the targets, checked; None for the rest."""
    if uses == "params":
        return None, None, None, None
    check("apply", apply, ApplyFn)
    x, y = _inputs_and_targets(batch)
    if uses == "inputs":
        return apply, None, x, None
    check("loss", loss, LossFn)
    _check_as_many(x, y)
    return apply, loss, x, y


def _check_parameters(params: Params, mask: Mask | None, prunable: Prunable) -> None:
    """Refuses what is no pytree of arrays with a floating one, and masks of another shape."""
    check("params", params, Params)
    check("mask", mask, Mask | None)
    check("prunable", prunable, Prunable)
    check_real("params", params)


def _hashable_options(
    formula: Callable[..., Params], known: Mapping[str, inspect.Parameter], given: Mapping[str, Any]
) -> tuple[tuple[str, Hashable], ...]:
    """All options with their values, defaults included, as a static argument."""
    name = formula.__name__
    for option, value in given.items():
        if option not in known:
            raise TypeError(f"{name}() got an unexpected keyword argument {option!r}")
        if not callable(value) and not can_be_hashed(value):
            raise ValueError(f"{option} is {value}; it takes a hashable value, since {name} is compiled for each value")
        annotation = known[option].annotation
        if annotation is not inspect.Parameter.empty and not isinstance(annotation, str):
            check(option, value, annotation)
    defaults = {option: each.default for option, each in known.items() if each.default is not each.empty}
    values = defaults | dict(given)
    return tuple((option, static(value) if callable(value) else value) for option, value in sorted(values.items()))


def _inputs_and_targets(batch: Any) -> tuple[Any, Any]:
    """The two parts of a batch."""
    if not isinstance(batch, Sequence) or isinstance(batch, str | bytes) or len(batch) != 2:
        raise ValueError(f"batch is {shown(batch)}; it takes (inputs, targets)")
    x, y = batch
    check("batch[0]", x, Inputs)
    if not jnp.ndim(x) or not len(x):
        raise ValueError(f"batch[0] has shape {jnp.shape(x)}; it takes samples on the first axis, at least one")
    return x, y


def _check_as_many(x: Inputs, y: Any) -> None:
    """Refuses arrays of targets that are more or fewer than the samples."""
    if getattr(y, "shape", ()) and len(y) != len(x):
        raise ValueError(f"batch has {len(x)} inputs and {len(y)} targets; it takes as many of each")


@functools.partial(jax.jit, static_argnames=("formula", "apply", "loss", "options", "block_size", "prunable"))
def _compiled(params, x, y, mask, key, *, formula, apply, loss, options, block_size, prunable) -> Scores:
    masked = params if mask is None else masks.apply(params, mask)
    chosen = jax.tree.structure(params).unflatten(prunable)
    params, others = split(params)
    masked, chosen, mask = (None if tree is None else beside(params, tree) for tree in (masked, chosen, mask))
    network = None if apply is None else on_floating(apply, others)
    net = Pruned(network, loss, masked, x, y, mask, key, block_size, chosen)
    found = formula(net, **dict(options))
    _check_shapes(formula.__name__, found, params)

    def leaf(prunable: bool, weight: Array, found: Array, kept: Array | None = None) -> Array:
        value = jnp.asarray(found).astype(jnp.result_type(weight))
        if not prunable:
            return jnp.full_like(value, jnp.inf)
        return value if kept is None else jnp.where(kept != 0, value, -jnp.inf)

    scores = jax.tree.map(leaf, chosen, params, found, *(() if mask is None else (mask,)))
    dtype = jnp.result_type(*jax.tree.leaves(params))
    return joined(scores, jax.tree.map(lambda leaf: jnp.full(jnp.shape(leaf), jnp.inf, dtype), others))


def _check_shapes(name: str, found: Any, params: Params) -> None:
    """Refuses a formula whose result is not shaped like the parameters."""
    _checks.same_structure(f"what {name} returns", found, "params", params)
    for (path, weight), value in zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(found), strict=True):
        if jnp.shape(value) != jnp.shape(weight):
            label = f"params{jax.tree_util.keystr(path)}"
            raise ValueError(f"{name} returns the shape {jnp.shape(value)} for {label}; it takes {jnp.shape(weight)}")
