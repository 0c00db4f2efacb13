"""Networks must treat each sample alone: a batch of two is compared with its samples one by one."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sketchprune import _checks
from sketchprune._static import static
from sketchprune.types import Params


def check_samples_apart(apply: Any, params: Params, x: Any, other: Any = None) -> None:
    """Refuses a network whose outputs for two samples depend on each other. Not under a trace, nor of one sample.

    Args:
        apply: the network.
        params: its parameters.
        x: samples, of which the first is taken, and the last that differs from it.
        other: samples, of which the last is taken instead.

    Cost: a forward pass of two samples, and of each of them; compiled once for each network.
    """
    if any(map(_checks.traced, jax.tree.leaves((params, x, other)))) or (other is None and len(x) == 1):
        return
    pair = x[jnp.array([0, _unlike_first(x)])] if other is None else jnp.concatenate([x[:1], other[-1:]])
    apply = static(apply)
    two, one = (jax.eval_shape(apply, params, samples) for samples in (pair, pair[:1]))
    shapes = [getattr(outputs, "shape", ()) for outputs in (two, one)]
    if shapes != [(2, *shapes[0][1:]), (1, *shapes[0][1:])] or not jnp.issubdtype(two.dtype, jnp.floating):
        return  # the function that asks says what is wrong with the outputs
    found = _outputs_of_two(params, pair, apply=apply)
    if any(map(_checks.traced, found)):  # apply is made of traced values
        return
    together, apart = map(np.asarray, found)
    largest = np.max(abs(apart), where=np.isfinite(apart), initial=0)
    tolerance = float(jnp.finfo(apart.dtype).eps) ** 0.5 * largest
    if not np.allclose(together, apart, rtol=0, atol=tolerance, equal_nan=True):
        raise ValueError(
            "apply couples samples, as batch normalisation and dropout in training mode do; it takes a network that "
            "treats each sample alone: with running averages, and without dropout"
        )


def _unlike_first(x: Any) -> int:
    """The last sample that is not equal to the first; the last where all are equal."""
    with jax.ensure_compile_time_eval():  # x is known, though what surrounds it may be traced
        if jnp.any(x[-1] != x[0]):
            return len(x) - 1
    values = np.asarray(x).reshape(len(x), -1)
    unlike = np.flatnonzero(np.any(values != values[0], axis=1))
    return int(unlike[-1]) if unlike.size else len(x) - 1


@functools.partial(jax.jit, static_argnames="apply")
def _outputs_of_two(params: Params, x: Array, *, apply: Any) -> tuple[Array, Array]:
    """The outputs for two samples together, and for each of them alone."""
    # Else an accelerator rounds products of one sample and of two in different ways, and coarsely.
    with jax.default_matmul_precision("highest"):
        return apply(params, x), jnp.concatenate([apply(params, x[:1]), apply(params, x[1:])])
