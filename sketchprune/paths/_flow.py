"""The linear network at powers: every path's product raised to the power q, summed over paths, in any scale.

A network without activations is a sum over paths of products of weights and fixed coefficients (those of an
average pooling, say). Read off the jaxpr of ``apply``, its weights and coefficients are replaced by |·|^q and its
activations left out: the sum of |v_p|^q. Values travel as an array and a power of two, brought back to about one
after each product, so that neither depth nor sparsity under- or overflows.

That power is one for all units of a layer, and the heaviest of them sets it. Units that no path runs through could
be heavier than all others, by any factor after a few layers: `alive` finds the weights that paths do run through.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Jaxpr, JaxprEqn, Literal, primitives
from jaxtyping import Array, Float, Int

from sketchprune import _checks
from sketchprune._jaxpr import evaluate
from sketchprune._leaves import at_floating, differentiable_leaves, is_floating
from sketchprune.types import ApplyFn, Mask, Params

Exponent = Int[Array, ""]


class Term(NamedTuple):
    """Sums over paths, ``values * 2**exponent``, all of them >= 0."""

    values: Float[Array, "..."]
    exponent: Exponent
    signal: bool
    """Whether its paths have begun at an input; else they are made of parameters alone."""
    leaves: frozenset[int] = frozenset()
    """Leaves that its paths have passed through, by number; not those of which it took entries."""
    sunk: Exponent | int = 0
    """By how many powers of two its values have been raised on their way: what they stood below heavier ones."""


class Flow(NamedTuple):
    """R_q as a function of the weights' powers, leaf by leaf: |θ_l|^q = powers_l * 2**(q exponents_l)."""

    powers: list[Float[Array, "..."]]
    exponents: list[Exponent]
    total: Callable[[list[Float[Array, "..."]]], tuple[Float[Array, ""], Exponent]]
    """From the powers to R_q = value * 2**exponent; the value is differentiable, any number of times."""
    measured: Callable[[list[Float[Array, "..."]]], tuple[Float[Array, ""], tuple[Exponent, Exponent]]]
    """The same, and with the exponent, by how many powers of two R_q's paths stood below heavier ones that ended."""


