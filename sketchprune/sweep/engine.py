"""The engine of a sweep: masks are drawn, stacked, trained together and tested, group by group."""

import functools
import itertools
import math
import time
import zlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from sketchprune import _checks, masks, prune, train
from sketchprune._boundary import checked
from sketchprune._cores import CORES
from sketchprune.sweep.methods import DENSE, Method
from sketchprune.sweep.problem import AVERAGED_SAMPLES, Problem, correct
from sketchprune.sweep.rows import Row, Run
from sketchprune.types import Batch, Key, Mask, Params

SCORED_SAMPLES = 256
"""How many training samples scores see; each seed has samples of its own."""
TESTED_AT_ONCE = 256
"""How many samples go through a trained network at once when it is tested."""
_LARGEST_GROUP = 32
"""The most runs that are trained together; a kill loses one group."""
_GROUP_BYTES = 2**30
"""What the weights and masks of a group take at most, unless one run takes more."""


@checked
def runs(
    problem: Problem, methods: Sequence[Method], densities: Sequence[int | float], seeds: Sequence[int]
) -> list[Run]:
    """The runs of a sweep, in order: for each seed the dense network, then every method at every density below 1.

    Args:
        problem: The network.
        methods: The ways to prune.
        densities: The densities.
        seeds: The seeds.

    Returns:
        What identifies each run.

    Raises:
        ValueError: A density outside (0, 1], or one that keeps no weight; a seed that is no whole number >= 0; and what
            is named twice.

    Example:
        >>> from sketchprune import data, scores, sweep
        >>> posed = sweep.problem("mlp", *data.hold_out(data.load()))
        >>> snip = sweep.scored("snip", scores.snip)
        >>> [(run.score, run.density, run.seed) for run in runs(posed, [snip], [1, 0.1], [0, 1])]
        [('dense', 1.0, 0), ('snip', 0.1, 0), ('dense', 1.0, 1), ('snip', 0.1, 1)]
    """
    return [member.run(problem.network) for member in _plan(problem, methods, densities, seeds)]


@checked
def run(
    problem: Problem,
    methods: Sequence[Method],
    densities: Sequence[int | float],
    seeds: Sequence[int],
    *,
    done: Collection[Run] = (),
) -> Iterator[list[Row]]:
    """Prunes, trains and tests every run of a sweep; yields the rows of a group of runs as soon as they are known.

    Runs of one seed share the initial weights, the order of the batches and the samples that are scored. The key of a
    mask derives from the seed, the method's label and the density, so a run does not depend on the others, except for
    rounding. If a mask is a sketch, its values scale the initial weights.

    A sweep that is continued has the same groups. A group of which some runs are missing is computed again, and the
    missing runs get the numbers, bit for bit, that they would have had.

    Args:
        problem: The network, the data and the settings of training.
        methods: The ways to prune.
        densities: The densities; 1 is the dense network, which is always there.
        seeds: The seeds.
        done: Runs that are left out.

    Yields:
        The rows of one to 32 runs. A run whose mask cannot be drawn has NaN for its numbers, and says why.

    Raises:
        ValueError: As :func:`runs`, before the first group.

    Cost:
        One mask, ``steps`` gradients and one pass over both sets for each run. Groups hold at most 1 GiB of weights, or
        one run.
    """
    plan = _plan(problem, methods, densities, seeds)
    return _groups(problem, plan, set(done))


class _Member(NamedTuple):
    """A run before it is trained."""

    seed: int
    method: Method
    density: float

    def run(self, network: str) -> Run:
        """What identifies it."""
        return Run(network, self.method.score, self.method.sampler, self.method.rounds, self.density, self.seed)


