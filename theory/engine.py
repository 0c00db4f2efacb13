"""The compiled programs of a claim: its hypotheses, both of its sides, sums over its trials, its search."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sketchprune.linalg import ONE_THREAD_OPTIONS
from theory.ascent import ascent
from theory.checks import check_sides
from theory.claim import Claim, Instance, unprepared
from theory.instances import chance_key, hypotheses_met
from theory.measurements import Evaluation, Joined, SideArrays, TrialSums, add_up, assess, flatten, join


class Program:
    """A function of host arrays to host arrays, compiled once per shape; any thread may call it.

    A program runs in one thread, so that several can run at once. In jaxlib 0.10 a LAPACK call hands its batch to XLA's
    pool of threads, and blocks the thread it runs in until the pool has done it. There are two ways to deadlock:

    - A program in several threads can block all threads of the pool by itself. Hence one thread for each program.
    - As many programs of one thread each can block them when they run at once. Hence
      :func:`theory.cli.runtime.configure` gives the pool more threads; that module has a script which shows the
      deadlock.

    Source: ``ParallelBatchMap`` in https://github.com/jax-ml/jax/blob/jax-v0.10.2/jaxlib/cpu/lapack_kernels.cc, and
        https://github.com/jax-ml/jax/issues/39292, which is about the same calls.
    """

    def __init__(self, function: Callable, *, optimised: bool = True):
        """Nothing is compiled yet.

        Args:
            function: what is compiled.
            optimised: False compiles in half the time, to slower code.
        """
        options = {} if optimised else {"xla_backend_optimization_level": 0}
        self._jitted = jax.jit(function, compiler_options=ONE_THREAD_OPTIONS | options)
        self._executables: dict[Any, Any] = {}
        self._compiling = threading.Lock()

    def __call__(self, *arguments: Any) -> Any:
        """The function's value, as host arrays."""
        leaves, tree = jax.tree.flatten(arguments)
        # The widest float is part of the key: under enable_x64(False) a program has other constants.
        shapes = (jnp.result_type(float), tree, *((np.shape(leaf), np.result_type(leaf)) for leaf in leaves))
        with self._compiling:  # a second thread waits for the program, and does not compile it again
            if shapes not in self._executables:
                self._executables[shapes] = self._jitted.lower(*arguments).compile()
        return jax.device_get(self._executables[shapes](*arguments))


class Programs:
    """The programs of one claim. Each is made when it is first asked for, and released with this object.

    What runs once on each instance takes less time than its compilation, and is compiled to slower code. Trials run
    thousands of times, and what is evaluated of effects and rates may train networks.
    """

    def __init__(self, claim: Claim):
        """No program is made yet.

        Args:
            claim: whose programs these are.
        """
        self.claim = claim
        self._made: dict[Any, Program] = {}

    def prepare(self, raw: Instance) -> tuple[Instance, np.ndarray]:
        """Prepared instances, and which of them are admissible, from what the cases made."""
        instances, met = self.prepare_and_check(raw)
        return instances, np.asarray(met.all(axis=1))

    def prepare_and_check(self, raw: Instance) -> tuple[Instance, np.ndarray]:
        """Prepared instances, and which hypotheses each meets, [instances, hypotheses]."""
        if self.claim.prepare is unprepared and not self.claim.hypotheses:
            return raw, np.ones((len(jax.tree.leaves(raw)[0]), 0), bool)
        instances, met = self._mapped("prepare", _prepare, optimised=False)(raw)
        return instances, np.ones((len(jax.tree.leaves(raw)[0]), 0), bool) if met is None else met

    def evaluate(self, *, enumerated: bool) -> Callable[[Instance, np.ndarray], dict[str, Evaluation]]:
        """``(instances, keys) -> {name: Evaluation}``, in the dtype of the instances' fields.

        Where ``enumerated``, both sides are their expectations over all outcomes.
        """
        if enumerated:
            return lambda instances, keys: self.enumerate(instances, keys)[0]
        program = self._mapped("evaluate", _once, optimised=not self.claim.kind.is_exact(enumerated=False))
        return lambda instances, keys: program(instances, keys).split()

    def enumerate(self, instances: Instance, keys: np.ndarray) -> tuple[dict[str, Evaluation], tuple[Any, Any]]:
        """Expectations over all outcomes, and of each column of probabilities the sum and the smallest."""
        evaluations, probabilities = self._mapped("enumerate", _over_outcomes, optimised=False)(instances, keys)
        return evaluations.split(), probabilities

    def evaluate_at(self, argument: Any) -> Callable[[Instance, np.ndarray], dict[str, Evaluation]]:
        """The same, for trials that take an argument after the outcome, such as the size of a rate."""
        once = functools.partial(_once, trial_arguments=(argument,))
        program = self._mapped(("evaluate at", argument), once, optimised=True)
        return lambda instances, keys: program(instances, keys).split()

    def ascent(self, statement: str) -> Program:
        """``(instances, keys, steps) -> instances``: see :func:`theory.ascent.ascent`."""
        return self._kept(("ascent", statement), lambda: ascent(self.claim, statement))

    def trials(self, count: int) -> Callable[..., dict[str, TrialSums]]:
        """``(instances, keys, case, first, tiles) -> {name: TrialSums}`` for one case of a group.

        It runs ``tiles`` tiles of trials, from trial number ``first`` on, on each of the case's ``count`` instances.
        """
        program = self._kept(("trials", count), lambda: functools.partial(_sum_tiles, self.claim, count))
        return lambda *arguments: program(*arguments).map(TrialSums.named).split()

    def _mapped(self, name: Any, function: Callable, *, optimised: bool) -> Program:
        """The program of ``function(claim, *arguments)`` over the leading axis of the arguments."""
        each = functools.partial(function, self.claim)
        return self._kept(name, lambda: _each(self.claim, each), optimised=optimised)

    def _kept(self, name: Any, function: Callable[[], Callable], *, optimised: bool = True) -> Program:
        if name not in self._made:
            self._made[name] = Program(function(), optimised=optimised)
        return self._made[name]