def flow(
    apply: ApplyFn,
    params: Params,
    inputs: Float[Array, "..."],
    power: int,
    *,
    authors: bool = False,
    once: bool = False,
    reached: bool = False,
) -> Flow:
    """R_q(θ; u) for one non-negative input u, in the floating leaves of ``params`` in their order.

    With ``authors`` what has no paths goes through as in the SynFlow authors' code: max pooling passes on the
    largest entry, and a bias or shift b is an edge |b|^q from an input of one. Without it both raise. With ``once``
    a path through the same leaf twice raises, unless slicing or indexing took entries of the leaf before. With
    ``reached`` all values and their derivatives are one where they are above zero.
    """
    leaves, tree = jax.tree.flatten(params)
    own, rebuild = differentiable_leaves(leaves)
    with jax.default_matmul_precision("highest"):
        program = jax.make_jaxpr(lambda leaves, x: apply(tree.unflatten(leaves), x))(leaves, inputs[None])
    raised = [_raised(leaf, power)._replace(leaves=frozenset({at})) for at, leaf in enumerate(own)]
    fed = _rescaled(inputs[None], jnp.int32(0), True)
    read = _Reader(power, authors, once, reached)

    def measured(powers: list[Array]) -> tuple[Array, tuple[Exponent, Exponent]]:
        weights = [term._replace(values=values) for term, values in zip(raised, powers, strict=True)]
        (outputs,) = read(program.jaxpr, program.consts, [*rebuild(weights), fed])
        if not isinstance(outputs, Term) or not outputs.signal:
            raise ValueError("apply returns what does not depend on x; it takes a network")
        value = jnp.sum(outputs.values)
        return value, (outputs.exponent, outputs.sunk - exponent_of(value))

    def total(powers: list[Array]) -> tuple[Array, Exponent]:
        value, (exponent, _) = measured(powers)
        return value, exponent

    return Flow([term.values for term in raised], [term.exponent // power for term in raised], total, measured)


def alive(
    apply: ApplyFn, params: Params, inputs: Float[Array, "..."], mask: Mask | None, *, authors: bool = False
) -> Params:
    """The parameters, those zero that no path from a positive input runs through; a path takes what the mask keeps.

    Where nothing is pruned and all inputs are positive they stay as they are. Else one forward and one backward
    pass more, on zeros and ones.
    """
    own, rebuild = differentiable_leaves(params)
    kept = support(params, mask)

    def used() -> list[Array]:
        found = flow(apply, rebuild(kept), (inputs > 0).astype(inputs.dtype), 1, authors=authors, reached=True)
        slopes, _ = jax.grad(found.total, has_aux=True)(found.powers)
        return [(slope > 0).astype(slope.dtype) for slope in slopes]

    whole = jnp.stack([jnp.all(inputs > 0), *(jnp.all(each > 0) for each in kept)]).all()
    factors = lax.cond(whole, lambda: kept, used)
    return rebuild([leaf * factor for leaf, factor in zip(own, factors, strict=True)])


def support(params: Params, mask: Mask | None) -> list[Float[Array, "..."]]:
    """Ones where the mask keeps a floating leaf's weights, zeros elsewhere, in the dtypes of the leaves."""
    own, _ = differentiable_leaves(params)
    if mask is None:
        return [jnp.ones_like(leaf) for leaf in own]
    return [(kept != 0).astype(leaf.dtype) for leaf, kept in zip(own, at_floating(params, mask), strict=True)]


def scaled(values: Float[Array, "..."], exponent: Exponent) -> Float[Array, "..."]:
    """values * 2**exponent, through two factors: each alone may not be representable."""
    half = exponent // 2
    return values * two_to(half, values.dtype) * two_to(exponent - half, values.dtype)


def two_to(exponent: Exponent, dtype: Any) -> Float[Array, ""]:
    """2**exponent, exactly, at the nearest end of the range of normal numbers where it lies outside."""
    info = jnp.finfo(dtype)
    word = getattr(jnp, f"int{info.bits}")
    bits = (jnp.clip(exponent, info.minexp, info.maxexp - 1) + info.maxexp - 1).astype(word) << info.nmant
    return lax.bitcast_convert_type(bits, dtype)


def exponent_of(values: Float[Array, "..."]) -> Exponent:
    """The exponent of the largest entry of an array >= 0; 0 where there is none above 0."""
    info = jnp.finfo(values.dtype)
    largest = lax.stop_gradient(jnp.max(values, initial=0))
    bits = lax.bitcast_convert_type(largest, getattr(jnp, f"int{info.bits}")) >> info.nmant
    return jnp.where(largest > 0, bits - info.maxexp + 1, 0).astype(jnp.int32)


def _rescaled(
    values: Float[Array, "..."],
    exponent: Exponent,
    signal: bool,
    leaves: frozenset[int] = frozenset(),
    sunk: Exponent | int = 0,
) -> Term:
    more = exponent_of(values)
    return Term(values * two_to(-more, values.dtype), exponent + more, signal, leaves, sunk + jnp.maximum(-more, 0))


@jax.custom_vjp
def _reached(values: Float[Array, "..."]) -> Float[Array, "..."]:
    """Ones at what is above zero, of values and of cotangents."""
    return (values > 0).astype(values.dtype)


_reached.defvjp(lambda values: (_reached(values), None), lambda _, cotangent: (_reached(cotangent),))


def _raised(values: Array, power: int) -> Term:
    """|values|^power, rescaled before it is raised."""
    term = _rescaled(abs(jnp.asarray(values)), jnp.int32(0), False)
    return Term(lax.integer_pow(term.values, power), power * term.exponent, False)


_SAME = {primitives.neg_p, primitives.copy_p, primitives.name_p}
"""What changes no path but in sign."""
_MOVES = {
    primitives.reshape_p, primitives.transpose_p, primitives.squeeze_p, primitives.broadcast_in_dim_p, primitives.rev_p,
    primitives.slice_p, primitives.reduce_sum_p, primitives.reduce_window_sum_p, primitives.cumsum_p,
    primitives.dynamic_slice_p, primitives.gather_p,
}  # fmt: skip
"""Sums and selections of the entries of the first operand, by coefficients of one."""
_ENTRIES = {primitives.slice_p, primitives.dynamic_slice_p, primitives.gather_p}
"""Those that take entries: of a leaf that holds several layers, one of them."""
_SUMS = {primitives.add_p, primitives.sub_p, primitives.add_jaxvals_p}
_PRODUCTS = {primitives.mul_p, primitives.dot_general_p, primitives.conv_general_dilated_p}
_MAXIMA = {primitives.reduce_max_p, primitives.reduce_window_max_p}
_CALLS = {
    primitives.jit_p, primitives.closed_call_p, primitives.remat_p, primitives.custom_jvp_call_p,
    primitives.custom_vjp_call_p,
}  # fmt: skip


class _Reader(NamedTuple):
    """Evaluates a jaxpr on terms; what does not depend on a term is a fixed coefficient."""

    power: int
    authors: bool
    once: bool
    reached: bool

    def __call__(self, jaxpr: Jaxpr, consts: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
        env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *operands), strict=True))

        def value(atom: Any) -> Any:
            return atom.val if isinstance(atom, Literal) else env[atom]

        for equation in jaxpr.eqns:
            given = [value(atom) for atom in equation.invars]
            if any(isinstance(operand, Term) for operand in given):
                results = self._terms(jaxpr, equation, given)
            elif all(_checks.concrete(operand) is not None for operand in given):
                with jax.ensure_compile_time_eval():  # a zero is to be known as one under jit too
                    results = evaluate(jaxpr, equation, given)
            else:
                results = evaluate(jaxpr, equation, given)
            env.update(zip(equation.outvars, results, strict=True))
        return [value(atom) for atom in jaxpr.outvars]

    def _terms(self, jaxpr: Jaxpr, equation: JaxprEqn, given: list[Any]) -> list[Any]:
        primitive, first = equation.primitive, given[0]
        if primitive in _CALLS:
            inner = equation.params["jaxpr" if "jaxpr" in equation.params else "call_jaxpr"]
            return self(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), given)

        def applied(*values: Any) -> Array:
            return evaluate(jaxpr, equation, values)[0]

        if primitive in _SAME:
            return [first]
        if primitive is primitives.convert_element_type_p and is_floating(equation.outvars[0].aval):  # pyright: ignore
            return [first._replace(values=applied(first.values))]
        if primitive in _MOVES and isinstance(first, Term) and not any(isinstance(other, Term) for other in given[1:]):
            entries = primitive in _ENTRIES and not first.signal
            leaves = frozenset() if entries else first.leaves
            return [first._replace(values=applied(first.values, *given[1:]), leaves=leaves)]
        if primitive is primitives.pad_p and isinstance(first, Term) and _is_zero(given[1]):
            return [first._replace(values=applied(first.values, given[1]))]
        if primitive in _MAXIMA:
            if not self.authors:
                raise ValueError("apply takes a maximum (max pooling); it takes networks of sums, as average pooling")
            if self.reached:  # of equal entries a maximum's derivative sees one
                return [first._replace(values=_reached(_summed(equation, first.values)))]
            return [first._replace(values=applied(first.values))]
        if primitive is primitives.max_p and any(_is_zero(operand) for operand in given):
            term = next(operand for operand in given if isinstance(operand, Term))
            if term.signal:
                return [term]  # a relu: no activations here
        if primitive is primitives.select_n_p and not isinstance(first, Term):
            cases, rest = self._aligned(given[1:], zeros=True)
            return [Term(applied(first, *cases), *rest)]
        if primitive is primitives.concatenate_p:
            parts, rest = self._aligned(given, zeros=True)
            return [Term(applied(*parts), *rest)]
        if primitive in _SUMS:
            (one, other), rest = self._aligned(given, zeros=False)
            return [self._result(one + other, *rest)]
        if primitive in _PRODUCTS:
            one, other = (each if isinstance(each, Term) else _raised(each, self.power) for each in given)
            if one.signal and other.signal:
                raise ValueError("apply multiplies two functions of x; it takes a network linear between its ReLUs")
            if self.once and one.leaves & other.leaves:
                raise ValueError("apply uses a weight twice on a path; it takes a network that shares no weights there")
            if primitive is primitives.mul_p:  # a literal among the operands would be taken as it stands
                product = one.values * other.values
            else:
                product = applied(one.values, other.values)
            signal, leaves = one.signal or other.signal, one.leaves | other.leaves
            return [self._result(product, one.exponent + other.exponent, signal, leaves, one.sunk + other.sunk)]
        if primitive is primitives.div_p and not isinstance(given[1], Term):
            divisor = _raised(given[1], self.power)
            return [self._result(first.values / divisor.values, first.exponent - divisor.exponent, *first[2:])]
        raise ValueError(
            f"apply uses {primitive.name} in a way that has no paths; it takes a bias-free network of products, "
            "sums, ReLU and average pooling"
        )

    def _result(self, values: Array, exponent: Exponent, *rest: Any) -> Term:
        return Term(_reached(values), jnp.int32(0), *rest) if self.reached else _rescaled(values, exponent, *rest)

    def _aligned(self, given: Sequence[Any], *, zeros: bool) -> tuple[list[Array], tuple[Any, ...]]:
        """The values of several operands at one exponent, and the rest of the term that they make together."""
        terms = [each for each in given if isinstance(each, Term)]
        mixed = len({term.signal for term in terms}) > 1
        shifted = any(not isinstance(each, Term) and not _is_zero(each) for each in given)
        if (mixed or shifted) and (zeros or not self.authors):
            raise ValueError(
                "apply adds a bias or a shift; it takes a bias-free network, with batch normalisation that only scales"
            )
        terms = [each if isinstance(each, Term) else _raised(each, self.power) for each in given]
        # A term that is zero has no say in the exponent, whatever its own is.
        tiny = jnp.iinfo(jnp.int32).min // 2
        top = jnp.stack([jnp.where(jnp.any(term.values > 0), term.exponent, tiny) for term in terms]).max()
        top = jnp.where(top == tiny, terms[0].exponent, top)
        moved = [term.values * two_to(term.exponent - top, term.values.dtype) for term in terms]
        leaves = frozenset[int]().union(*(term.leaves for term in terms))
        sunk = functools.reduce(jnp.maximum, [term.sunk for term in terms])
        return moved, (top, any(term.signal for term in terms), leaves, sunk)


def _summed(equation: JaxprEqn, values: Array) -> Array:
    """Sums in place of the maxima of an equation."""
    if equation.primitive is primitives.reduce_max_p:
        return jnp.sum(values, equation.params["axes"])
    windows = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    zero = np.zeros((), values.dtype)
    return lax.reduce_window(values, zero, lax.add, **{name: equation.params[name] for name in windows})


def _is_zero(value: Any) -> bool:
    known = None if isinstance(value, Term) else _checks.concrete(value)
    return known is not None and not known.any()
