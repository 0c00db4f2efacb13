"""Methods that look for a mask, inside random masks of several densities and among all weights."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from figures._config import BySize, Config, Scale
from figures._style import BLUE, GREEN, PURPLE, RED, WIDTH, Look, style
from sketchprune import laws, prune, scores, sweep, train
from sketchprune.sweep import Problem, Training
from sketchprune.sweep.problem import AVERAGED_SAMPLES, correct
from sketchprune.types import Key, Mask, Params
from theory.statistics import mean_interval

CLAIMS = (
    "lottery/sparse-to-sparse-imp",
    "lottery/sparse-to-sparse-gradual",
    "lottery/sparse-to-sparse-rigl",
    "lottery/edge-popup",
)
ROUNDS = 4
"""Rounds of iterative magnitude pruning; each trains from the start."""
CHANGES = 40
"""How often RigL and gradual pruning change a mask at most."""


class Work(NamedTuple):
    """What is done at a scale.

    Attributes:
        network: the network's name.
        sources: densities of the random masks that methods look in, the dense start first.
        kept: the density of the masks that are found.
        frozen: that of edge-popup's, whose weights are not trained.
        seeds: how many seeds.
        training: of every network; iterative magnitude pruning has as many steps in each round.
        samples: how many samples are trained on at most.
    """

    network: str
    sources: tuple[float, ...]
    kept: float
    frozen: float
    seeds: int
    training: Training
    samples: int | None = None


SETTINGS: dict[Scale, Work | BySize[Work]] = {
    "tiny": Work("mlp", (1.0, 0.5), 0.1, 0.3, 2, Training(20), 300),
    "small": BySize(
        Work("mlp", (1.0, 0.8, 0.6, 0.4, 0.2, 0.1), 0.05, 0.1, 5, Training(500)),
        Work("lenet", (1.0, 0.5, 0.2), 0.05, 0.1, 5, Training(500, 0.05), 10_000),
    ),
    "paper": Work("resnet20", (1.0, 0.8, 0.6, 0.4, 0.2, 0.1), 0.05, 0.1, 3, Training(40_000)),
}

LOOKS = {
    "imp": Look("iterative magnitude pruning", BLUE, "o", "-"),
    "gradual": Look("gradual magnitude pruning", RED, "s", "--"),
    "rigl": Look("RigL", GREEN, "^", "-."),
    "edge_popup": Look("edge-popup", PURPLE, "D", ":"),
}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """Test accuracies [sources, seeds] of each method.

    Args:
        config: the settings of the run.
        key: not used: a run derives from its seed.
    """
    work = config.settings(SETTINGS)
    problem = sweep.problem(work.network, *config.halves(work.samples), work.training)
    arrays = {"sources": np.array(work.sources), "kept": np.array(work.kept), "frozen": np.array(work.frozen)}
    for name in LOOKS:
        found = [
            config.part(f"{name} {seed}", functools.partial(_accuracies, problem, work, name, seed))["accuracy"]
            for seed in range(config.seed, config.seed + work.seeds)
        ]
        arrays[name] = np.stack(found, axis=1)
    return arrays


def _accuracies(problem: Problem, work: Work, name: str, seed: int) -> dict[str, Array]:
    """The test accuracy of what a method finds in each source, with the weights and batches of one seed."""
    weight_key, source_key, search_key = jax.random.split(jax.random.key(seed), 3)
    params = problem.params(weight_key)
    sources = [
        laws.ErdosRenyiCounts.at_density(params, density).sample(jax.random.fold_in(source_key, index))
        for index, density in enumerate(work.sources)
    ]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *sources)
    keep = prune.count(params, work.frozen if name == "edge_popup" else work.kept)
    keeps = jnp.array([_keeps(name, problem, prune.count(params, density), keep) for density in work.sources])
    return {"accuracy": _found(problem, name, params, stack, keeps, search_key)}


def _keeps(name: str, problem: Problem, size: int, keep: int) -> np.ndarray:
    """The counts of all rounds of a method, from what the source keeps to what is kept in the end."""
    match name:
        case "imp":
            return prune.exponential_schedule(size, keep, ROUNDS)
        case "gradual":
            return prune.cubic_schedule(size, keep, problem.training.steps // 2 // _every(problem))
    return np.array([keep])


def _every(problem: Problem) -> int:
    """How many steps lie between two changes of a mask."""
    return max(1, problem.training.steps // CHANGES)


def _imp(problem: Problem, options: dict[str, Any], keeps: Array, key: Key) -> train.Ticket:
    return train.iterative_magnitude(keeps=keeps, key=key, **options)


def _gradual(problem: Problem, options: dict[str, Any], keeps: Array, key: Key) -> train.Ticket:
    every = _every(problem)
    return train.gradual_magnitude(keeps=keeps, every=every, begin=every, key=key, **options)


def _rigl(problem: Problem, options: dict[str, Any], keeps: Array, key: Key) -> train.Ticket:
    start_key, key = jax.random.split(key)
    params, mask = options["params"], options["mask"]
    start = prune.one_shot(scores.random, None, None, params, None, keeps[-1], mask=mask, key=start_key)
    return train.rigl(start=start, every=_every(problem), key=key, **options)


def _edge_popup(problem: Problem, options: dict[str, Any], keeps: Array, key: Key) -> train.Ticket:
    return train.edge_popup(keep=keeps[-1], key=key, **options)


_SEARCHES: dict[str, Callable[[Problem, dict[str, Any], Array, Key], train.Ticket]] = {
    "imp": _imp,
    "gradual": _gradual,
    "rigl": _rigl,
    "edge_popup": _edge_popup,
}


@functools.partial(jax.jit, static_argnames=("problem", "name"))
def _found(
    problem: Problem, name: str, params: Params, sources: Mask, keeps: Array, key: Key
) -> Float[Array, " sources"]:
    """The test accuracies of the networks that a method finds in the sources."""

    def one(source: Mask, keeps: Array) -> Array:
        options = {
            "apply": problem.trained,
            "loss": train.cross_entropy,
            "params": params,
            "data": problem.train,
            "optimizer": problem.optimizer,
            "steps": problem.training.steps,
            "mask": source,
            "batch_size": problem.batch_size,
        }
        return _accuracy(problem, _SEARCHES[name](problem, options, keeps, key).params)

    return jax.vmap(one)(sources, keeps)


def _accuracy(problem: Problem, params: Params) -> Array:
    """The part of the test set that is classified right, 256 samples at a time."""
    x, y = problem.test
    reference = problem.train[0][:AVERAGED_SAMPLES]
    outputs = lax.map(lambda x: problem.outputs(params, x[None], reference)[0], x, batch_size=256)
    return jnp.mean(correct(outputs, y))


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Test accuracy of what four methods find inside a random mask, against the density of that mask.

    At density 1, on the right, they may choose among all weights. All masks that a method finds keep the same number of
    weights, written beside it; edge-popup's weights are not trained. Lines are means over seeds with 95 % intervals;
    horizontal lines are the means of the dense start.
    """
    figure = Figure(figsize=(WIDTH, 0.95 * WIDTH))
    axes = figure.subplots()
    for name, look in LOOKS.items():
        found = [mean_interval(row, 0.05) for row in arrays[name].astype(np.float64)]
        means = np.array([mean for mean, _ in found])
        low, high = np.array([interval for _, interval in found]).T.clip(0, 1)
        axes.fill_between(arrays["sources"], low, high, color=look.colour, alpha=0.15, linewidth=0)
        axes.plot(arrays["sources"], means, color=look.colour, marker=look.marker, linestyle=look.line)
        axes.axhline(means[0], color=look.colour, linewidth=0.4)
    axes.set(xscale="log", xlabel="density of the random mask that is searched", ylabel="test accuracy")
    axes.set_xticks(arrays["sources"], [f"{density:g}" for density in arrays["sources"]])
    axes.minorticks_off()
    shares = {name: arrays["frozen" if name == "edge_popup" else "kept"] for name in LOOKS}
    handles = [look._replace(label=f"{look.label}, keeps {shares[name]:g}").entry() for name, look in LOOKS.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=1)
    return figure
