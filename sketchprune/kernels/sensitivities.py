"""The parts of one sample's Jacobian: the inputs of a network's layers and the sensitivities of their results."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from sketchprune._jaxpr import Environment, aval
from sketchprune.kernels._fast_equations import evaluate_fast
from sketchprune.kernels.structure import Layer, Structure, View


class Sensitivities(NamedTuple):
    """What one sample's Jacobian is made of, in the dtype of the outputs.

    Attributes:
        inputs: a of each layer.
        outputs: g of each layer.
        jacobians: The plain Jacobian of each leaf that no layer holds.
    """

    inputs: list[Float[Array, "q t i"]]
    outputs: list[Float[Array, "k q t j"]]
    jacobians: list[Float[Array, "k p"]]


def sensitivities(
    structure: Structure, leaves: Sequence[Shaped[Array, "..."]], sample: Shaped[Array, "1 ..."]
) -> Sensitivities:
    """The factors a and g of each layer's Jacobian, J[k, q, j, i] = Σ_t a[q, t, i] g[k, q, t, j], at one sample.

    A zero is added to the result of each layer's product; its cotangent is the sensitivity g.

    Args:
        structure: What `structure.read` found.
        leaves: The parameter leaves.
        sample: One sample [1, ...].

    Returns:
        The inputs and sensitivities of the layers, and the Jacobians of the plain leaves.

    Cost:
        One forward pass and K pullbacks, vmapped.

    Example:
        >>> from sketchprune.kernels.structure import read
        >>> found = read(lambda w, x: jnp.tanh(x @ w), jnp.ones((3, 1)), jnp.ones((1, 3)))
        >>> parts = sensitivities(found, [jnp.zeros((3, 1))], jnp.array([[1.0, 2.0, 3.0]]))
        >>> parts.inputs[0].tolist(), parts.outputs[0].tolist()
        ([[[1.0, 2.0, 3.0]]], [[[[1.0]]]])
    """
    program, layers, plain = structure
    jaxpr = program.jaxpr
    layer_at = {layer.position: number for number, layer in enumerate(layers)}

    def tapped(taps: list[Array], differentiated: list[Array]) -> tuple[Array, list[Array]]:
        """The outputs and the layers' inputs, with ``taps`` added to the results of the products."""
        arguments = [*leaves, sample]
        for leaf, traced in zip(plain, differentiated, strict=True):
            arguments[leaf] = traced
        values = Environment(program, arguments)
        for position, equation in enumerate(jaxpr.eqns):
            results = evaluate_fast(jaxpr, equation, values.read_all(equation.invars))
            if position in layer_at:
                results = [results[0] + taps[layer_at[position]]]
            values.write(equation.outvars, results)
        inputs = [_layer_input(layer, jaxpr.eqns[layer.position], values) for layer in layers]
        return values.read(jaxpr.outvars[0])[0], inputs

    products = [aval(jaxpr.eqns[layer.position].outvars[0]) for layer in layers]
    taps = [jnp.zeros(product.shape, product.dtype) for product in products]
    outputs, pullback, inputs = jax.vjp(tapped, taps, [leaves[leaf] for leaf in plain], has_aux=True)
    cotangents, jacobians = jax.vmap(pullback)(jnp.eye(outputs.size, dtype=outputs.dtype))
    found = Sensitivities(
        inputs,
        [jax.vmap(layer.output_layout)(g) for layer, g in zip(layers, cotangents, strict=True)],
        [jacobian.reshape(outputs.size, -1) for jacobian in jacobians],
    )
    return jax.tree.map(lambda part: part.astype(outputs.dtype), found)


def _layer_input(layer: Layer, equation: JaxprEqn, values: Environment) -> Float[Array, "q t i"]:
    """The factor a of a layer: its input times the weight's scalar factors, then the constant input of the bias."""
    dtype = aval(equation.outvars[0]).dtype
    entries = layer.input_layout(values.read(equation.invars[layer.operand])).astype(dtype)
    if layer.weight.factors:
        entries = entries * _factor(layer.weight, values, dtype)
    if layer.bias is None:
        return entries
    ones = jnp.broadcast_to(_factor(layer.bias, values, dtype), (*entries.shape[:2], 1))
    return jnp.concatenate([entries, ones], axis=2)


def _factor(view: View, values: Environment, dtype: DTypeLike) -> Shaped[Array, ""]:
    """The product of the scalars that scale a view of a leaf."""
    scale = jnp.ones((), dtype)
    for atom, divides in view.factors:
        factor = values.read(atom)
        scale = scale / factor if divides else scale * factor
    return scale.astype(dtype)
