"""A traced JAX program, evaluated in ball arithmetic equation by equation.

Floats are balls; integers, booleans and random keys are data, which NumPy or JAX evaluates exactly. A comparison of
balls is decided or raises. The inputs are the exact values of the floats given.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from sketchprune._jaxpr import called
from theory.counterexamples.balls import elementwise, linalg, movement
from theory.counterexamples.balls.arrays import NoBallVersion, as_array, balls, is_float

MAX_NUMBERS = 20_000_000
"""Numbers that a program may compute: each takes about a microsecond."""
_COMPUTED: ContextVar[list[int] | None] = ContextVar("numbers computed so far", default=None)
Values = list[Any]
"""Arrays of balls, NumPy arrays of data, and JAX's arrays of random keys."""


def evaluate(program: jex.ClosedJaxpr, inputs: Sequence[Any]) -> Values:
    """The outputs of a program, with its floats as balls at the precision of ``flint.ctx``.

    Args:
        program: traced, as by jax.make_jaxpr.
        inputs: for each input an array: of balls, or of numbers, which are taken as exact.

    Raises:
        Undecided: the balls do not decide a comparison.
        NoBallVersion: an operation has no version in ball arithmetic.
    """
    if _COMPUTED.get() is None:
        with together():
            return evaluate(program, inputs)
    return _run(program.jaxpr, program.consts, [_value(each) for each in inputs])


@contextmanager
def together() -> Iterator[None]:
    """Programs that are evaluated within this context share the numbers that one may compute."""
    token = _COMPUTED.set([0])
    try:
        yield
    finally:
        _COMPUTED.reset(token)


def _value(array: Any) -> Any:
    """A number, or an array of numbers or of keys, as the interpreter holds it."""
    if isinstance(array, np.ndarray) and array.dtype == object:
        return array
    dtype = jax.dtypes.result_type(array)
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return array
    return balls(array) if is_float(dtype) else np.asarray(array, dtype)


def _run(jaxpr: jex.Jaxpr, consts: Sequence[Any], inputs: Values, wanted: Sequence[bool] | None = None) -> Values:
    """The outputs; None for those that are not wanted, which by default all are."""
    values: dict[Any, Any] = {}
    values.update(zip(jaxpr.constvars, map(_value, consts), strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))
    equations, read = _live(jaxpr, wanted)

    def value_of(atom: Any) -> Any:
        return _literal(atom) if isinstance(atom, jex.Literal) else values[atom]

    for equation in equations:
        used = [variable in read for variable in equation.outvars]
        _count(equation)
        results = _apply(equation, [value_of(atom) for atom in equation.invars], used)
        values.update(zip(equation.outvars, results, strict=True))
    return [value_of(atom) if isinstance(atom, jex.Literal) else values.get(atom) for atom in jaxpr.outvars]


def _count(equation: Any):
    """Refuse a program that computes too many numbers."""
    computed = _COMPUTED.get()
    assert computed is not None
    computed[0] += sum(int(np.prod(variable.aval.shape, dtype=int)) for variable in equation.outvars)
    if computed[0] > MAX_NUMBERS:
        raise NoBallVersion(f"a program of more than {MAX_NUMBERS} numbers")


def _literal(atom: Any) -> Any:
    return balls(atom.val) if is_float(atom.aval.dtype) else np.asarray(atom.val, atom.aval.dtype)


def _live(jaxpr: jex.Jaxpr, wanted: Sequence[bool] | None) -> tuple[list[Any], set[Any]]:
    """The equations that the wanted outputs depend on, and the variables that are read."""
    outputs = [atom for place, atom in enumerate(jaxpr.outvars) if wanted is None or wanted[place]]
    read = {atom for atom in outputs if not isinstance(atom, jex.Literal)}
    equations = []
    for equation in reversed(jaxpr.eqns):
        if any(variable in read for variable in equation.outvars):
            equations.append(equation)
            read |= {atom for atom in equation.invars if not isinstance(atom, jex.Literal)}
    return equations[::-1], read


