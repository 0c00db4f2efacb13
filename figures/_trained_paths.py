"""Pruned networks in training, which three figures follow: the path kernel's trace, the weights, and the outputs.

A part is one pruner with all its seeds. The figures share their parts, so that each network is trained once.
"""

import functools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from figures._config import Config, Scale
from figures._path_networks import PRUNERS, Network, network, prune_network, shared_key, spread, stacked, suited
from sketchprune import masks, paths, prune, train
from sketchprune.data import Dataset
from sketchprune.types import ApplyFn, Key, Mask, Params

DENSITY = 0.1
"""How much the pruners keep."""
DENSE = "dense"
"""The unpruned network, which is followed beside the pruned ones."""
FOLLOWED = (DENSE, *(name for name in PRUNERS if name != "magnitude"))
"""No pruning, and the pruners of the paths paper."""
PROBES = 512
"""How many images the outputs are measured on."""
OPTIMIZER = optax.adam(1e-3)


@dataclass(frozen=True)
class Training:
    """How networks are trained.

    Attributes:
        networks: their names.
        seeds: how many.
        steps: how many each is trained for.
        measured: after how many of these it is measured, the start included.
        batch_size: how many images a step sees.
        samples: how many images there are at most.
        rounds: of an iterative pruner.
    """

    networks: tuple[str, ...]
    seeds: int
    steps: int
    measured: int
    batch_size: int
    samples: int
    rounds: int = 100


@dataclass(frozen=True)
class Runs:
    """What a scale trains.

    Attributes:
        small: on small images and plain features.
        large: on images of 28x28 pixels or more.
    """

    small: Training
    large: Training

    def on(self, dataset: Dataset) -> Training:
        """The training for a data set, of networks that suit it."""
        training = self.large if min(dataset.image_shape[:2], default=0) >= 28 else self.small
        return replace(training, networks=suited(training.networks, dataset))


_TINY = Training(("fc",), seeds=2, steps=6, measured=3, batch_size=32, samples=128, rounds=4)
_PAPER = Training(("fc", "resnet20"), seeds=5, steps=62_500, measured=51, batch_size=128, samples=50_000)
SETTINGS: dict[Scale, Runs] = {
    "tiny": Runs(small=_TINY, large=_TINY),
    "small": Runs(
        small=Training(("fc", "lenet"), seeds=5, steps=300, measured=16, batch_size=32, samples=2_000),
        large=Training(("lenet",), seeds=5, steps=400, measured=17, batch_size=128, samples=10_000),
    ),
    "paper": Runs(small=_PAPER, large=_PAPER),
}


def followed(config: Config) -> dict[str, np.ndarray]:
    """What was measured of every network and pruner.

    Args:
        config: the settings of the run.

    Returns:
        Names ``networks`` and ``pruners``, the ``steps`` after which was measured, and, each [networks, pruners, seeds,
        steps]:

        - ``log_trace``: log Tr Π, −∞ where the network has no path.
        - ``distance``: ‖θ_t − θ_0‖ of the kept weights.
        - ``mean`` and ``norm``: the mean of all outputs, and the mean of ‖f(x)‖, over the images.
    """
    training = config.settings(SETTINGS).on(config.data)
    found = []
    for name in training.networks:
        net = network(name, config.data, training.samples)
        key = shared_key(config.seed, f"trained {name}")
        found += [_part(config, f"{name}, {pruner}", net, pruner, training, key) for pruner in FOLLOWED]
    shape = len(training.networks), len(FOLLOWED), training.seeds, -1
    return {
        "networks": np.array(training.networks),
        "pruners": np.array(FOLLOWED),
        "steps": _checkpoints(training),
        **{name: np.stack([part[name] for part in found]).reshape(shape) for name in found[0]},
    }


def _part(config: Config, label: str, net: Network, pruner: str, training: Training, key: Key) -> dict[str, np.ndarray]:
    """What is measured of one pruner, from an earlier run or another figure if it is known."""
    return config.part(label, lambda: trained(net, pruner, training, key))


def trained(net: Network, pruner: str, training: Training, key: Key) -> dict[str, Float[np.ndarray, "seeds steps"]]:
    """What is measured of one pruner. Pruners share the start and the batches of a seed.

    Args:
        net: the network.
        pruner: the name of the pruner, or DENSE.
        training: how it is trained.
        key: for starts, batches and masks.
    """
    start_keys, batch_keys, mask_keys = (jax.random.split(part, training.seeds) for part in jax.random.split(key, 3))
    starts = [net.initial(key) for key in start_keys]
    mask = stacked(
        [pruned(net, params, pruner, training.rounds, key) for params, key in zip(starts, mask_keys, strict=True)]
    )
    fits = train.fit_many(
        net.apply,
        train.cross_entropy,
        jax.vmap(masks.apply)(stacked(starts), mask),
        (net.x, net.y),
        OPTIMIZER,
        training.steps,
        mask=mask,
        key=batch_keys,
        batch_size=training.batch_size,
        evaluate=_whole,
        checkpoints=_checkpoints(training).tolist(),
    )
    probes = net.x[spread(len(net.x), PROBES)]
    return jax.device_get(_measured(fits.curve, mask, probes, apply=net.apply))


def pruned(net: Network, params: Params, pruner: str, rounds: int, key: Key) -> Mask:
    """The mask of a pruner, or one that keeps all weights.

    Args:
        net: the network.
        params: its weights.
        pruner: the name of the pruner, or DENSE.
        rounds: of an iterative pruner.
        key: for what is drawn.
    """
    if pruner == DENSE:
        return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)
    keep = prune.count(params, DENSITY)
    return prune_network(net, params, PRUNERS[pruner], [keep], key=key, rounds=rounds)[0]


def _whole(params: Params) -> Params:
    """What is kept of a network at a checkpoint: all of it, since its mask is needed to measure it."""
    return params


def _checkpoints(training: Training) -> Int[np.ndarray, " steps"]:
    """After how many steps networks are measured."""
    return spread(training.steps + 1, training.measured)


@functools.partial(jax.jit, static_argnames="apply")
def _measured(
    curve: Params, mask: Mask, probes: Float[Array, "n ..."], *, apply: ApplyFn
) -> dict[str, Float[Array, "seeds steps"]]:
    """What is measured of the networks of every seed at every checkpoint, one after another."""

    def of_seed(seed: tuple[Params, Mask]) -> dict[str, Float[Array, " steps"]]:
        checkpoints, mask = seed
        start = jax.tree.map(lambda leaf: leaf[0], checkpoints)

        def of_checkpoint(params: Params) -> dict[str, Float[Array, ""]]:
            outputs = apply(params, probes)
            return {
                "log_trace": paths.trace(apply, params, probes.shape[1:], mask=mask, log=True),
                "distance": optax.tree.norm(optax.tree.sub(params, start)),
                "mean": jnp.mean(outputs),
                "norm": jnp.mean(jnp.linalg.norm(outputs, axis=1)),
            }

        return lax.map(of_checkpoint, checkpoints)

    return lax.map(of_seed, (curve, mask))
