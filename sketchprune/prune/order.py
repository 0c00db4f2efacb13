"""The order in which a network uses its parameters."""

from typing import Any

import jax
from jax.extend.core import Jaxpr, Literal

from sketchprune._boundary import checked
from sketchprune._jaxpr import called
from sketchprune.types import ApplyFn, Inputs, Params

Source = frozenset[int] | None
"""What a value is made of: the numbers of some leaves alone, or None for the input (and whatever else)."""


@checked
def order_of_use(apply: ApplyFn, params: Params, x: Inputs | jax.ShapeDtypeStruct) -> tuple[str, ...]:
    """The paths of the parameters' leaves in the order in which ``apply`` uses them, for rules that go by depth.

    A leaf is used where it first meets something that depends on the input. What is made of parameters alone before
    (a mask, a change of dtype, a reshape) does not count. Leaves that are not used come last.

    Args:
        apply: the network.
        params: its parameters, of which only shapes and dtypes count.
        x: samples [n, ...], or their shape and dtype.

    Returns:
        One path for each leaf, as jax.tree_util.keystr writes it: the ``order`` of :func:`layer_counts` and of
        ``at_density`` of the laws.

    Cost: one trace of ``apply``; nothing is computed.

    >>> import jax.numpy as jnp
    >>> params = {"body": jnp.ones((3, 3)), "head": jnp.ones((3, 1)), "stem": jnp.ones((2, 3))}
    >>> apply = lambda p, x: jax.nn.relu(jax.nn.relu(x @ p["stem"]) @ p["body"]) @ p["head"]
    >>> order_of_use(apply, params, jnp.ones((1, 2)))
    ("['stem']", "['body']", "['head']")
    """
    leaves, structure = jax.tree.flatten(params)
    program = jax.make_jaxpr(lambda leaves, x: apply(structure.unflatten(leaves), x))(leaves, x)
    sources: list[Source] = [frozenset({number}) for number in range(len(leaves))]
    met: dict[int, None] = {}  # an ordered set
    _follow(program.jaxpr, [*sources, None], met)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return tuple(names[number] for number in dict.fromkeys([*met, *range(len(leaves))]))


def _follow(jaxpr: Jaxpr, sources: list[Source], met: dict[int, None]) -> list[Source]:
    """What the results are made of; leaves that meet the input are added to ``met``."""
    known: dict[Any, Source] = dict.fromkeys(jaxpr.constvars, frozenset())
    known.update(zip(jaxpr.invars, sources, strict=True))

    def source(atom: Any) -> Source:
        return frozenset() if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        given = [source(atom) for atom in equation.invars]
        if (inner := called(equation)) is not None:
            found = _follow(inner.jaxpr, given, met)
        else:
            leaves = [number for each in given if each is not None for number in sorted(each)]
            of_input = any(each is None for each in given)
            if of_input:
                met.update(dict.fromkeys(leaves))
            found = [None if of_input else frozenset(leaves)] * len(equation.outvars)
        known.update(zip(equation.outvars, found, strict=True))
    return [source(atom) for atom in jaxpr.outvars]
