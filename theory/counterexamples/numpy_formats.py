"""How the primitives of a traced program are written in NumPy, from the texts of their operands."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


class NoSource(Exception):
    """The program is not translated; the message says why."""


@dataclass(frozen=True)
class Expression:
    """The text of a value.

    Attributes:
        text: evaluates to an array of the shape.
        shape: of the value.
        bare: evaluates to what broadcasts to the shape.
    """

    text: str
    shape: tuple[int, ...]
    bare: str = ""


Value = np.ndarray | Expression


def literal(value: Any) -> str:
    """An array as NumPy source, exactly.

    >>> literal(np.array([0.5, 2.0])), literal(np.zeros((2, 2))), literal(np.float64(0.1))
    ('np.array([0.5, 2.0])', 'np.zeros((2, 2))', '0.1')
    """
    array = np.asarray(value)
    if not array.shape:
        return _number(array.item())
    if array.dtype != bool and array.size > 1:
        if (array == 0).all():
            return f"np.zeros({_axes(array.shape)})"
        if (array == 1).all():
            return f"np.ones({_axes(array.shape)})"
    return f"np.array({_nested(array.tolist())})"


def _number(value: Any) -> str:
    if not isinstance(value, float) or np.isfinite(value):
        return repr(value)
    return "-np.inf" if value == -np.inf else f"np.{value}"


def _nested(values: Any) -> str:
    return f"[{', '.join(map(_nested, values))}]" if isinstance(values, list) else _number(values)


def bracketed(text: str) -> str:
    """The text in brackets where operators could tear it apart."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        outside = character == " " or (character in "-~" and place == 0)
        if depth == 0 and outside:
            return f"({text})"
    return text


IDENTITIES = ("copy", "copy_p", "convert_element_type", "stop_gradient", "reduce_precision", "optimization_barrier")
_BINARY = {
    "add": "+", "add_any": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "lt": "<", "le": "<=", "gt": ">",
    "ge": ">=", "eq": "==", "ne": "!=", "and": "&", "or": "|", "xor": "^",
}  # fmt: skip  # a table, several entries a line
_UNARY = {
    name: f"np.{name}({{1}})"
    for name in ("sign", "exp", "exp2", "expm1", "log", "log1p", "sqrt", "cbrt", "tanh", "sinh", "cosh", "sin", "cos",
                 "tan", "floor", "ceil", "square")
}  # fmt: skip  # a table, several entries a line
ELEMENTWISE = {
    **{name: f"{{0}} {sign} {{1}}" for name, sign in _BINARY.items()},
    **_UNARY,
    "abs": "abs({1})",
    "neg": "-{0}",
    "not": "~{0}",
    "rsqrt": "1 / np.sqrt({1})",
    "logistic": "1 / (1 + np.exp(-{0}))",
    "asin": "np.arcsin({1})",
    "acos": "np.arccos({1})",
    "atan": "np.arctan({1})",
    "asinh": "np.arcsinh({1})",
    "acosh": "np.arccosh({1})",
    "atanh": "np.arctanh({1})",
    "is_finite": "np.isfinite({1})",
    "max": "np.maximum({2}, {3})",
    "min": "np.minimum({2}, {3})",
    "atan2": "np.arctan2({2}, {3})",
    "select_n": "np.where({3}, {5}, {4})",
}
"""Primitive -> format, with each operand in brackets, then each without."""


def _dot(texts: list[str], operands: list[Value], params: Mapping[str, Any]) -> str:
    (left, right), (batch_left, batch_right) = params["dimension_numbers"]
    first, second = (operand.shape for operand in operands)
    if not batch_left and len(left) == 1 and left[0] == len(first) - 1 and right[0] == 0 and len(second) <= 2:
        return f"{bracketed(texts[0])} @ {bracketed(texts[1])}"
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    of_first = {axis: next(letters) for axis in range(len(first))}
    of_second = {
        axis: of_first[other] for other, axis in zip((*left, *batch_left), (*right, *batch_right), strict=True)
    }
    of_second |= {axis: next(letters) for axis in range(len(second)) if axis not in of_second}
    out = [of_first[axis] for axis in batch_left]
    out += [of_first[axis] for axis in range(len(first)) if axis not in (*batch_left, *left)]
    out += [of_second[axis] for axis in range(len(second)) if axis not in (*batch_right, *right)]
    names = ["".join(letter[axis] for axis in sorted(letter)) for letter in (of_first, of_second)]
    return f"np.einsum('{names[0]},{names[1]}->{''.join(out)}', {texts[0]}, {texts[1]})"


