"""Reads a network's jaxpr: which equation consumes which parameter, its input, its output sensitivity.

A parameter leaf that one product consumes (`dot_general`, or `conv_general_dilated` as its kernel) has the
Jacobian J[k, q, j, i] = Σ_t a[q, t, i] g[k, q, t, j]: a is what the product was fed, g the sensitivity of
output k to what came out; q runs over groups, t over positions (one for a dense layer on a vector), i over
inputs or patch entries, j over outputs. All that the kernels do faster than the plain Jacobian follows from
this form. A bias is the weight of an input that is always one. A leaf consumed in any other way is left to
plain differentiation.

Everything here concerns one sample: callers vmap.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var, primitives
from jaxtyping import Array, Float, PyTree, Shaped

from sketchprune.kernels._evaluation import evaluate, evaluate_fast
from sketchprune.kernels._layouts import Layout, aval, convolution, dot
from sketchprune.types import ApplyFn, Params

Atom = Var | Literal
Leaves = Sequence[Shaped[Array, "..."]] | Mapping[int, Shaped[Array, "..."]]


class View(NamedTuple):
    """A leaf after equations that keep its Gram matrix: moved, and times scalars or their inverses."""

    leaf: int
    moves: tuple[Layout, ...] = ()
    factors: tuple[tuple[Atom, bool], ...] = ()

    def of(self, leaves: Leaves) -> Shaped[Array, "..."]:
        """The leaf's entries (or its mask's) where this view has them; the factors are left out."""
        entries = leaves[self.leaf]
        for move in self.moves:
            entries = move(entries)
        return entries


class Layer(NamedTuple):
    """One product of the network, in the form J[k, q, j, i] = Σ_t a[q, t, i] g[k, q, t, j]."""

    position: int
    """Which equation of the program."""
    operand: int
    """Which operand of it is the input, the other being the weight."""
    weight: View
    bias: View | None
    input_layout: Layout
    """From the operand to [q, t, i], the bias not yet counted."""
    output_layout: Layout
    """From the result to [q, t, j]."""
    groups: int
    positions: int
    inputs: int
    """With a bias one more than the product has: the last input is the one that is always one."""
    outputs: int

    @property
    def leaves(self) -> tuple[int, ...]:
        return (self.weight.leaf,) if self.bias is None else (self.weight.leaf, self.bias.leaf)

    def columns(self, leaves: Leaves) -> Shaped[Array, "q j i"]:
        """Arrays shaped like the parameter leaves, in the order of this layer's Jacobian columns."""
        weight = self.weight.of(leaves)
        if self.bias is None:
            return weight
        return jnp.concatenate([weight, self.bias.of(leaves)], axis=2)


class Structure(NamedTuple):
    program: ClosedJaxpr
    """From the parameter leaves and one sample [1, ...] to its outputs [1, K]."""
    layers: tuple[Layer, ...]
    plain: tuple[int, ...]
    """The floating leaves that are used, but not by a layer."""


class Sensitivities(NamedTuple):
    """What one sample's Jacobian is made of, in the dtype of the outputs."""

    inputs: list[Float[Array, "q t i"]]
    """a of each layer."""
    outputs: list[Float[Array, "k q t j"]]
    """g of each layer."""
    jacobians: list[Float[Array, "k p"]]
    """The plain Jacobian of each remaining leaf."""


def is_floating(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def at_floating(params: Params, tree: PyTree[Shaped[Array, "..."]]) -> list[Shaped[Array, "..."]]:
    """The leaves of a tree like ``params`` where those of ``params`` are floating.

    >>> at_floating({"n": 1, "w": 0.5}, {"n": 2, "w": 3})
    [3]
    """
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(tree), strict=True)
    return [leaf for own, leaf in pairs if is_floating(own)]


def differentiable_leaves(params: Params) -> tuple[list[Float[Array, "..."]], Callable[[Sequence[Any]], Any]]:
    """The leaves to differentiate in, and from others in their place to parameters.

    >>> own, rebuild = differentiable_leaves({"n": 1, "w": jnp.zeros(())})
    >>> own, rebuild([2.0])
    ([Array(0., dtype=float64)], {'n': 1, 'w': 2.0})
    """
    leaves, tree = jax.tree.flatten(params)

    def rebuild(own: Sequence[Any]) -> Any:
        rest = iter(own)
        return tree.unflatten([next(rest) if is_floating(leaf) else leaf for leaf in leaves])

    return [jnp.asarray(leaf) for leaf in at_floating(params, params)], rebuild


