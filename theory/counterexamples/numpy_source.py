"""A traced JAX program as NumPy source: a file that evaluates it needs nothing of this package, and no JAX.

What does not depend on the inputs is evaluated here and written as numbers. Programs with loops, or with operations
that NumPy does not have, are not translated.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from sketchprune._jaxpr import called
from theory.counterexamples.numpy_formats import (
    ELEMENTWISE,
    IDENTITIES,
    RULES,
    Expression,
    NoSource,
    Value,
    bracketed,
    literal,
)
from theory.counterexamples.scatter_places import places_of_updates

MAX_LINE = 100
"""An expression that is used once is written where it is used, while the line stays about this short."""
MAX_LINES = 400
"""Programs that take more lines are not translated: nobody reads them."""


def source(program: jex.ClosedJaxpr, inputs: Sequence[Value]) -> tuple[list[str], list[str]]:
    """Lines of NumPy that evaluate a program, and an expression for each of its outputs.

    Args:
        program: traced.
        inputs: for each input an array, which is written as numbers where it is used, or an expression.

    Raises:
        NoSource: an operation has no translation.
    """
    writer = _Writer()
    outputs = [writer.text(output) for output in writer.run(program.jaxpr, program.consts, list(inputs))]
    lines = _read_lines(writer.lines, outputs)
    repeated = [text for text in writer.arrays if sum(line.count(text) for line in (*lines, *outputs)) > 1]
    for number, text in enumerate(repeated, 1):
        lines = [line.replace(text, f"c{number}") for line in lines]
        outputs = [output.replace(text, f"c{number}") for output in outputs]
    return [*(f"c{number} = {text}" for number, text in enumerate(repeated, 1)), *lines], outputs


def _read_lines(lines: list[str], outputs: list[str]) -> list[str]:
    """The lines without those that name what nothing reads."""
    read = set(_NAME.findall(" ".join(outputs)))
    kept = []
    for line in reversed(lines):
        name, assigned, _ = line.partition(" = ")
        if not assigned or not name.isidentifier() or name in read:
            kept.append(line)
            read |= set(_NAME.findall(line))
    return kept[::-1]


_NAME = re.compile(r"\bv\d+\b")


class _Writer:
    """Lines so far, and how the values of a program are written."""

    def __init__(self):
        self.lines: list[str] = []
        self.arrays: dict[str, None] = {}  # long arrays of numbers, in the order in which they are written

    def run(
        self, jaxpr: jex.Jaxpr, consts: Sequence[Any], inputs: list[Value], wanted: Sequence[int] | None = None
    ) -> list[Value]:
        """The outputs of a program; of those that are not wanted (by default all are) nothing is written."""
        values: dict[Any, Value] = dict(zip(jaxpr.constvars, map(np.asarray, consts), strict=True))
        equations, uses = _live(jaxpr, wanted)
        for variable, value in zip(jaxpr.invars, inputs, strict=True):
            values[variable] = self._named(value, uses[variable])

        def value_of(atom: Any) -> Value:
            if not isinstance(atom, jex.Literal):
                return values[atom]
            aval: Any = atom.aval
            return np.asarray(atom.val, aval.dtype)

        for equation in equations:
            operands = [value_of(atom) for atom in equation.invars]
            for variable, value in zip(equation.outvars, self._apply(equation, operands, uses), strict=True):
                values[variable] = self._named(value, uses[variable])
        unwanted = Expression("None", ())
        return [
            value_of(atom) if isinstance(atom, jex.Literal) or atom in values else unwanted for atom in jaxpr.outvars
        ]

    def text(self, value: Value) -> str:
        """A value as source."""
        return value.text if isinstance(value, Expression) else self._numbers(value)

    def _numbers(self, value: Any) -> str:
        text = literal(value)
        if len(text) > MAX_LINE // 2:
            self.arrays[text] = None
        return text

    def _named(self, value: Value, uses: int) -> Value:
        """The value, with a name of its own where it is used again or is long."""
        if not isinstance(value, Expression) or value.text.isidentifier():
            return value
        if uses <= 1 and len(value.text) < MAX_LINE:
            return value
        if len(self.lines) >= MAX_LINES:
            raise NoSource(f"it takes more than {MAX_LINES} lines")
        name = f"v{len(self.lines) + 1}"
        self.lines.append(f"{name} = {value.bare or value.text}")
        shown = name if not value.bare else f"np.broadcast_to({name}, {value.shape})"
        return Expression(shown, value.shape, name if value.bare else "")

    def _apply(self, equation: Any, operands: list[Value], uses: Counter) -> Sequence[Value]:
        name, params = equation.primitive.name, equation.params
        wanted = [uses[variable] for variable in equation.outvars]
        if name == "cond" and isinstance(operands[0], np.ndarray):
            branch = params["branches"][int(np.clip(operands[0], 0, len(params["branches"]) - 1))]
            return self.run(branch.jaxpr, branch.consts, operands[1:], wanted)
        if (program := called(equation)) is not None:
            return self.run(program.jaxpr, program.consts, operands, wanted)
        if name == "scan":
            return self._scan(params, operands)
        if all(isinstance(operand, np.ndarray) for operand in operands):
            return _evaluated(equation, operands)
        shape = tuple(equation.outvars[0].aval.shape)
        if name in IDENTITIES:
            return operands[:1]
        if name in ELEMENTWISE or name == "integer_pow":
            return [self._elementwise(name, params, operands, shape)]
        if name in RULES:
            text = RULES[name]([self.text(operand) for operand in operands], operands, params)
            return [Expression(text, shape)]
        if name == "broadcast_in_dim":
            return [self._broadcast(operands[0], params)]
        if name == "split":
            return self._split(operands[0], params)
        if name == "eigh":
            return self._eigh(equation, operands[0], uses)
        if name in _PLACED and all(isinstance(operand, np.ndarray) for operand in operands[1:]):
            return [self._placed(equation, operands[0], operands[1:], shape)]
        if name in ("scatter-add", "scatter_add") and isinstance(operands[1], np.ndarray):
            return [self._scatter_add(params, operands, shape)]
        raise NoSource(f"{name} has no translation")

    def _scan(self, params: Mapping[str, Any], operands: list[Value]) -> Sequence[Value]:
        """The steps of a short loop, one after the other; its results are the carry alone."""
        num_consts, num_carry = params["num_consts"], params["num_carry"]
        consts, carry = operands[:num_consts], operands[num_consts:][:num_carry]
        rows: list[Any] = operands[num_consts + num_carry :]
        if len(params["jaxpr"].out_avals) > num_carry or not all(isinstance(row, np.ndarray) for row in rows):
            raise NoSource("scan over rows has no translation")
        steps = range(params["length"])
        for step in reversed(steps) if params["reverse"] else steps:
            body = params["jaxpr"]
            results = self.run(body.jaxpr, body.consts, [*consts, *carry, *(np.asarray(row[step]) for row in rows)])
            carry = [self._named(result, uses=2) for result in results]
        return carry

    def _elementwise(self, name: str, params: Mapping[str, Any], operands: list[Value], shape: tuple) -> Value:
        """A function of entries; NumPy broadcasts, so that equal entries are written once."""
        if (simple := _simplified(name, operands, shape)) is not None:
            return simple
        whole = [
            isinstance(operand, Expression) and operand.shape == shape and not operand.bare for operand in operands
        ]
        if not any(whole) and isinstance(operands[-1], Expression):
            whole[-1] = operands[-1].shape == shape
        texts = []
        for operand, full in zip(operands, whole, strict=True):
            if isinstance(operand, Expression):
                texts.append(operand.text if full or not operand.bare or not any(whole) else operand.bare)
            else:
                uniform = operand.size and (operand == operand.flat[0]).all()
                texts.append(self._numbers(operand.flat[0] if uniform and any(whole) else operand))
        if name == "integer_pow":
            power = f"{bracketed(texts[0])} ** {abs(params['y'])}"
            return Expression(power if params["y"] >= 0 else f"1 / {power}", shape)
        return Expression(ELEMENTWISE[name].format(*(bracketed(text) for text in texts), *texts), shape)

    def _broadcast(self, x: Value, params: Mapping[str, Any]) -> Value:
        shape, dimensions = tuple(params["shape"]), params["broadcast_dimensions"]
        assert isinstance(x, Expression)
        if not x.shape:
            return Expression(f"np.full({shape}, {x.text})", shape, x.text) if shape else x
        index = ", ".join(":" if axis in dimensions else "None" for axis in range(len(shape)))
        bare = x.text if len(dimensions) == len(shape) else f"{bracketed(x.text)}[{index}]"
        aligned = tuple(x.shape[dimensions.index(axis)] if axis in dimensions else 1 for axis in range(len(shape)))
        if aligned == shape:
            return Expression(bare, shape)
        return Expression(f"np.broadcast_to({bare}, {shape})", shape, bare)

    def _split(self, x: Value, params: Mapping[str, Any]) -> Sequence[Value]:
        assert isinstance(x, Expression)
        named = self._named(x, uses=2)
        axis, start, parts = params["axis"], 0, []
        for size in params["sizes"]:
            index = ", ".join([":"] * axis + [f"{start}:{start + size}"])
            shape = (*x.shape[:axis], int(size), *x.shape[axis + 1 :])
            parts.append(Expression(f"{self.text(named)}[{index}]", shape))
            start += size
        return parts

    def _eigh(self, equation: Any, x: Value, uses: Counter) -> Sequence[Value]:
        vectors, values = equation.outvars
        if not uses[vectors]:
            text = f"np.linalg.eigvalsh({self.text(x)})"
            return [Expression("None", tuple(vectors.aval.shape)), Expression(text, tuple(values.aval.shape))]
        name = f"v{len(self.lines) + 1}"
        self.lines.append(f"{name}_values, {name}_vectors = np.linalg.eigh({self.text(x)})")
        return [
            Expression(f"{name}_vectors", tuple(vectors.aval.shape)),
            Expression(f"{name}_values", tuple(values.aval.shape)),
        ]

    def _placed(self, equation: Any, x: Value, rest: list[Any], shape: tuple) -> Value:
        """Entries moved to places that are known: an index into the raveled operand."""
        assert isinstance(x, Expression)
        positions = np.arange(1, 1 + int(np.prod(x.shape, dtype=int)), dtype=np.int32).reshape(x.shape)
        params = {**equation.params, "fill_value": 0} if "fill_value" in equation.params else equation.params
        if equation.primitive.name == "pad":
            rest = [np.zeros((), np.int32)]
        places = np.asarray(equation.primitive.bind(positions, *rest, **params))
        flat = self.text(x) if len(x.shape) == 1 else f"{bracketed(self.text(x))}.ravel()"
        if equation.primitive.name == "pad" and (places == 0).any():
            return self._padded(equation.params["padding_config"], x, shape)
        if (places == 0).any():
            raise NoSource(f"{equation.primitive.name} beyond the end has no translation")
        if np.array_equal(places, positions):
            return x
        if places.ndim == 1 and len(places) and (np.diff(places) == 1).all():
            return Expression(f"{bracketed(flat)}[{places[0] - 1}:{places[-1]}]", shape)
        return Expression(f"{bracketed(flat)}[{self._numbers(places - 1)}]", shape)

    def _padded(self, config: Any, x: Expression, shape: tuple) -> Value:
        if any(low < 0 or high < 0 or inner for low, high, inner in config):
            raise NoSource("pad within an array has no translation")
        widths = [(low, high) for low, high, _ in config]
        return Expression(f"np.pad({x.text}, {widths})", shape)

    def _scatter_add(self, params: Mapping[str, Any], operands: list[Value], shape: tuple) -> Value:
        operand, indices, updates = operands
        update_shape = updates.shape
        places = places_of_updates(params, shape, indices, update_shape)
        if (places == 0).any():
            raise NoSource("scatter-add beyond the end has no translation")
        name = f"v{len(self.lines) + 1}"
        self.lines.append(f"{name} = np.array(np.broadcast_to({self.text(operand)}, {shape}), float)")
        self.lines.append(f"np.add.at({name}.reshape(-1), {self._numbers(places - 1)}, {self.text(updates)})")
        return Expression(name, shape)


def _live(jaxpr: jex.Jaxpr, wanted: Sequence[int] | None) -> tuple[list[Any], Counter]:
    """The equations that the wanted outputs depend on, and how often each variable is read."""
    outputs = [atom for place, atom in enumerate(jaxpr.outvars) if wanted is None or wanted[place]]
    uses: Counter = Counter(atom for atom in outputs if not isinstance(atom, jex.Literal))
    equations = []
    for equation in reversed(jaxpr.eqns):
        if any(uses[variable] for variable in equation.outvars):
            equations.append(equation)
            uses.update(atom for atom in equation.invars if not isinstance(atom, jex.Literal))
    return equations[::-1], uses


def _evaluated(equation: Any, operands: Sequence[Any]) -> Sequence[Value]:
    """An equation of numbers."""
    results = equation.primitive.bind(*operands, **equation.params)
    results = results if equation.primitive.multiple_results else [results]
    if any(jnp.issubdtype(result.dtype, jax.dtypes.prng_key) for result in results):
        raise NoSource("random numbers that the trial draws have no translation")
    return [np.asarray(result) for result in results]


def _simplified(name: str, operands: list[Value], shape: tuple) -> Value | None:
    """What multiplying by 1, adding 0, or choosing by a known condition leaves."""
    if name == "select_n" and isinstance(operands[0], np.ndarray) and operands[0].size:
        first = operands[0].flat[0]
        chosen = operands[1 + int(first)]
        return chosen if (operands[0] == first).all() and chosen.shape == shape else None
    neutral = {"mul": 1, "div": 1, "add": 0, "add_any": 0, "sub": 0}.get(name)
    if neutral is None:
        return None
    first, second = operands
    if isinstance(second, np.ndarray) and (second == neutral).all() and first.shape == shape:
        return first
    commutes = name in ("mul", "add", "add_any")
    if commutes and isinstance(first, np.ndarray) and (first == neutral).all() and second.shape == shape:
        return second
    return None


_PLACED = ("gather", "pad", "dynamic_slice")
"""Primitives that move entries to places that are known where the indices are."""
