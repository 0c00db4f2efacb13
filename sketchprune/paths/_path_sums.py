"""Evaluates the jaxpr of a network on sums over paths, at any scale.

A network without activations is a sum over paths of products of weights and of fixed coefficients, such as those of an
average pooling. `Reader` evaluates the jaxpr of ``apply`` without activations, and with |·|^q of weights and
coefficients in their place. The result is the sum of |v_p|^q u_p. The table of rules at the end of this file says how
each primitive acts on such sums.

The sums travel as an array and a power of two. After each product the array is rescaled, so that its largest entry lies
between 1 and 2: neither depth nor sparsity makes it overflow or underflow.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, primitives
from jaxtyping import Array, Bool, Float

from sketchprune import _checks
from sketchprune._jaxpr import Environment, aval, called, evaluate
from sketchprune._leaves import is_floating
from sketchprune.paths._exponents import Exponent, normaliser, power_of_two


class PathSum(NamedTuple):
    """Sums over paths, ``values * 2**exponent``, none of them negative."""

    values: Float[Array, "..."]
    exponent: Exponent
    from_input: bool
    """Whether the paths begin at an input; otherwise they consist of parameters alone."""
    leaves: frozenset[int] = frozenset()
    """The numbers of the leaves that the paths use as a whole (not of those from which they took entries)."""
    lost_bits: Exponent | int = 0
    """Bits of headroom lost to heavier paths: by how many powers of two rescaling has raised the values."""
    positive: Bool[Array, ""] | None = None
    """Whether a value is above zero, where that is known."""


def rescaled(term: PathSum) -> PathSum:
    """The same sums with the largest value between 1 and 2."""
    shift, factor, positive = normaliser(term.values)
    return term._replace(
        values=term.values * factor,
        exponent=term.exponent + shift,
        lost_bits=term.lost_bits + lax.max(-shift, jnp.int32(0)),
        positive=positive,
    )


def raised(values: Any, power: int) -> PathSum:
    """|values|^power, rescaled before it is raised."""
    term = rescaled(PathSum(abs(jnp.asarray(values)), jnp.int32(0), from_input=False))
    powers = lax.integer_pow(term.values, power)
    return PathSum(powers, power * term.exponent, from_input=False, positive=term.positive)


@jax.custom_vjp
def _indicator(values: Float[Array, "..."]) -> Float[Array, "..."]:
    """Ones where the values are above zero; the same of the cotangents that come back."""
    return (values > 0).astype(values.dtype)


_indicator.defvjp(lambda values: (_indicator(values), None), lambda _, cotangent: (_indicator(cotangent),))


def _is_zero(value: Any) -> bool:
    """Whether the value is known to be zero throughout."""
    known = None if isinstance(value, PathSum) else _checks.concrete(value)
    return known is not None and not known.any()


# --- Reading a jaxpr


class _Operation(NamedTuple):
    """An equation of a jaxpr and the values of its operands, at least one of which is a path sum."""

    jaxpr: Jaxpr
    equation: JaxprEqn
    operands: list[Any]

    def on(self, *arrays: Any) -> Array:
        """The equation's result for arrays in place of its operands."""
        return evaluate(self.jaxpr, self.equation, arrays)[0]


