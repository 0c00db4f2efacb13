"""Evaluating a jaxpr equation by equation, through JAX's public names."""

from collections.abc import Iterable, Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun, primitives

Atom = Var | Literal
"""An operand of an equation: a variable or a constant."""

_CALLS = {
    primitives.jit_p, primitives.closed_call_p, primitives.remat_p, primitives.custom_jvp_call_p,
    primitives.custom_vjp_call_p,
}  # fmt: skip  # a table, several entries a line
"""Primitives that call a jaxpr of their own once. A general reduction has a jaxpr as well, and is no call."""


def aval(atom: Atom) -> Any:
    """The abstract value of an operand, with ``shape``, ``dtype``, ``ndim`` and ``size``.

    Typed Any because the public type of an abstract value does not declare these attributes.
    """
    return atom.aval


def called(equation: JaxprEqn) -> ClosedJaxpr | None:
    """The program that an equation calls once, with its operands; None where it is no call."""
    if equation.primitive not in _CALLS:
        return None
    inner = equation.params["jaxpr" if "jaxpr" in equation.params else "call_jaxpr"]
    return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())


def evaluate(jaxpr: Jaxpr, equation: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """The results of one equation of ``jaxpr``, evaluated as a jaxpr of its own.

    Custom derivatives and the equation's context (name scopes, matrix product precision) stay as they are.
    """
    given = [(atom, value) for atom, value in zip(equation.invars, operands, strict=True) if isinstance(atom, Var)]
    alone = Jaxpr((), [atom for atom, _ in given], equation.outvars, [equation], equation.effects, jaxpr.debug_info)
    return jaxpr_as_fun(ClosedJaxpr(alone, ()))(*(value for _, value in given))


class Environment:
    """The values of a jaxpr's variables while it is evaluated."""

    def __init__(self, program: ClosedJaxpr, arguments: Iterable[Any]):
        self._values = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
        self.write(program.jaxpr.invars, arguments)

    def read(self, atom: Atom) -> Any:
        """The value of a variable, or the constant itself."""
        return atom.val if isinstance(atom, Literal) else self._values[atom]

    def read_all(self, atoms: Iterable[Atom]) -> list[Any]:
        """The value of each operand, in order."""
        return [self.read(atom) for atom in atoms]

    def write(self, variables: Iterable[Var], values: Iterable[Any]) -> None:
        """Set the values of the variables that an equation defines."""
        self._values.update(zip(variables, values, strict=True))