def _axes(axes: Iterable[Any]) -> int | tuple[int, ...]:
    """One axis as a number, several as a tuple."""
    numbers = tuple(map(int, axes))
    return numbers[0] if len(numbers) == 1 else numbers


def _fold(function: str) -> Any:
    def text(texts: list[str], operands: list[Value], params: Mapping[str, Any]) -> str:
        axes, ndim = tuple(params["axes"]), len(operands[0].shape)
        if len(axes) == ndim:
            return f"np.{function}({texts[0]})"
        return f"np.{function}({texts[0]}, axis={_axes(axes)})"

    return text


def _cumulative(function: str) -> Any:
    def text(texts: list[str], operands: list[Value], params: Mapping[str, Any]) -> str:
        axis = params["axis"]
        if not params["reverse"]:
            return f"np.{function}({texts[0]}, axis={axis})"
        return f"np.flip(np.{function}(np.flip({texts[0]}, {axis}), axis={axis}), {axis})"

    return text


def _slice(texts: list[str], operands: list[Value], params: Mapping[str, Any]) -> str:
    steps = params["strides"] or (1,) * len(params["start_indices"])
    parts = []
    for start, end, step, size in zip(
        params["start_indices"], params["limit_indices"], steps, operands[0].shape, strict=True
    ):
        whole = start == 0 and end == size and step == 1
        parts.append(":" if whole else f"{start}:{end}" + (f":{step}" if step > 1 else ""))
    return f"{bracketed(texts[0])}[{', '.join(parts)}]"


def _dynamic_slice(texts: list[str], operands: list[Value], params: Mapping[str, Any]) -> str:
    parts = []
    for text, size, length in zip(texts[1:], params["slice_sizes"], operands[0].shape, strict=True):
        parts.append(":" if size == length else f"int({text}):int({text}) + {size}")
    return f"{bracketed(texts[0])}[{', '.join(parts)}]"


RULES: dict[str, Any] = {
    "reshape": lambda texts, _, params: f"np.reshape({texts[0]}, {tuple(params['new_sizes'])})",
    "squeeze": lambda texts, _, params: f"np.squeeze({texts[0]}, {_axes(params['dimensions'])})",
    "expand_dims": lambda texts, _, params: f"np.expand_dims({texts[0]}, {_axes(params['dimensions'])})",
    "transpose": lambda texts, operands, params: (
        f"{bracketed(texts[0])}.T"
        if params["permutation"] == tuple(reversed(range(len(operands[0].shape))))
        else f"np.transpose({texts[0]}, {tuple(params['permutation'])})"
    ),
    "rev": lambda texts, _, params: f"np.flip({texts[0]}, {_axes(params['dimensions'])})",
    "concatenate": lambda texts, _, params: f"np.concatenate([{', '.join(texts)}], {params['dimension']})",
    "stack": lambda texts, _, params: f"np.stack([{', '.join(texts)}], {params.get('axis', 0)})",
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "dot_general": _dot,
    "reduce_sum": _fold("sum"),
    "reduce_prod": _fold("prod"),
    "reduce_max": _fold("max"),
    "reduce_min": _fold("min"),
    "reduce_and": _fold("all"),
    "reduce_or": _fold("any"),
    "argmax": _fold("argmax"),
    "argmin": _fold("argmin"),
    "cumsum": _cumulative("cumsum"),
    "cumprod": _cumulative("cumprod"),
    "cummax": _cumulative("maximum.accumulate"),
    "cummin": _cumulative("minimum.accumulate"),
    "clamp": lambda texts, _, params: f"np.clip({texts[1]}, {texts[0]}, {texts[2]})",
    "cholesky": lambda texts, _, params: f"np.linalg.cholesky({texts[0]})",
}
"""Primitive -> its text from those of its operands, the operands, and its parameters."""