class Reader(NamedTuple):
    """Evaluates a jaxpr on path sums. What depends on no path sum is a fixed coefficient.

    Attributes:
        power: q, to which coefficients are raised.
        allow_max_and_bias: let maxima pass on the largest entry, and take a bias b as an edge |b|^q from an input of
            one, as the code of the SynFlow paper does. Otherwise both raise.
        forbid_reuse: raise where a path uses the same leaf twice.
        indicators: replace all values and their derivatives by one where they are above zero.
    """

    power: int
    allow_max_and_bias: bool = False
    forbid_reuse: bool = False
    indicators: bool = False

    def __call__(self, program: ClosedJaxpr, operands: Sequence[Any]) -> list[Any]:
        environment = Environment(program, operands)
        for equation in program.jaxpr.eqns:
            given = environment.read_all(equation.invars)
            if any(isinstance(operand, PathSum) for operand in given):
                results = self._path_sums(_Operation(program.jaxpr, equation, given))
            elif all(_checks.concrete(operand) is not None for operand in given):
                with jax.ensure_compile_time_eval():  # so that a zero is known to be one under jit too
                    results = evaluate(program.jaxpr, equation, given)
            else:
                results = evaluate(program.jaxpr, equation, given)
            environment.write(equation.outvars, results)
        return environment.read_all(program.jaxpr.outvars)

    def _path_sums(self, operation: _Operation) -> list[Any]:
        primitive = operation.equation.primitive
        if (inner := called(operation.equation)) is not None:
            return self(inner, operation.operands)
        found = _RULES[primitive](self, operation) if primitive in _RULES else None
        if found is None:
            raise ValueError(
                f"apply uses {primitive.name} in a way that has no paths; it takes a bias-free network of products, "
                "sums, ReLU and average pooling"
            )
        return [found]

    def finished(self, term: PathSum) -> PathSum:
        """What a sum or product of path sums leaves behind: rescaled, or ones where it is above zero."""
        if self.indicators:
            return term._replace(values=_indicator(term.values), exponent=jnp.int32(0), positive=None)
        return rescaled(term)

    def aligned(self, operands: Sequence[Any], *, only_zeros: bool) -> list[PathSum]:
        """Several operands as path sums that differ in their values alone, ready to be added or joined.

        With ``only_zeros`` nothing but zeros may stand beside paths from the input, even where biases are allowed.
        """
        terms = [each for each in operands if isinstance(each, PathSum)]
        mixed = len({term.from_input for term in terms}) > 1
        shifted = any(not isinstance(each, PathSum) and not _is_zero(each) for each in operands)
        if (mixed or shifted) and (only_zeros or not self.allow_max_and_bias):
            raise ValueError(
                "apply adds a bias or a shift; it takes a bias-free network, with batch normalisation that only scales"
            )
        terms = [each if isinstance(each, PathSum) else raised(each, self.power) for each in operands]
        positive = [jnp.any(term.values > 0) if term.positive is None else term.positive for term in terms]
        # The exponent of a term that is zero throughout means nothing, so it does not count for the largest.
        tiny = jnp.int32(jnp.iinfo(jnp.int32).min // 2)
        counted = [lax.select(known, term.exponent, tiny) for known, term in zip(positive, terms, strict=True)]
        top = functools.reduce(lax.max, counted)
        top = lax.select(top == tiny, terms[0].exponent, top)
        together = {
            "positive": functools.reduce(lax.bitwise_or, positive),
            "exponent": top,
            "from_input": any(term.from_input for term in terms),
            "leaves": frozenset[int]().union(*(term.leaves for term in terms)),
            "lost_bits": functools.reduce(lax.max, [jnp.int32(term.lost_bits) for term in terms]),
        }
        factors = [power_of_two(term.exponent - top, term.values.dtype) for term in terms]
        return [
            term._replace(values=term.values * factor, **together) for term, factor in zip(terms, factors, strict=True)
        ]


# --- Rules: how a primitive acts on path sums. None where it has no paths when it is used in this way.

_Rule = Callable[[Reader, _Operation], PathSum | None]


def _unchanged(_: Reader, operation: _Operation) -> PathSum:
    """Changes no path, except in sign."""
    return operation.operands[0]


def _converted(_: Reader, operation: _Operation) -> PathSum | None:
    """Another floating dtype."""
    (term,) = operation.operands
    if is_floating(aval(operation.equation.outvars[0])):
        return term._replace(values=operation.on(term.values))
    return None


def _moved(_: Reader, operation: _Operation) -> PathSum | None:
    """All entries of the first operand, in other places or summed."""
    term, *rest = operation.operands
    if not isinstance(term, PathSum) or any(isinstance(other, PathSum) for other in rest):
        return None
    return term._replace(values=operation.on(term.values, *rest))


def _windows(reader: Reader, operation: _Operation) -> PathSum | None:
    """Sums of some entries of the first operand: windows may leave others out."""
    term = _moved(reader, operation)
    return term if term is None else term._replace(positive=None)


def _taken(reader: Reader, operation: _Operation) -> PathSum | None:
    """Entries of the first operand. Of a leaf that holds several layers they are the weights of one of them."""
    term = _windows(reader, operation)
    return term if term is None or term.from_input else term._replace(leaves=frozenset())


def _padded(_: Reader, operation: _Operation) -> PathSum | None:
    """Padding with zeros; negative padding leaves entries out."""
    term, padding = operation.operands
    if not isinstance(term, PathSum) or not _is_zero(padding):
        return None
    return term._replace(values=operation.on(term.values, padding), positive=None)


def _relu(_: Reader, operation: _Operation) -> PathSum | None:
    """The maximum of paths and zero is a ReLU, which is left out; None for other maxima, as of weights and zero."""
    if not any(_is_zero(operand) for operand in operation.operands):
        return None
    term = next(operand for operand in operation.operands if isinstance(operand, PathSum))
    return term if term.from_input else None


def _pooled(reader: Reader, operation: _Operation) -> PathSum:
    """Max pooling."""
    if not reader.allow_max_and_bias:
        raise ValueError("apply takes a maximum (max pooling); it takes networks of sums, as average pooling")
    (term,) = operation.operands
    if reader.indicators:  # the derivative of a maximum sees only one of several equal entries; that of a sum all
        return term._replace(values=_indicator(_summed(operation.equation, term.values)), positive=None)
    return term._replace(values=operation.on(term.values), positive=None)


def _summed(equation: JaxprEqn, values: Array) -> Array:
    """Sums in place of the maxima that the equation takes."""
    if equation.primitive is primitives.reduce_max_p:
        return jnp.sum(values, equation.params["axes"])
    windows = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    zero = np.zeros((), values.dtype)
    return lax.reduce_window(values, zero, lax.add, **{name: equation.params[name] for name in windows})


def _selected(reader: Reader, operation: _Operation) -> PathSum | None:
    """A choice between path sums that does not depend on any of them."""
    which, *cases = operation.operands
    if isinstance(which, PathSum):
        return None
    terms = reader.aligned(cases, only_zeros=True)
    return terms[0]._replace(values=operation.on(which, *(term.values for term in terms)), positive=None)


def _concatenated(reader: Reader, operation: _Operation) -> PathSum:
    terms = reader.aligned(operation.operands, only_zeros=True)
    return terms[0]._replace(values=operation.on(*(term.values for term in terms)))


def _added(reader: Reader, operation: _Operation) -> PathSum:
    """A sum or a difference: the paths of both, or of one where the other is known to be zero."""
    for one, other in (operation.operands, operation.operands[::-1]):
        if isinstance(one, PathSum) and _is_zero(other):
            return one
    one, other = reader.aligned(operation.operands, only_zeros=False)
    return reader.finished(one._replace(values=one.values + other.values))


def _subtracted(reader: Reader, operation: _Operation) -> PathSum:
    """A difference of two sums over paths, or of one and zero; what is no such sum cannot be subtracted from one.

    A bias can be an edge from an input of one, since it is added. With the size of a shift subtracted (as SynFlow's
    authors do with running means) sums become negative, their ReLUs matter, and nothing is a sum over paths any more.
    """
    term, shift = operation.operands
    from_paths = isinstance(term, PathSum) and term.from_input
    constant = not (isinstance(shift, PathSum) and shift.from_input)
    if reader.allow_max_and_bias and from_paths and constant and not _is_zero(shift):
        raise ValueError(
            "apply subtracts a shift, as batch normalisation does whose running means are not zero; it takes means "
            "of zero, since no sum over paths is left otherwise"
        )
    return _added(reader, operation)


def _multiplied(reader: Reader, operation: _Operation) -> PathSum:
    """A product, matrix product or convolution: paths from the input go on over weights or coefficients."""
    terms = (each if isinstance(each, PathSum) else raised(each, reader.power) for each in operation.operands)
    one, other = terms
    if one.from_input and other.from_input:
        raise ValueError("apply multiplies two functions of x; it takes a network linear between its ReLUs")
    if reader.forbid_reuse and one.leaves & other.leaves:
        raise ValueError("apply uses a weight twice on a path; it takes a network that shares no weights there")
    if operation.equation.primitive is primitives.mul_p:
        product = one.values * other.values  # not `on`, which would take a literal operand as it stands
    else:
        product = operation.on(one.values, other.values)
    return reader.finished(
        PathSum(
            product,
            one.exponent + other.exponent,
            from_input=one.from_input or other.from_input,
            leaves=one.leaves | other.leaves,
            lost_bits=one.lost_bits + other.lost_bits,
        )
    )


def _divided(reader: Reader, operation: _Operation) -> PathSum | None:
    """Division by a fixed coefficient."""
    term, divisor = operation.operands
    if isinstance(divisor, PathSum):
        return None
    divisor = raised(divisor, reader.power)
    return reader.finished(
        term._replace(values=term.values / divisor.values, exponent=term.exponent - divisor.exponent)
    )


_RULES: dict[Any, _Rule] = {
    primitives.neg_p: _unchanged,
    primitives.copy_p: _unchanged,
    primitives.name_p: _unchanged,
    primitives.convert_element_type_p: _converted,
    primitives.reshape_p: _moved,
    primitives.transpose_p: _moved,
    primitives.squeeze_p: _moved,
    primitives.broadcast_in_dim_p: _moved,
    primitives.rev_p: _moved,
    primitives.reduce_sum_p: _moved,
    primitives.reduce_window_sum_p: _windows,
    primitives.cumsum_p: _moved,
    primitives.slice_p: _taken,
    primitives.dynamic_slice_p: _taken,
    primitives.gather_p: _taken,
    primitives.pad_p: _padded,
    primitives.max_p: _relu,
    primitives.reduce_max_p: _pooled,
    primitives.reduce_window_max_p: _pooled,
    primitives.select_n_p: _selected,
    primitives.concatenate_p: _concatenated,
    primitives.add_p: _added,
    primitives.sub_p: _subtracted,
    primitives.add_jaxvals_p: _added,
    primitives.mul_p: _multiplied,
    primitives.dot_general_p: _multiplied,
    primitives.conv_general_dilated_p: _multiplied,
    primitives.div_p: _divided,
}
