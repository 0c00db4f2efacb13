"""A trial in stages, as data: what is drawn, what is run for each arm, and how the results are compared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from theory.claim import Instance, Sides


class Drawn(NamedTuple):
    """What a claim draws for a trial in stages.

    Attributes:
        shared: what all runs of the trial share, such as the key of their batches.
        arms: what is run, such as masks, on a leading axis.
        known: what else the comparison takes.
    """

    shared: Any
    arms: Any
    known: Any = None


def all_arms(arms: Any) -> Any:
    """The arms as they were drawn: the default of :attr:`StagedTrial.select`."""
    return arms


@dataclass(frozen=True)
class StagedTrial:
    """A trial that runs each of the arms which were drawn, and compares the results.

    As a function it is a trial like any other. The verifier compiles the stages one by one, so that work is shared:

    - Claims with the same ``run`` share its program, and claims with the same ``draw`` share that one too.
    - Cases of one stream share what was drawn for the first of them, so that a control costs its runs alone. ``draw``
      must not look at what the control changes.

    Attributes:
        run: ``run(instance, shared, arm) -> result``, a named tuple; for one arm.
        needs: the fields of the results that the comparison takes; the others are None there.
        compare: ``compare(instance, results, known) -> {"claim": Sides}``, of the results with a leading axis.
        select: ``select(arms) -> arms``, those that are run.
        costly_draw: whether the draw takes so long that faster code is worth twice the compilation.
    """

    run: Callable[[Instance, Any, Any], Any]
    needs: tuple[str, ...]
    compare: Callable[[Instance, Any, Any], dict[str, Sides]]
    select: Callable[[Any], Any] = all_arms
    costly_draw: bool = False

    def __call__(self, instance: Instance, drawn: Drawn) -> dict[str, Sides]:
        """Both sides."""
        results = jax.vmap(lambda arm: self.run(instance, drawn.shared, arm))(self.select(drawn.arms))
        return self.compare(instance, self.needed(results), drawn.known)

    def needed(self, results: Any) -> Any:
        """The results without the fields that the comparison does not take."""
        return results._replace(**{name: None for name in results._fields if name not in self.needs})
