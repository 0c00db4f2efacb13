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

from figures._config import BySize, Config, Scale
from figures._path_networks import (
    PRUNERS,
    Network,
    everything,
    network,
    prune_network,
    shared_key,
    spread,
    stacked,
    suited,
)
from sketchprune import masks, paths, prune, train
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
        pruners: the names of the pruners, and DENSE for none.
    """

    networks: tuple[str, ...]
    seeds: int
    steps: int
    measured: int
    batch_size: int
    samples: int
    rounds: int = 100
    pruners: tuple[str, ...] = FOLLOWED


_TINY = Training(
    ("tiny",), seeds=2, steps=4, measured=3, batch_size=16, samples=64, rounds=3, pruners=(DENSE, "synflow", "random")
)
_PAPER = Training(
    ("fc", "resnet20", "wide_resnet20"), seeds=5, steps=62_500, measured=51, batch_size=128, samples=50_000
)
SETTINGS: dict[Scale, Training | BySize[Training]] = {
    "tiny": _TINY,
    "small": BySize(
        small=Training(("fc", "lenet"), seeds=5, steps=300, measured=16, batch_size=32, samples=2_000),
        large=Training(("lenet",), seeds=5, steps=400, measured=17, batch_size=128, samples=10_000),
    ),
    "paper": _PAPER,
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
    training = _training(config)
    found = [_part(config, name, pruner) for name in training.networks for pruner in training.pruners]
    shape = len(training.networks), len(training.pruners), training.seeds, -1
    return {
        "networks": np.array(training.networks),
        "pruners": np.array(training.pruners),
        "steps": checkpoints(training),
        **{name: np.stack([part[name] for part in found]).reshape(shape) for name in found[0]},
    }


def _training(config: Config) -> Training:
    """The training of this run, of networks that suit the data."""
    training = config.settings(SETTINGS)
    return replace(training, networks=suited(training.networks, config.data))


def _part(config: Config, name: str, pruner: str) -> dict[str, np.ndarray]:
    """What is measured of one network and pruner, from an earlier run or another figure if it is known."""

    def measure() -> dict[str, Float[np.ndarray, "seeds steps"]]:
        training = _training(config)
        net = network(name, config.data, training.samples)
        start, mask, batch_keys = starts(net, pruner, training, shared_key(config.seed, f"trained {name}"))
        return trained(net, start, mask, training, batch_keys)

    return config.part(f"{name}, {pruner}", measure)


def starts(net: Network, pruner: str, training: Training, key: Key) -> tuple[Params, Mask, Key]:
    """Weights, masks and keys of the batches of all seeds; pruners share the weights and the batches of a seed.

    Args:
        net: the network.
        pruner: the name of the pruner, or DENSE.
        training: how many seeds and rounds there are.
        key: for all that is drawn.
    """
    start_keys, batch_keys, mask_keys = (jax.random.split(part, training.seeds) for part in jax.random.split(key, 3))
    params = [net.initial(key) for key in start_keys]
    if pruner == DENSE:
        found = [everything(each) for each in params]
    else:
        keep = prune.count(params[0], DENSITY)
        found = [
            prune_network(net, each, PRUNERS[pruner], [keep], key=key, rounds=training.rounds)[0]
            for each, key in zip(params, mask_keys, strict=True)
        ]
    return stacked(params), stacked(found), batch_keys


def trained(
    net: Network, start: Params, mask: Mask, training: Training, keys: Key
) -> dict[str, Float[np.ndarray, "seeds steps"]]:
    """What is measured of networks that train, as `followed` says.

    Args:
        net: the network.
        start: the weights of each seed.
        mask: the mask of each.
        training: how they are trained.
        keys: of the batches of each.
    """
    fits = train.fit_many(
        net.apply_in_loops,
        train.cross_entropy,
        jax.vmap(masks.apply)(start, mask),
        (net.x, net.y),
        OPTIMIZER,
        training.steps,
        mask=mask,
        key=keys,
        batch_size=training.batch_size,
        evaluate=_whole,
        checkpoints=checkpoints(training).tolist(),
    )
    probes = net.x[spread(len(net.x), PROBES)]
    return jax.device_get(_measured(fits.curve, mask, probes, apply=net.apply_in_loops))


def _whole(params: Params) -> Params:
    """What is kept of a network at a checkpoint: all of it, since its mask is needed to measure it."""
    return params


def checkpoints(training: Training) -> Int[np.ndarray, " steps"]:
    """After how many steps networks are measured.

    Args:
        training: how they are trained.
    """
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