def _apply(equation: Any, operands: Values, used: list[bool]) -> Values:
    """The values of one equation."""
    name, params = equation.primitive.name, equation.params
    if name == "cond":
        return _cond(params, operands, used)
    if name in _NESTED:
        return _NESTED[name](params, operands)
    if (program := called(equation)) is not None:
        return _call(program, operands, used)
    if not _any_float(equation):
        return _as_data(equation, operands)
    if name == "iota":
        return [movement.iota(params)]
    if name == "concatenate":
        return [np.concatenate(operands, params["dimension"])]
    if name == "stack":
        return [np.stack(operands, params.get("axis", params.get("dimension", 0)))]
    if name == "split":
        return np.split(operands[0], np.cumsum(params["sizes"])[:-1], params["axis"])
    if name == "sort":
        return movement.sort(params, operands)
    if name in movement.REARRANGEMENTS:
        return [movement.REARRANGEMENTS[name](operands[0], params)]
    if name in movement.MOVING:
        return movement.move(equation, operands)
    if name in movement.SCATTERS:
        return [movement.scatter(equation, operands)]
    for value in (elementwise.apply(name, params, operands), movement.fold(name, params, operands)):
        if value is not None:
            return [value]
    if (several := linalg.factorise(name, params, operands, used)) is not None:
        return several
    raise NoBallVersion(name)


def _any_float(equation: Any) -> bool:
    return any(is_float(atom.aval.dtype) for atom in (*equation.invars, *equation.outvars))


def _as_data(equation: Any, operands: Values) -> Values:
    """An equation without floats, evaluated exactly."""
    name, params = equation.primitive.name, equation.params
    if name in movement.REARRANGEMENTS and isinstance(operands[0], np.ndarray):
        return [movement.REARRANGEMENTS[name](operands[0], params)]
    if name == "iota":
        return [movement.iota(params)]
    if all(isinstance(operand, np.ndarray) for operand in operands):
        found = elementwise.apply(name, params, operands)
        if found is not None:
            return [np.asarray(found, equation.outvars[0].aval.dtype)]
    results = equation.primitive.bind(*operands, **params)
    results = results if equation.primitive.multiple_results else [results]
    return [_value(result) for result in results]


# --- Programs within programs


def _call(program: Any, operands: Values, wanted: Sequence[bool] | None = None) -> Values:
    closed = isinstance(program, jex.ClosedJaxpr)
    return _run(program.jaxpr if closed else program, program.consts if closed else (), operands, wanted)


def _cond(params: dict[str, Any], operands: Values, used: list[bool]) -> Values:
    which, *rest = operands
    branches = params["branches"]
    return _call(branches[min(max(int(which), 0), len(branches) - 1)], rest, used)


def _while(params: dict[str, Any], operands: Values) -> Values:
    split = params["cond_nconsts"]
    of_test, rest = operands[:split], operands[split:]
    of_body, carry = rest[: params["body_nconsts"]], rest[params["body_nconsts"] :]
    while bool(np.all(_call(params["cond_jaxpr"], [*of_test, *carry])[0])):
        carry = _call(params["body_jaxpr"], [*of_body, *carry])
    return carry


def _scan(params: dict[str, Any], operands: Values) -> Values:
    num_consts, num_carry, length = params["num_consts"], params["num_carry"], params["length"]
    consts, carry = operands[:num_consts], operands[num_consts : num_consts + num_carry]
    rows = operands[num_consts + num_carry :]
    steps = range(length - 1, -1, -1) if params["reverse"] else range(length)
    stacked: dict[int, Values] = {}
    for step in steps:
        results = _call(params["jaxpr"], [*consts, *carry, *(_row(each, step) for each in rows)])
        carry, stacked[step] = results[:num_carry], results[num_carry:]
    count = len(params["jaxpr"].out_avals) - num_carry
    outputs = [_stacked([stacked[step][place] for step in range(length)]) for place in range(count)]
    if not length:
        outputs = [_value(np.zeros((0, *aval.shape), aval.dtype)) for aval in params["jaxpr"].out_avals[num_carry:]]
    return [*carry, *outputs]


def _row(array: Any, step: int) -> Any:
    """One row, as an array even where it is a single number."""
    row = array[step]
    return np.asarray(row) if isinstance(row, np.generic) else row if isinstance(row, jax.Array) else as_array(row)


def _stacked(rows: list[Any]) -> Any:
    if not rows:
        return np.empty(0, object)
    return np.stack(rows) if isinstance(rows[0], np.ndarray) else jax.numpy.stack(rows)


def _linear_solve(params: dict[str, Any], operands: Values) -> Values:
    """The solver of a linear solve, with its own constants."""
    lengths, jaxprs = params["const_lengths"], params["jaxprs"]
    before = lengths.matvec + lengths.vecmat
    constants = operands[before : before + lengths.solve]
    return _call(jaxprs.solve, [*constants, *operands[sum(lengths) :]])


_NESTED = {"while": _while, "scan": _scan, "custom_linear_solve": _linear_solve}
