"""What the figures of the path kernel share: networks without biases, their samples, and the pruners of the papers."""

import functools
import itertools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, PyTree

from figures._style import BLUE, CYAN, GREEN, GREY, PURPLE, RED, YELLOW, Look
from sketchprune import models, prune, scores, train
from sketchprune.data import Dataset
from sketchprune.types import ApplyFn, Key, Mask, Params, ScoreFn, Scores

SCORED_SAMPLES = 256
"""How many images the scores see."""
TEMPERATURE = 200
"""By which the authors of GraSP divide the outputs before the loss."""
BROWN = "#7a4419"


# --- Networks


class Architecture(NamedTuple):
    """A network of the papers.

    Attributes:
        title: what figures call it.
        make: from the number of classes and ``bias`` to the flax module.
        make_for_loops: the same function of the same weights, faster inside a loop on a CPU.
    """

    title: str
    make: Callable[..., nn.Module]
    make_for_loops: Callable[..., nn.Module]

    @classmethod
    def dense(cls, title: str, *widths: int) -> "Architecture":
        """A network of dense layers.

        Args:
            title: what figures call it.
            widths: of the hidden layers.
        """
        return cls(title, *[functools.partial(models.mlp, *widths)] * 2)


ARCHITECTURES = {
    "fc": Architecture.dense("six-layer FC net", 100, 100, 100, 100, 100),
    "tiny": Architecture.dense("three-layer FC net", 12, 8),
    "lenet": Architecture("LeNet", models.lenet, functools.partial(models.lenet, patches=True)),
    "resnet20": Architecture("ResNet-20", *[functools.partial(models.resnet20, norm=False)] * 2),
    "wide_resnet20": Architecture("WideResNet-20", *[functools.partial(models.resnet20, norm=False, width=32)] * 2),
    "vgg16": Architecture("VGG-16", *[functools.partial(models.vgg16, pooling="average")] * 2),
}
FLAT = ("fc", "tiny")
"""Networks that take plain features."""


class Network(NamedTuple):
    """A ReLU network without biases, and images for it.

    Attributes:
        apply: the network.
        apply_in_loops: the same function, faster inside a loop on a CPU.
        model: the module behind it.
        x: images of mean 0 and variance 1 over all pixels.
        raw: the same images with pixels in [0, 1].
        y: their labels.
    """

    apply: ApplyFn
    apply_in_loops: ApplyFn
    model: nn.Module
    x: Float[np.ndarray, "n ..."]
    raw: Float[np.ndarray, "n ..."]
    y: Int[np.ndarray, " n"]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one image."""
        return self.x.shape[1:]

    def initial(self, key: Key) -> Params:
        """He-normal weights."""
        return models.initial(self.model, key, self.x)[1]

    def layers(self, params: Params) -> tuple[str, ...]:
        """The paths of the weights, from the input to the output."""
        return prune.order_of_use(self.apply, params, self.x[:1])

    def by_layer(self, tree: PyTree, params: Params) -> list[Any]:
        """The leaves of a pytree that is shaped like the weights, from the input to the output.

        Args:
            tree: the pytree.
            params: the weights.
        """
        leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        return [leaves[layer] for layer in self.layers(params)]


def network(name: str, dataset: Dataset, num_samples: int, dtype: Any = np.float32) -> Network:
    """A network of the papers for a data set.

    Args:
        name: one of ARCHITECTURES.
        dataset: its images are scaled.
        num_samples: how many of its samples at most, spread over all of them.
        dtype: of samples and weights.
    """
    architecture = ARCHITECTURES[name]
    model, for_loops = (
        make(dataset.num_classes, bias=False) for make in (architecture.make, architecture.make_for_loops)
    )
    shape = (-1,) if name in FLAT else dataset.images.shape[1:]
    return network_of(model, for_loops, dataset, shape, num_samples, dtype)


def network_of(
    model: nn.Module,
    model_for_loops: nn.Module,
    dataset: Dataset,
    shape: tuple[int, ...],
    num_samples: int,
    dtype: Any = np.float32,
) -> Network:
    """Any network for a data set.

    Args:
        model: a module without biases.
        model_for_loops: one of the same function.
        dataset: its images are scaled.
        shape: of one image, as the network takes it.
        num_samples: how many of its samples at most, spread over all of them.
        dtype: of samples and weights.
    """
    chosen = spread(len(dataset.x), num_samples)
    pixels = np.asarray(dataset.x)[chosen].astype(np.float64)
    x, raw = (
        values.reshape(len(values), *shape).astype(dtype)
        for values in ((pixels - pixels.mean()) / pixels.std(), (pixels - pixels.min()) / np.ptp(pixels))
    )
    apply, apply_in_loops = (models.initial(each, jax.random.key(0), x)[0] for each in (model, model_for_loops))
    return Network(apply, apply_in_loops, model, x, raw, np.asarray(dataset.y)[chosen].astype(np.int32))


def suited(names: Sequence[str], dataset: Dataset) -> tuple[str, ...]:
    """Those of some networks that a data set suits, or the six-layer FC net: convolutions need images.

    Args:
        names: of ARCHITECTURES.
        dataset: the data set.
    """
    return tuple(name for name in names if name in FLAT or dataset.image_shape) or ("fc",)


def spread(size: int, count: int) -> Int[np.ndarray, " n"]:
    """At most ``count`` of the numbers below ``size``, evenly spread.

    Args:
        size: how many numbers there are.
        count: how many are chosen at most.
    """
    return np.unique(np.linspace(0, size - 1, min(count, size)).round().astype(int))


def shared_key(seed: int, name: str) -> Key:
    """A key that figures share, so that each finds the parts of the others.

    Args:
        seed: the seed of the run.
        name: what the key is for.
    """
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def stacked(trees: Sequence[PyTree]) -> PyTree:
    """Pytrees of one structure on a first axis.

    Args:
        trees: the pytrees.
    """
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


# --- Pruners


class Pruner(NamedTuple):
    """A way to prune.

    Attributes:
        look: how it is drawn.
        score: what it ranks weights by.
        iterative: whether it scores and prunes in many rounds.
        raw: whether the score sees the raw images.
        warm: whether the loss has a temperature.
    """

    look: Look
    score: ScoreFn
    iterative: bool = False
    raw: bool = False
    warm: bool = False


def warm_loss(outputs: Float[Array, "n k"], labels: Int[Array, " n"]) -> Float[Array, ""]:
    """The cross-entropy at the temperature of GraSP's authors."""
    return train.cross_entropy(outputs / TEMPERATURE, labels)


