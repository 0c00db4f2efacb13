"""A model as ``apply(params, x)`` with random parameters, and its batch normalisation with the averages of data."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune._boundary import checked
from sketchprune.types import ApplyFn, Inputs, Key, Params


@checked
def initial(model: nn.Module, key: Key, x: Inputs) -> tuple[ApplyFn, Params]:
    """``apply(params, x) -> [n, k]`` and random parameters, for inputs like x and in their dtype.

    Batch normalisation uses running averages, which ``apply`` closes over and never updates: mean 0 and variance 1. It
    is then one scale (and shift) for each channel, and the network stays homogeneous. To use other averages, see
    :func:`with_averages` (those of some data) and :func:`in_training_mode` (those of each batch).

    Without batch normalisation ``apply`` is the same function for equal models, so that compiled programs are used
    again.

    Args:
        model: A flax module of :mod:`sketchprune.models`, or any whose other collections are constants.
        key: The key of the random parameters.
        x: Floating samples [n, ...]; only the shape of one and the dtype matter.

    Returns:
        The function and the parameters.

    Raises:
        ValueError: An x of whole numbers, such as pixels.

    Example:
        >>> from sketchprune.models import mlp
        >>> apply, params = initial(mlp(4, 3), jax.random.key(0), jnp.ones((5, 2)))
        >>> apply(params, jnp.ones((5, 2))).shape
        (5, 3)
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x has dtype {x.dtype}; it takes floating numbers, whose dtype the parameters get")
    averages = jax.tree.map(functools.partial(_as_floating, x.dtype), dict(_variables(model, key, x[:1])))
    params = averages.pop("params")
    return (_with_constants(model, averages) if averages else _without_constants(model)), params


@checked
def with_averages(model: nn.Module, params: Params, x: Float[Array | np.ndarray, "n ..."]) -> ApplyFn:
    """``apply`` whose batch normalisation has the averages of the samples x at these parameters.

    The averages are taken layer by layer: those of a layer are over inputs that the layers before it normalised. On x
    it computes what training mode computes, yet treats each sample alone.

    Args:
        model: A model with ``norm=True``.
        params: Its parameters.
        x: Samples [n, ...].

    Returns:
        ``apply(params, x) -> [n, k]``.

    Raises:
        ValueError: A model without batch normalisation.

    Cost:
        One forward pass.

    Example:
        >>> from sketchprune.models import Vgg
        >>> model, x = Vgg(stages=((2,),), outputs=1, norm=True), jnp.ones((2, 2, 2, 1))
        >>> _, params = initial(model, jax.random.key(0), x)
        >>> with_averages(model, params, jnp.zeros((1, 2, 2, 1)))(params, 0 * x).tolist()
        [[0.0], [0.0]]
    """
    _check_norm(model)
    return _with_constants(model, _averages(model, params, x))


@checked
@functools.lru_cache
def in_training_mode(model: nn.Module) -> ApplyFn:
    """``apply`` whose batch normalisation has the averages of the batch, as in training.

    The outputs of a sample then depend on its batch. Use it for training (``train.fit``); kernels, flows and scores of
    many samples take samples one by one. Running averages are not kept: for evaluation after training,
    :func:`with_averages` takes those of some data.

    For another flax module with collections that change, close over them: ``lambda params, x: module.apply({"params":
    params, **collections}, x, mutable=list(collections))[0]``.

    Args:
        model: A model with ``norm=True``.

    Returns:
        ``apply(params, x) -> [n, k]``, the same function for equal models.

    Raises:
        ValueError: A model without batch normalisation.

    Example:
        >>> from sketchprune.models import Vgg
        >>> model, x = Vgg(stages=((2,),), outputs=1, norm=True), jnp.ones((3, 2, 2, 1))
        >>> _, params = initial(model, jax.random.key(0), x)
        >>> first, *others = in_training_mode(model)(params, x).tolist()  # equal samples have equal outputs
        >>> all(other == first for other in others)
        True
    """
    _check_norm(model)
    return lambda params, x: model.apply({"params": params}, x, measure=True, mutable=["batch_stats"])[0]


def _check_norm(model: nn.Module) -> None:
    """Refuses a model without batch normalisation."""
    if not getattr(model, "norm", False):
        raise ValueError(f"model is a {type(model).__name__} without batch normalisation; it takes one with norm=True")


@functools.partial(jax.jit, static_argnames=("model",))
def _variables(model: nn.Module, key: Key, x: Array) -> Any:
    return model.init(key, x)


@functools.partial(jax.jit, static_argnames=("model",))
def _averages(model: nn.Module, params: Params, x: Array) -> Any:
    return model.apply({"params": params}, x, measure=True, mutable=["batch_stats"])[1]


def _as_floating(dtype: Any, leaf: Array) -> Array:
    """The leaf in the given dtype, unless it holds no floating numbers."""
    return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _with_constants(model: nn.Module, constants: Any) -> ApplyFn:
    """``apply`` that closes over the collections which are no parameters."""

    def apply(params: Params, x: Inputs) -> Any:
        return model.apply({"params": params, **constants}, x)

    return apply


@functools.lru_cache
def _without_constants(model: nn.Module) -> ApplyFn:
    """The same function for equal models, so that programs compiled for it are found again."""
    return _with_constants(model, {})