def _plan(
    problem: Problem, methods: Sequence[Method], densities: Sequence[int | float], seeds: Sequence[int]
) -> list[_Member]:
    """All runs in order; refuses what makes no sweep."""
    _check_distinct("methods", [method.label for method in (DENSE, *methods)])
    _check_distinct("densities", list(densities))
    _check_distinct("seeds", list(seeds))
    _checks.whole("seeds", seeds, least=0)
    params = problem.params(jax.random.key(0))
    for density in densities:
        prune.count(params, float(density))  # refuses one that keeps nothing, or is out of range
    pruned = list(itertools.product(methods, (float(density) for density in densities if density < 1)))
    return [_Member(int(seed), *pair) for seed in seeds for pair in [(DENSE, 1.0), *pruned]]


def _check_distinct(name: str, values: Sequence[Any]) -> None:
    """Refuses values of which one occurs twice."""
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(f"{name} has {value!r} twice; it takes each once")


def _group_size(problem: Problem) -> int:
    """How many runs are trained together: of each the weights, their start and the mask are held."""
    held = 9 * sum(leaf.size for leaf in jax.tree.leaves(problem.params(jax.random.key(0))))
    return max(1, min(_LARGEST_GROUP, _GROUP_BYTES // held))


def _groups(problem: Problem, plan: Sequence[_Member], done: Collection[Run]) -> Iterator[list[Row]]:
    """The rows of each group that has runs to do."""
    size = _group_size(problem)
    for _, members in itertools.groupby(plan, key=lambda member: member.seed):
        for group in _batched(members, size):
            if all(member.run(problem.network) in done for member in group):
                continue
            yield [row for row in _rows(problem, group) if row.run not in done]


def _batched(items: Iterator[_Member], size: int) -> Iterator[tuple[_Member, ...]]:
    """The items in tuples of this size; the last may be shorter."""
    while batch := tuple(itertools.islice(items, size)):
        yield batch


# --- One group


class _Seed(NamedTuple):
    """What the runs of a seed share.

    Attributes:
        params: The initial weights.
        batch: The samples that scores see.
        batch_key: For the order of the batches.
        mask_key: From which the key of each mask derives.
    """

    params: Params
    batch: Batch
    batch_key: Key
    mask_key: Key

    @classmethod
    def of(cls, problem: Problem, seed: int) -> "_Seed":
        """What derives from a seed."""
        weight_key, batch_key, mask_key, sample_key = jax.random.split(jax.random.key(seed), 4)
        x, y = problem.train
        chosen = jax.random.permutation(sample_key, len(x))[:SCORED_SAMPLES]
        return cls(problem.params(weight_key), (x[chosen], y[chosen]), batch_key, mask_key)


class _Drawn(NamedTuple):
    """A member of a group with its mask, or with the reason why there is none."""

    member: _Member
    mask: Mask | None
    failure: str
    seconds: float


def _rows(problem: Problem, group: Sequence[_Member]) -> list[Row]:
    """The rows of some runs of one seed."""
    shared = _Seed.of(problem, group[0].seed)
    drawn = [_draw(problem, shared, member) for member in group]
    started = time.perf_counter()
    stack = [each.mask for each in drawn if each.mask is not None]
    found = iter(_trained_and_tested(problem, shared, stack) if stack else ())
    share = (time.perf_counter() - started) / max(len(stack), 1)
    return [_failed(problem, each) if each.mask is None else _row(problem, each, next(found), share) for each in drawn]


def _draw(problem: Problem, shared: _Seed, member: _Member) -> _Drawn:
    """The mask of a run."""
    text = f"{member.method.label} {member.density!r}"
    key = jax.random.fold_in(shared.mask_key, zlib.crc32(text.encode()))
    started = time.perf_counter()
    mask, failure = None, ""
    try:
        arguments = problem.apply, train.cross_entropy, shared.params, shared.batch, member.density, key
        mask = jax.block_until_ready(member.method.draw(*arguments))
    except ValueError as error:
        failure = str(error) or "no mask"
    return _Drawn(member, mask, failure, time.perf_counter() - started)


class _Tested(NamedTuple):
    """What a trained network does: its mean loss on the training set, and its accuracy on the test set."""

    train_loss: float
    test_accuracy: float


def _trained_and_tested(problem: Problem, shared: _Seed, drawn: Sequence[Mask]) -> list[_Tested]:
    """Trains the masks together, and tests one network after another, on each core of a CPU one at a time."""
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)
    fits = train.fit_many(
        problem.trained,
        train.cross_entropy,
        _starts(shared.params, stack),
        problem.train,
        problem.optimizer,
        problem.training.steps,
        mask=stack,
        key=shared.batch_key,
        batch_size=problem.batch_size,
    )
    test = functools.partial(_tested, problem, fits.params)
    workers = CORES if jax.default_backend() == "cpu" else 1
    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(test, range(len(drawn))))