def tile_size(claim: Claim, count: int) -> int:
    """Trials that run at once on each of several instances: a power of two, so that it divides every look.

    Args:
        claim: its ``batch`` bounds the trials that run at once on all instances.
        count: number of instances.
    """
    return 1 << max(0, (claim.batch // count).bit_length() - 1)


def _prepare(claim: Claim, raw: Instance) -> tuple[Instance, Array | None]:
    """The prepared instance and the hypotheses that it meets; None where there are none, for no array is empty then."""
    instance = claim.prepare(raw)
    return instance, hypotheses_met(claim, instance) if claim.hypotheses else None


def trial_sides(claim: Claim, instance: Instance, outcome: Any, *trial_arguments: Any) -> dict[str, SideArrays]:
    """Both sides of the claim and of its mutants for one outcome.

    Args:
        claim: the claim.
        instance: a prepared instance.
        outcome: what chance decided.
        trial_arguments: what the trial takes besides.

    Raises:
        ValueError: the trial does not return the sides that the claim names.
    """
    named = claim.trial(instance, outcome, *trial_arguments)
    check_sides(claim, named)
    return {name: flatten(sides) for name, sides in named.items()}


def _once(claim: Claim, instance: Instance, key: Array, *, trial_arguments: tuple[Any, ...] = ()) -> Joined:
    """One evaluation of one instance."""
    sides = trial_sides(claim, instance, claim.draw(instance, chance_key(key)), *trial_arguments)
    return join(sides).map(assess)


def expected_sides(claim: Claim, instance: Instance) -> tuple[dict[str, SideArrays], tuple[Array, Array]]:
    """Both sides of the claim and of its mutants, or what its kind makes of them, as expectations over all outcomes.

    Args:
        claim: one that enumerates them.
        instance: a prepared instance.

    Returns:
        The sides; and of each column of probabilities the sum and the smallest.
    """
    assert claim.outcomes is not None  # Claim.__post_init__ refuses it
    outcomes, probabilities = claim.outcomes(instance)
    weights = probabilities.reshape(probabilities.shape[0], -1)

    def expectation(values: Array) -> Array:
        return jnp.sum(jnp.where(weights > 0, weights * values, 0), axis=0)

    def averaged(outcome: Any) -> dict[str, SideArrays]:
        return {name: claim.kind.of_outcome(sides) for name, sides in trial_sides(claim, instance, outcome).items()}

    expected = {name: jax.tree.map(expectation, values) for name, values in jax.vmap(averaged)(outcomes).items()}
    return expected, (weights.sum(axis=0), weights.min(axis=0))


def _over_outcomes(claim: Claim, instance: Instance, key: Array) -> tuple[Joined, tuple[Array, Array]]:
    """The expectation over all outcomes, assessed, with the outcomes' probabilities; takes a key as a trial does."""
    sides, probabilities = expected_sides(claim, instance)
    return join(sides).map(assess), probabilities


def _sum_tiles(
    claim: Claim, count: int, instances: Instance, keys: Array, case: Array, first: Array, tiles: Array
) -> Joined:
    """See :meth:`Programs.trials`."""
    size = tile_size(claim, count)

    def tile(instance: Instance, key: Array, start: Array) -> Joined:
        def trial(index: Array) -> Joined:
            return join(trial_sides(claim, instance, claim.draw(instance, chance_key(key, index))))

        sides = jax.vmap(trial)(start + jnp.arange(size))
        return sides.map(lambda values: add_up(values, claim.kind.counted_factors))

    @jax.jit  # traced once, though its shape is needed before its value
    def tile_of_all(instances: Instance, keys: Array, start: Array) -> Joined:
        return _each(claim, lambda instance, key: tile(instance, key, start))(instances, keys)

    def rows(leaf: Array) -> Array:
        return jax.lax.dynamic_slice_in_dim(leaf, case * count, count)

    instances, keys = jax.tree.map(rows, (instances, keys))
    shapes = jax.eval_shape(tile_of_all, instances, keys, first)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def step(i: Array, sums: Joined) -> Joined:
        return jax.tree.map(jnp.add, sums, tile_of_all(instances, keys, first + i * size))

    return jax.lax.fori_loop(0, tiles, step, zeros)


def _each(claim: Claim, function: Callable) -> Callable:
    """``function`` over the leading axis of its arguments, at most ``claim.batch`` entries at once."""

    def mapped(*arguments: Any) -> Any:
        count = jax.tree.leaves(arguments)[0].shape[0]
        if count <= claim.batch:
            return jax.vmap(function)(*arguments)
        size = max(divisor for divisor in range(1, claim.batch + 1) if count % divisor == 0)
        return jax.lax.map(lambda entry: function(*entry), arguments, batch_size=size)

    return mapped
