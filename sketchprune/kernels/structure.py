"""Reads a network's jaxpr: which equation consumes which parameter, and in what form.

A parameter leaf that one product consumes (`dot_general`, or `conv_general_dilated` as its kernel) has the Jacobian

    J[k, q, j, i] = Σ_t a[q, t, i] g[k, q, t, j].

Here a is the input of the product and g the sensitivity of output k to its result. The index q runs over groups, t over
positions (one for a dense layer on a vector), i over inputs or patch entries, and j over outputs. A bias is the weight
of an input that is always one. A leaf that is consumed in any other way is left to plain differentiation.

Everything that the kernels compute faster than through the plain Jacobian follows from this form. All functions here
are about one sample; callers vmap over samples.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var, primitives
from jaxtyping import Array, Shaped

from sketchprune._boundary import checked
from sketchprune._jaxpr import Atom, Environment, aval, evaluate
from sketchprune._leaves import is_floating
from sketchprune._names import own_names
from sketchprune.kernels._layouts import Layout, Layouts, convolution_layouts, dot_layouts
from sketchprune.types import ApplyFn, Params

__dir__ = own_names(__name__)

Leaves = Sequence[Shaped[Array, "..."]] | Mapping[int, Shaped[Array, "..."]]
"""Arrays shaped like the parameter leaves, found by the number of the leaf."""


class View(NamedTuple):
    """A parameter leaf after equations that move its entries or scale all of them alike.

    Attributes:
        leaf: The number of the leaf.
        moves: The rearrangements of its entries, in the order in which they are applied.
        factors: The scalars that multiply it, each with a flag that says whether it divides instead.
    """

    leaf: int
    moves: tuple[Layout, ...] = ()
    factors: tuple[tuple[Atom, bool], ...] = ()

    def of(self, leaves: Leaves) -> Shaped[Array, "..."]:
        """The leaf's entries (or its mask's) where this view has them, without the factors."""
        entries = leaves[self.leaf]
        for move in self.moves:
            entries = move(entries)
        return entries


class Layer(NamedTuple):
    """One product of the network, in the form J[k, q, j, i] = Σ_t a[q, t, i] g[k, q, t, j].

    Attributes:
        position: The number of the product's equation in the program.
        operand: Which operand of the equation is the input; the other one is the weight.
        weight: The leaf that is the weight.
        bias: The leaf that is added to the result, if there is one.
        input_layout: Takes the input operand to [q, t, i], without the constant input of a bias.
        output_layout: Takes the result to [q, t, j].
        groups: The length of q.
        positions: The length of t.
        inputs: The length of i; with a bias this counts the constant input, which comes last.
        outputs: The length of j.
    """

    position: int
    operand: int
    weight: View
    bias: View | None
    input_layout: Layout
    output_layout: Layout
    groups: int
    positions: int
    inputs: int
    outputs: int

    @property
    def leaves(self) -> tuple[int, ...]:
        """The numbers of the leaves: the weight, then the bias."""
        return (self.weight.leaf,) if self.bias is None else (self.weight.leaf, self.bias.leaf)

    @property
    def size(self) -> int:
        """The number of Jacobian columns, weight and bias together."""
        return self.groups * self.outputs * self.inputs

    def columns(self, leaves: Leaves) -> Shaped[Array, "q j i"]:
        """Arrays shaped like the parameter leaves, in the order of this layer's Jacobian columns."""
        weight = self.weight.of(leaves)
        if self.bias is None:
            return weight
        return jnp.concatenate([weight, self.bias.of(leaves)], axis=2)


class Structure(NamedTuple):
    """The layers of a network and the leaves that no layer holds.

    Attributes:
        program: The jaxpr from the parameter leaves and one sample [1, ...] to its outputs [1, K].
        layers: The products found, in program order.
        plain: The floating leaves that are used, but not by a layer.
    """

    program: ClosedJaxpr
    layers: tuple[Layer, ...]
    plain: tuple[int, ...]