def reversed_grasp(*args: Any, **options: Any) -> Scores:
    """−θ⊙Hg, of which the code of the paths paper keeps the largest: GraSP with the other sign."""
    return jax.tree.map(lambda score: jnp.where(jnp.isfinite(score), -score, score), scores.grasp(*args, **options))


_synflow_l2 = functools.partial(scores.synflow_l2, form="authors")
PRUNERS = {
    "synflow": Pruner(Look("SynFlow", BLUE, "o", "-"), scores.synflow, iterative=True),
    "synflow_dist": Pruner(
        Look("SynFlow-Dist", CYAN, "s", "-"), functools.partial(scores.synflow, inputs="data"), iterative=True, raw=True
    ),
    "synflow_l2": Pruner(Look("SynFlow-L2", PURPLE, "D", "-"), _synflow_l2, iterative=True),
    "synflow_l2_dist": Pruner(
        Look("SynFlow-L2-Dist", RED, "p", "-"), functools.partial(_synflow_l2, inputs="data"), iterative=True, raw=True
    ),
    "snip": Pruner(Look("SNIP", GREEN, "^", "--"), scores.snip),
    "grasp": Pruner(Look("GraSP", YELLOW, "v", "--"), scores.grasp, warm=True),
    "reversed_grasp": Pruner(Look("GraSP reversed", "black", "<", "--"), reversed_grasp, warm=True),
    "magnitude": Pruner(Look("magnitude", BROWN, "P", ":"), scores.magnitude),
    "random": Pruner(Look("random", GREY, "X", ":"), scores.random),
}
"""Name -> pruner. The Dist variants take the mean of the raw images as input, where the others take ones."""


def prune_network(
    net: Network, params: Params, pruner: Pruner, keeps: Sequence[int], *, key: Key, rounds: int
) -> list[Mask]:
    """The masks of a pruner, one for each count.

    An iterative pruner goes on from each mask to the next, in rounds of `prune.one_shot` on what is left: that is
    `prune.iterative`, whose larger program takes several times as long to compile. Another pruner ranks all weights for
    each count.

    Args:
        net: the network.
        params: its weights.
        pruner: the pruner.
        keeps: how many weights are kept, descending.
        key: for what is drawn.
        rounds: of an iterative pruner from one count to the next; counts shrink by the same factor in each.
    """
    chosen = spread(len(net.x), SCORED_SAMPLES)
    batch = (net.raw if pruner.raw else net.x)[chosen], net.y[chosen]
    loss = warm_loss if pruner.warm else train.cross_entropy
    whole = everything(params)

    def further(mask: Mask, keep: int) -> Mask:
        return prune.one_shot(pruner.score, net.apply, loss, params, batch, int(keep), mask=mask, key=key)

    if not pruner.iterative:
        return [further(whole, keep) for keep in keeps]
    found = []
    for before, keep in itertools.pairwise([prune.size(params), *keeps]):
        schedule = prune.exponential_schedule(before, keep, rounds)
        found.append(functools.reduce(further, schedule, found[-1] if found else whole))
    return found


def everything(params: Params) -> Mask:
    """The mask that keeps all weights.

    Args:
        params: the weights.
    """
    return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)


@dataclass(frozen=True)
class Prunings:
    """What a figure of untrained networks prunes.

    Attributes:
        network: its name.
        seeds: how many draws of its weights.
        samples: how many images there are at most.
        densities: how much is kept, descending.
        rounds: of an iterative pruner from one density to the next.
        pruners: the names of the pruners.
    """

    network: str
    seeds: int
    samples: int
    densities: tuple[float, ...]
    rounds: int
    pruners: tuple[str, ...] = tuple(PRUNERS)

    def draws(self, key: Key) -> list[tuple[Key, Key]]:
        """For each seed a key of the weights, which pruners share, and one of the masks.

        Args:
            key: that they derive from.
        """
        return [tuple(jax.random.split(each)) for each in jax.random.split(key, self.seeds)]
