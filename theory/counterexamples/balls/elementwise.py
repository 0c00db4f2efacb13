"""Functions of single entries: arithmetic, elementary and special functions, comparisons and choices."""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb

from theory.counterexamples.balls.arrays import (
    Balls,
    NoBallVersion,
    Undecided,
    balls,
    decisions,
    elementwise,
    exact,
    is_float,
)


def less(name: str) -> Callable[[arb, arb], bool]:
    """a < b, if the balls decide it."""

    def decide(a: arb, b: arb) -> bool:
        if a < b:
            return True
        if a >= b:
            return False
        raise Undecided(name)

    return decide


def equal(name: str) -> Callable[[arb, arb], bool]:
    """a = b, if the balls decide it: they do where they are disjoint, or both exact."""

    def decide(a: arb, b: arb) -> bool:
        if a != b:
            return False
        if a == b:
            return True
        raise Undecided(name)

    return decide


def _not(decide: Callable[[arb, arb], bool]) -> Callable[[arb, arb], bool]:
    return lambda a, b: not decide(a, b)


def _swapped(decide: Callable[[arb, arb], bool]) -> Callable[[arb, arb], bool]:
    return lambda a, b: decide(b, a)


COMPARISONS: dict[str, Callable[[arb, arb], bool]] = {
    "lt": less("lt"),
    "gt": _swapped(less("gt")),
    "le": _not(_swapped(less("le"))),
    "ge": _not(less("ge")),
    "eq": equal("eq"),
    "ne": _not(equal("ne")),
}


def _sign(x: arb) -> arb:
    if x > 0:
        return arb(1)
    if x < 0:
        return arb(-1)
    if x == 0:
        return arb(0)
    raise Undecided("sign")


def _log(x: arb) -> arb:
    return arb.neg_inf() if x == 0 else x.log()


def _log1p(x: arb) -> arb:
    return arb.neg_inf() if x == -1 else x.log1p()


def _cube_root(x: arb) -> arb:
    return -(-x).root(3) if x < 0 else x.root(3)


def _divide(x: arb, y: arb) -> arb:
    """x / y; ±∞ for x/0 as floats have it, and 0 for x/∞."""
    if y == 0 and (x > 0 or x < 0):
        return arb.pos_inf() if x > 0 else arb.neg_inf()
    if not y.is_finite() and (y > 0 or y < 0) and x.is_finite():
        return arb(0)
    return x / y


def _times(x: arb, y: arb) -> arb:
    return x * y


def _power(x: arb, y: arb | int) -> arb:
    y = arb(int(y)) if isinstance(y, int | np.integer) else y
    if y == 0:
        return arb(1)
    if x == 0 and y > 0:
        return arb(0)
    return _integer_power(x, y=int(float(y))) if y.is_exact() and y.is_integer() and abs(y) < 2**16 else x**y


def _integer_power(x: arb, *, y: int) -> arb:
    """x^y, also of a ball around 0, for which flint's power is nan."""
    if y < 0:
        return _divide(arb(1), _integer_power(x, y=-y))
    if not x.contains(arb(0)):
        return x**y
    power = math.prod([x] * y, start=arb(1))
    return power if y % 2 else power.max(arb(0))


def _integer(x: arb, name: str) -> int:
    """The whole number that a ball holds, if there is one alone."""
    found = x.unique_fmpz()
    if found is None:
        raise Undecided(name)
    return int(found)


def _whole(x: arb, name: str) -> arb:
    """A result of rounding, if it is one whole number."""
    return arb(_integer(x, name)) if x.is_finite() else x