@checked
def read(apply: ApplyFn, params: Params, sample: Shaped[Array, "1 ..."] | jax.ShapeDtypeStruct) -> Structure:
    """The structure of a network, found in its jaxpr at the shapes and dtypes of ``params`` and one sample.

    Calls to jit and remat are entered where a parameter goes in. Custom derivatives are never unfolded: an unfolded
    relu would have derivative ½ at 0. A leaf is followed through reshapes, transposes, changes of floating dtype and
    scalar factors to its consumer.

    A leaf that is used twice, inside a loop, or by anything but a product is plain. So are scales and biases after a
    normalisation, which are small enough to cost nothing. Leaves that are unused or not floating are left out.

    Args:
        apply: ``apply(params, x) -> [n, K]``.
        params: A pytree of parameters; only shapes and dtypes matter.
        sample: One sample [1, ...], or its shape and dtype.

    Returns:
        The program, its layers and the plain leaves.

    Cost:
        Two traces of ``apply``; nothing is computed.

    Example:
        >>> params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2), "scale": jnp.ones(2)}
        >>> found = read(lambda p, x: p["scale"] * (x @ p["w"] + p["b"]), params, jnp.ones((1, 3)))
        >>> [(layer.inputs, layer.outputs) for layer in found.layers], found.plain
        ([(4, 2)], (1,))
    """
    leaves, tree = jax.tree.flatten(params)
    floating = [is_floating(leaf) for leaf in leaves]
    nested = jax.make_jaxpr(lambda leaves, x: apply(tree.unflatten(leaves), x))(leaves, sample)
    program = jax.make_jaxpr(lambda *arguments: _evaluate_inlined(nested, arguments, [*floating, False])[0])(
        *leaves, sample
    )
    uses = _count_uses(program.jaxpr)
    variables = program.jaxpr.invars[:-1]  # the last one is the sample
    views = {variable: View(leaf) for leaf, variable in enumerate(variables) if floating[leaf] and uses[variable] == 1}
    layers = _find_layers(program.jaxpr, views, uses, leaves)
    held = {leaf for layer in layers for leaf in layer.leaves}
    plain = [leaf for leaf, variable in enumerate(variables) if floating[leaf] and uses[variable] and leaf not in held]
    return Structure(program, layers, tuple(plain))


def _evaluate_inlined(
    nested: ClosedJaxpr, arguments: Iterable[Any], is_leaf: Iterable[bool]
) -> tuple[list[Any], list[bool]]:
    """Evaluate a jaxpr, entering jit and remat where a leaf goes in; return the results and which are views of one."""
    jaxpr = nested.jaxpr
    values = Environment(nested, arguments)
    leafy = {variable for variable, flag in zip(jaxpr.invars, is_leaf, strict=True) if flag}

    def is_view(atom: Atom) -> bool:
        return isinstance(atom, Var) and atom in leafy

    for equation in jaxpr.eqns:
        operands = values.read_all(equation.invars)
        flags = [is_view(atom) for atom in equation.invars]
        if any(flags) and equation.primitive in (primitives.jit_p, primitives.remat_p):
            inner = equation.params["jaxpr"]
            inner = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
            results, flags = _evaluate_inlined(inner, operands, flags)
        else:
            results = evaluate(jaxpr, equation, operands)
            moved = (_followed(View(0), equation, operand) for operand, flag in enumerate(flags) if flag)
            flags = [any(view is not None for view in moved)] * len(results)
        values.write(equation.outvars, results)
        leafy.update(variable for variable, flag in zip(equation.outvars, flags, strict=True) if flag)
    return values.read_all(jaxpr.outvars), [is_view(atom) for atom in jaxpr.outvars]


def _count_uses(jaxpr: Jaxpr) -> Counter[Var]:
    """How often each variable is an operand or an output."""
    atoms = itertools.chain(jaxpr.outvars, *(equation.invars for equation in jaxpr.eqns))
    return Counter(atom for atom in atoms if isinstance(atom, Var))