def read(apply: ApplyFn, params: Params, sample: Shaped[Array, "1 ..."] | jax.ShapeDtypeStruct) -> Structure:
    """The structure of a network, found in its jaxpr at the shapes and dtypes of ``params`` and one sample.

    Calls to jit and remat are entered where a parameter goes in; custom derivatives are never unfolded (an
    unfolded relu would have derivative ½ at 0). A leaf is followed through reshapes, transposes, changes of
    floating dtype and scalar factors to its consumer. A leaf used twice, inside a loop, or by anything but a
    product is plain: so are scales and biases after a norm, small enough to cost nothing. Integer and other
    non-differentiable leaves, and unused ones, are left out.

    Cost: two traces of ``apply``; nothing is computed.

    >>> params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2), "scale": jnp.ones(2)}
    >>> found = read(lambda p, x: p["scale"] * (x @ p["w"] + p["b"]), params, jnp.ones((1, 3)))
    >>> [(layer.inputs, layer.outputs) for layer in found.layers], found.plain
    ([(4, 2)], (1,))
    """
    leaves, tree = jax.tree.flatten(params)
    nested = jax.make_jaxpr(lambda leaves, x: apply(tree.unflatten(leaves), x))(leaves, sample)
    is_leaf = [*(is_floating(leaf) for leaf in leaves), False]
    program = jax.make_jaxpr(lambda *args: _unnested(nested, args, is_leaf)[0])(*leaves, sample)
    equations = program.jaxpr.eqns
    uses = Counter(
        atom
        for atom in itertools.chain(program.jaxpr.outvars, *(equation.invars for equation in equations))
        if isinstance(atom, Var)
    )
    views = {var: View(leaf) for leaf, var in enumerate(program.jaxpr.invars[:-1]) if is_leaf[leaf] and uses[var] == 1}
    layers: dict[Var, Layer] = {}  # by the result of the product
    for position, equation in enumerate(equations):
        for operand, atom in enumerate(equation.invars):
            if not isinstance(atom, Var) or (view := views.get(atom)) is None:
                continue
            result = equation.outvars[0]
            if (seen := _followed(view, equation, operand)) is not None:
                if uses[result] == 1:
                    views[result] = seen
            elif (layer := _layer(view, position, equation, operand)) is not None:
                layers[result] = layer
            elif equation.primitive is primitives.add_p:
                other = equation.invars[1 - operand]
                layer = layers.get(other) if isinstance(other, Var) and uses[other] == 1 else None
                if layer is not None and layer.bias is None and (bias := _bias(view, layer, leaves)) is not None:
                    layers[other] = layer._replace(bias=bias, inputs=layer.inputs + 1)
    held = {leaf for layer in layers.values() for leaf in layer.leaves}
    plain = (
        leaf for leaf, var in enumerate(program.jaxpr.invars[:-1]) if is_leaf[leaf] and uses[var] and leaf not in held
    )
    return Structure(program, tuple(layers.values()), tuple(plain))


def sensitivities(
    structure: Structure, leaves: Sequence[Shaped[Array, "..."]], sample: Shaped[Array, "1 ..."]
) -> Sensitivities:
    """One forward pass, and one pullback vmapped over the outputs.

    A zero is added to the result of each layer's product: the cotangent of that zero is the sensitivity.

    >>> found = read(lambda w, x: jnp.tanh(x @ w), jnp.ones((3, 1)), jnp.ones((1, 3)))
    >>> a, g, _ = sensitivities(found, [jnp.zeros((3, 1))], jnp.array([[1.0, 2.0, 3.0]]))
    >>> a[0].tolist(), g[0].tolist()
    ([[[1.0, 2.0, 3.0]]], [[[[1.0]]]])
    """
    program, layers, plain = structure

    def tapped(taps: list[Array], differentiated: list[Array]):
        arguments = [*leaves, sample]
        for leaf, traced in zip(plain, differentiated, strict=True):
            arguments[leaf] = traced
        env = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
        env.update(zip(program.jaxpr.invars, arguments, strict=True))

        def value(atom: Atom) -> Array:
            return atom.val if isinstance(atom, Literal) else env[atom]

        for position, equation in enumerate(program.jaxpr.eqns):
            results = evaluate_fast(program.jaxpr, equation, [value(atom) for atom in equation.invars])
            for layer, tap in zip(layers, taps, strict=True):
                if layer.position == position:
                    results = [results[0] + tap]
            env.update(zip(equation.outvars, results, strict=True))
        outputs = value(program.jaxpr.outvars[0])[0]
        return outputs, [_layer_input(layer, program.jaxpr.eqns[layer.position], value) for layer in layers]

    products = [aval(program.jaxpr.eqns[layer.position].outvars[0]) for layer in layers]
    taps = [jnp.zeros(product.shape, product.dtype) for product in products]
    outputs, pullback, inputs = jax.vjp(tapped, taps, [leaves[leaf] for leaf in plain], has_aux=True)
    cotangents, jacobians = jax.vmap(pullback)(jnp.eye(outputs.size, dtype=outputs.dtype))
    found = Sensitivities(
        inputs,
        [jax.vmap(layer.output_layout)(g) for layer, g in zip(layers, cotangents, strict=True)],
        [jacobian.reshape(outputs.size, -1) for jacobian in jacobians],
    )
    return jax.tree.map(lambda part: part.astype(outputs.dtype), found)