def _round(x: arb, *, rounding_method: Any) -> arb:
    """To the nearest whole number; halves away from zero (0) or to even (1)."""
    low = _whole(x.floor(), "round")
    rest = x - low
    half = arb(0.5)
    if equal("round")(rest, half):
        odd = _integer(low, "round") % 2 == 1
        up = odd if int(rounding_method) == 1 else bool(low >= 0)
    else:
        up = less("round")(half, rest)
    return low + 1 if up else low


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "add_any": operator.add, "sub": operator.sub, "mul": _times, "div": _divide,
    "neg": operator.neg, "abs": abs, "sign": _sign, "max": arb.max, "min": arb.min, "square": lambda x: x * x,
    "sqrt": arb.sqrt, "rsqrt": lambda x: _divide(arb(1), x.sqrt()), "cbrt": _cube_root,
    "exp": arb.exp, "exp2": lambda x: arb(2) ** x, "expm1": arb.expm1, "log": _log, "log1p": _log1p,
    "pow": _power, "integer_pow": _integer_power,
    "logistic": lambda x: 1 / (1 + (-x).exp()), "tanh": arb.tanh, "sinh": arb.sinh, "cosh": arb.cosh, "sin": arb.sin,
    "cos": arb.cos, "tan": arb.tan, "asin": arb.asin, "acos": arb.acos, "atan": arb.atan, "asinh": arb.asinh,
    "acosh": arb.acosh, "atanh": arb.atanh, "atan2": arb.atan2, "erf": arb.erf, "erfc": arb.erfc,
    "erf_inv": arb.erfinv, "lgamma": arb.lgamma, "digamma": arb.digamma,
    "floor": lambda x: _whole(x.floor(), "floor"), "ceil": lambda x: _whole(x.ceil(), "ceil"), "round": _round,
}  # fmt: skip  # a table, several entries a line
"""Primitive -> function of balls."""
_OPTIONS = ("y", "rounding_method")
"""Parameters that functions take. Accuracy and dtypes mean nothing to a ball, which is as good as its radius says."""
_INTEGER: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative, "abs": np.abs, "sign": np.sign,
    "max": np.maximum, "min": np.minimum, "lt": np.less, "gt": np.greater, "le": np.less_equal,
    "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "not": np.invert,
}  # fmt: skip  # a table, several entries a line
"""Primitives of integers and booleans whose NumPy function does the same."""


def apply(name: str, params: dict[str, Any], operands: list[Any]) -> Any:
    """The value of an elementwise primitive; None where it is none of these.

    Args:
        name: of the primitive.
        params: its parameters.
        operands: arrays of balls or of data.
    """
    if name in _SPECIAL:
        return _SPECIAL[name](params, operands)
    of_balls = any(operand.dtype == object for operand in operands)
    if not of_balls:
        function = _INTEGER.get(name)
        return None if function is None else np.asarray(function(*operands))
    if name in COMPARISONS:
        return decisions(COMPARISONS[name], *operands)
    if name == "is_finite":
        return decisions(lambda x: x.is_finite(), *operands)
    if name not in FUNCTIONS:
        return None
    options = {key: value for key, value in params.items() if key in _OPTIONS}
    function = FUNCTIONS[name]
    return elementwise((lambda *entries: function(*entries, **options)) if options else function, *operands)


def _select(params: dict[str, Any], operands: list[Any]) -> Any:
    which, *choices = operands
    which = np.broadcast_to(np.asarray(which, int), choices[0].shape)
    result = choices[0].copy()
    for number, choice in enumerate(choices[1:], 1):
        np.copyto(result, choice, where=which == number)
    return result


def _clamp(params: dict[str, Any], operands: list[Any]) -> Any:
    low, x, high = operands
    if x.dtype == object:
        return elementwise(lambda a, b, c: b.max(a).min(c), low, x, high)
    return np.clip(x, low, high)


def _convert(params: dict[str, Any], operands: list[Any]) -> Any:
    """Between floats nothing is rounded: the statement is about real numbers."""
    (x,), target = operands, params["new_dtype"]
    if x.dtype != object:
        return balls(x) if is_float(target) else x.astype(target)
    if is_float(target):
        return x
    if target == np.dtype(bool):
        return decisions(COMPARISONS["ne"], x, exact(0.0))
    towards_zero = elementwise(
        lambda ball: ball.floor() if not less("convert_element_type")(ball, arb(0)) else ball.ceil(), x
    )
    whole = elementwise(lambda ball: _integer(ball, "convert_element_type"), towards_zero)
    return whole.astype(target)


def _bits(params: dict[str, Any], operands: list[Any]) -> Any:
    """The bits of a ball are those of the nearest double, if all of the ball is nearest to the same one."""
    (x,), target = operands, np.dtype(params["new_dtype"])
    if x.dtype == object:
        if target.itemsize != 8:
            raise NoBallVersion("bitcast_convert_type from single precision")
        return elementwise(_nearest_double, x).astype(float).view(target)
    if is_float(target) and target.itemsize < 4:
        raise NoBallVersion("bitcast_convert_type to half precision")
    bits = x.view(target)
    return balls(bits) if is_float(target) else bits


def _nearest_double(x: arb) -> float:
    low, high = float(x.lower()), float(x.upper())
    if low != high:
        raise Undecided("bitcast_convert_type")
    return low


def _same(params: dict[str, Any], operands: list[Any]) -> Balls:
    return operands[0]


_SPECIAL: dict[str, Callable[[dict[str, Any], list[Any]], Any]] = {
    "select_n": _select, "clamp": _clamp, "convert_element_type": _convert, "bitcast_convert_type": _bits,
    "copy": _same, "copy_p": _same, "reduce_precision": _same, "stop_gradient": _same, "optimization_barrier": _same,
}  # fmt: skip  # a table, several entries a line