def _find_layers(jaxpr: Jaxpr, views: dict[Var, View], uses: Counter[Var], leaves: Sequence[Any]) -> tuple[Layer, ...]:
    """The products that consume a leaf; ``views`` grows while the leaves are followed."""
    layers: dict[Var, Layer] = {}  # by the variable that holds the result of the product
    for position, equation in enumerate(jaxpr.eqns):
        result = equation.outvars[0]
        for operand, atom in enumerate(equation.invars):
            view = views.get(atom) if isinstance(atom, Var) else None
            if view is None:
                continue
            moved = _followed(view, equation, operand)
            if moved is not None:
                if uses[result] == 1:
                    views[result] = moved
                continue
            layer = _layer(view, position, equation, operand)
            if layer is not None:
                layers[result] = layer
            elif equation.primitive is primitives.add_p:
                other = equation.invars[1 - operand]
                if isinstance(other, Var) and other in layers and uses[other] == 1:
                    layers[other] = _with_bias(layers[other], view, leaves)
    return tuple(layers.values())


def _followed(view: View, equation: JaxprEqn, operand: int) -> View | None:
    """The view of the equation's result when it only moves the leaf's entries or scales them all alike."""
    moves: tuple[Layout, ...] = ()
    factors: tuple[tuple[Atom, bool], ...] = ()
    source = aval(equation.invars[operand])
    result = aval(equation.outvars[0])
    params = equation.params
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
            pass  # a sign cancels in the kernel, where each column meets itself
        case primitives.mul_p if aval(equation.invars[1 - operand]).shape == () and result.shape == source.shape:
            factors = ((equation.invars[1 - operand], False),)
        case primitives.div_p if operand == 0 and aval(equation.invars[1]).shape == ():
            factors = ((equation.invars[1], True),)
        case _:
            return None
    return View(view.leaf, view.moves + moves, view.factors + factors)


def _layer(view: View, position: int, equation: JaxprEqn, operand: int) -> Layer | None:
    """The layer whose weight the view is, when the equation is a product that fits the form."""
    layouts = _layouts(equation, operand)
    if layouts is None:
        return None
    groups, outputs, inputs = jax.eval_shape(layouts.weight, aval(equation.invars[operand])).shape
    return Layer(
        position=position,
        operand=1 - operand,
        weight=view._replace(moves=(*view.moves, layouts.weight)),
        bias=None,
        input_layout=layouts.inputs,
        output_layout=layouts.outputs,
        groups=groups,
        positions=jax.eval_shape(layouts.outputs, aval(equation.outvars[0])).shape[1],
        inputs=inputs,
        outputs=outputs,
    )


def _layouts(equation: JaxprEqn, weight: int) -> Layouts | None:
    """The layouts of input, weight and result, when the equation is a product whose operand ``weight`` is one."""
    if not jnp.issubdtype(aval(equation.outvars[0]).dtype, jnp.floating):
        return None
    if equation.primitive is primitives.dot_general_p:
        return dot_layouts(equation, weight)
    if equation.primitive is primitives.conv_general_dilated_p:
        is_kernel = weight == 1 and equation.params["batch_group_count"] == 1
        return convolution_layouts(equation) if is_kernel else None
    return None


def _with_bias(layer: Layer, view: View, leaves: Sequence[Any]) -> Layer:
    """The layer with the view as its bias; unchanged if it has one or the view does not fit.

    A bias fits when it has one entry for each group and output, so that it becomes a column [q, j, 1] of the weight.
    """

    def column(entries: Shaped[Array, "..."]) -> Shaped[Array, "q j t"]:
        return layer.output_layout(entries).swapaxes(1, 2)

    if layer.bias is not None:
        return layer
    bias = view._replace(moves=(*view.moves, column))
    if jax.eval_shape(bias.of, leaves).shape != (layer.groups, layer.outputs, 1):
        return layer
    return layer._replace(bias=bias, inputs=layer.inputs + 1)