def _unnested(nested: ClosedJaxpr, arguments: Iterable[Any], is_leaf: Iterable[bool]) -> tuple[list[Any], list[bool]]:
    """Evaluates a jaxpr, entering jit and remat where a leaf goes in; and which results are views of one."""
    jaxpr = nested.jaxpr
    env = dict(zip(jaxpr.constvars, nested.consts, strict=True))
    env.update(zip(jaxpr.invars, arguments, strict=True))
    leafy = {var for var, flag in zip(jaxpr.invars, is_leaf, strict=True) if flag}

    def value(atom: Atom) -> Any:
        return atom.val if isinstance(atom, Literal) else env[atom]

    def is_view(atom: Atom) -> bool:
        return isinstance(atom, Var) and atom in leafy

    for equation in jaxpr.eqns:
        values = [value(atom) for atom in equation.invars]
        flags = [is_view(atom) for atom in equation.invars]
        if any(flags) and equation.primitive in (primitives.jit_p, primitives.remat_p):
            inner = equation.params["jaxpr"]
            inner = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
            results, flags = _unnested(inner, values, flags)
        else:
            results = evaluate(jaxpr, equation, values)
            seen = (_followed(View(0), equation, operand) for operand, flag in enumerate(flags) if flag)
            flags = [any(view is not None for view in seen)] * len(results)
        env.update(zip(equation.outvars, results, strict=True))
        leafy.update(var for var, flag in zip(equation.outvars, flags, strict=True) if flag)
    return [value(atom) for atom in jaxpr.outvars], [is_view(atom) for atom in jaxpr.outvars]


def _followed(view: View, equation: JaxprEqn, operand: int) -> View | None:
    """The view of the equation's result when it only moves the leaf's entries or scales them all alike."""
    moves: tuple[Layout, ...] = ()
    factors: tuple[tuple[Atom, bool], ...] = ()
    source, result, params = aval(equation.invars[operand]), aval(equation.outvars[0]), equation.params
    match equation.primitive:
        case primitives.reshape_p if params["dimensions"] is None:
            moves = (lambda entries: entries.reshape(result.shape),)
        case primitives.squeeze_p:
            moves = (lambda entries: entries.reshape(result.shape),)
        case primitives.broadcast_in_dim_p if result.size == source.size:
            moves = (lambda entries: entries.reshape(result.shape),)
        case primitives.transpose_p:
            moves = (lambda entries: entries.transpose(params["permutation"]),)
        case primitives.rev_p:
            moves = (lambda entries: lax.rev(entries, params["dimensions"]),)
        case primitives.convert_element_type_p if jnp.issubdtype(result.dtype, jnp.floating):
            pass
        case primitives.neg_p | primitives.copy_p:
            pass
        case primitives.mul_p if aval(equation.invars[1 - operand]).shape == () and result.shape == source.shape:
            factors = ((equation.invars[1 - operand], False),)
        case primitives.div_p if operand == 0 and aval(equation.invars[1]).shape == ():
            factors = ((equation.invars[1], True),)
        case _:
            return None
    return View(view.leaf, view.moves + moves, view.factors + factors)


def _layer(view: View, position: int, equation: JaxprEqn, operand: int) -> Layer | None:
    """The layer whose weight the view is, when the equation is a product that fits the form."""
    if not jnp.issubdtype(aval(equation.outvars[0]).dtype, jnp.floating):
        return None
    if equation.primitive is primitives.dot_general_p:
        layouts = dot(equation, operand)
    elif (
        equation.primitive is primitives.conv_general_dilated_p
        and operand == 1
        and equation.params["batch_group_count"] == 1
    ):
        layouts = convolution(equation)
    else:
        return None
    input_layout, weight_layout, output_layout = layouts
    weight = view._replace(moves=(*view.moves, weight_layout))
    groups, outputs, inputs = jax.eval_shape(weight_layout, aval(equation.invars[operand])).shape
    positions = jax.eval_shape(output_layout, aval(equation.outvars[0])).shape[1]
    return Layer(position, 1 - operand, weight, None, input_layout, output_layout, groups, positions, inputs, outputs)


def _bias(view: View, layer: Layer, leaves: Sequence[Any]) -> View | None:
    """The view as a column [q, j, 1] of the layer's weight, if it has one entry for each group and output."""

    def column(entries: Shaped[Array, "..."]) -> Shaped[Array, "q j 1"]:
        return layer.output_layout(entries).swapaxes(1, 2)

    bias = view._replace(moves=(*view.moves, column))
    shape = jax.eval_shape(bias.of, leaves).shape
    return bias if shape == (layer.groups, layer.outputs, 1) else None


def _layer_input(layer: Layer, equation: JaxprEqn, value: Callable[[Atom], Array]) -> Float[Array, "q t i"]:
    dtype = aval(equation.outvars[0]).dtype

    def factor(view: View) -> Array:
        scale = jnp.ones((), dtype)
        for atom, inverse in view.factors:
            scale = scale / value(atom) if inverse else scale * value(atom)
        return scale.astype(dtype)

    fed = layer.input_layout(value(equation.invars[layer.operand])).astype(dtype)
    fed = fed * factor(layer.weight) if layer.weight.factors else fed
    if layer.bias is None:
        return fed
    ones = jnp.broadcast_to(factor(layer.bias), (*fed.shape[:2], 1))
    return jnp.concatenate([fed, ones], axis=2)