def _starts(params: Params, stack: Mask) -> Params:
    """The initial weights; where masks are sketches, each model's own, scaled by its mask."""
    if all(leaf.dtype == bool for leaf in jax.tree.leaves(stack)):
        return params
    return jax.vmap(masks.apply, (None, 0))(params, stack)


def _tested(problem: Problem, stack: Params, number: int) -> _Tested:
    """One network of a stack, on the training set and on the test set."""
    params = jax.tree.map(lambda leaf: leaf[number], stack)
    loss, _ = _totals(problem, params, problem.train)
    _, correct = _totals(problem, params, problem.test)
    return _Tested(loss / len(problem.train[0]), correct / len(problem.test[0]))


def _totals(problem: Problem, params: Params, data: Batch) -> tuple[float, int]:
    """The sum of the losses on some data and the number of correct answers, a bounded number of samples at a time."""
    samples = len(data[0])
    size = min(TESTED_AT_ONCE, samples)
    loss, correct = 0.0, 0
    for first in range(0, samples, size):
        found = _chunk_totals(params, data, problem.train[0], first, problem=problem, size=size)
        loss += float(found[0])
        correct += int(found[1])
    return loss, correct


@functools.partial(jax.jit, static_argnames=("problem", "size"))
def _chunk_totals(params, data, train_x, first, *, problem: Problem, size: int) -> tuple[Array, Array]:
    """Both sums over the samples from ``first`` on."""
    # The last chunk is filled up with samples that came before, so that all chunks share one program.
    begin = jnp.minimum(first, len(data[0]) - size)
    x, y = (lax.dynamic_slice_in_dim(part, begin, size) for part in data)
    counted = begin + jnp.arange(size) >= first
    outputs = problem.outputs(params, x, train_x[:AVERAGED_SAMPLES])
    losses = jax.vmap(lambda one, label: train.cross_entropy(one[None], label[None]))(outputs, y)
    return jnp.where(counted, losses, 0).sum(), (correct(outputs, y) & counted).sum()


def _row(problem: Problem, drawn: _Drawn, tested: _Tested, share: float) -> Row:
    """The row of a run that was trained."""
    assert drawn.mask is not None
    kept = masks.summary(drawn.mask)
    pairs = zip(jax.tree.leaves(kept.kept), jax.tree.leaves(kept.sizes), strict=True)
    return Row(
        *drawn.member.run(problem.network)[:5],
        realised_density=kept.density,
        seed=drawn.member.seed,
        train_loss=tested.train_loss,
        test_accuracy=tested.test_accuracy,
        steps=problem.training.steps,
        seconds=round(drawn.seconds + share, 4),
        empty_layer=any(size and not count for count, size in pairs),
    )


def _failed(problem: Problem, drawn: _Drawn) -> Row:
    """The row of a run without a mask."""
    return Row(
        *drawn.member.run(problem.network)[:5],
        realised_density=math.nan,
        seed=drawn.member.seed,
        train_loss=math.nan,
        test_accuracy=math.nan,
        steps=0,
        seconds=round(drawn.seconds, 4),
        empty_layer=False,
        failure=drawn.failure,
    )
