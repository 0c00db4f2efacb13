"""Seeds, on which effects are measured, with their controls; and the training of many masks on one of them.

An instance is one seed: initial weights, weights that are drawn anew, and images to train and to test on. Each effect
has two controls, as cases of their own. In one, masks are shuffled within each layer, so that only the densities of
the layers are left as a cause. In the other, the masks are trained from the weights that were drawn anew, so that the
weights that were scored are no cause. The networks are an MLP and, at the full tier, a small convolutional net.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Shaped

from sketchprune import masks, models, train
from sketchprune.data import Dataset
from sketchprune.types import ApplyFn, Inputs, Key, Mask, Params, ScoreFn, Scores
from theory.claim import Case, Claim, Sides
from theory.kinds import Effect

NETWORKS = {
    "": functools.partial(models.mlp, 64, 64, bias=False),
    ", conv net": functools.partial(models.patch_net, 8, 16, bias=False),
}
"""Case suffix -> constructor of a network, which takes the number of classes."""
NETWORKS_NOTE = (
    "The network is an MLP with two hidden layers of 64; the conv net, at the full tier, has 3x3 convolutions to 8 and "
    "16 channels, average pooling by two after each, and a dense layer."
)
SAMPLES = 400
"""How many images to train on, and as many to test on; at most half of the data set for each."""
SCORED_SAMPLES = 64
"""How many of the training images the scores see."""
STEPS = 150
EARLY = 30
"""How many steps count as early training."""
BATCH_SIZE = 64
OPTIMIZER = optax.adam(3e-3)

AS_PRUNED, SHUFFLED, REDRAWN = range(3)
CONTROLS = {"": AS_PRUNED, ", shuffled masks": SHUFFLED, ", re-drawn weights": REDRAWN}
"""Case suffix -> what is done to the masks or to the weights."""


class Seed(struct.PyTreeNode):
    """One seed of an effect.

    Attributes:
        model: the network, which has no biases.
        params: its initial weights, He-normal.
        redrawn: weights drawn anew from the same law.
        x: [2, n, ...], images to train and to test on, standardised.
        y: [2, n], their labels.
        suited: whether the data are images, or the network does not need images.
        control: AS_PRUNED, SHUFFLED or REDRAWN.
    """

    model: nn.Module = struct.field(pytree_node=False)
    params: Any
    redrawn: Any
    x: Any
    y: Any
    suited: Any
    control: Any

    @property
    def apply(self) -> ApplyFn:
        """The network as a function of its weights and of images."""
        model = self.model

        def apply(params: Params, x: Inputs) -> Any:
            return model.apply({"params": params}, x)

        return apply


def make_seed(rng: np.random.Generator, dataset: Dataset, network: str = "", control: int = AS_PRUNED) -> Seed:
    """A seed on images chosen at random. Samples that are no images become images of one row of pixels."""
    samples = min(SAMPLES, len(dataset.x) // 2)
    chosen = rng.choice(len(dataset.x), 2 * samples, replace=False)
    x = np.asarray(dataset.x, np.float64)[chosen].reshape(2 * samples, -1)
    deviation = x.std(axis=0)
    x = ((x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)).astype(np.float32)
    x = x.reshape(2, samples, *(dataset.image_shape or (1, -1, 1)))
    model = NETWORKS[network](dataset.num_classes)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x[0])["params"]

    def he_normal(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        return (rng.standard_normal(leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))).astype(leaf.dtype)

    return Seed(
        model=model,
        params=jax.tree.map(he_normal, shapes),
        redrawn=jax.tree.map(he_normal, shapes),
        x=x,
        y=np.asarray(dataset.y, np.int32)[chosen].reshape(2, samples),
        suited=np.asarray(bool(dataset.image_shape) or not network),
        control=np.asarray(control),
    )


def effect_claim(trial: Callable[[Seed, Key], dict[str, Sides]], *, note: str, **fields: Any) -> Claim:
    """A claim about seeds, with a case for each network and control. Controls have the same seeds.

    Args:
        trial: both sides of the effect on one seed.
        note: what is compared.
        fields: of the claim.
    """
    cases = tuple(
        Case(
            f"{{data}}{network}{suffix}",
            functools.partial(make_seed, network=network, control=control),
            control=control != AS_PRUNED,
            long=bool(network),
            stream=f"{{data}}{network}",
        )
        for network in NETWORKS
        for suffix, control in CONTROLS.items()
    )
    return Claim(
        kind=Effect(),
        cases=cases,
        hypotheses={"images for the conv net": lambda instance: instance.suited},
        expected=None,
        batch=2,
        trial=trial,
        note=f"{note} {NETWORKS_NOTE}",
        **fields,
    )


class Trained(NamedTuple):
    """Models trained from one seed, the first axis over the masks.

    Attributes:
        masks: the masks that were trained, shuffled where the control says so.
        losses: [models, steps], before each step.
        errors: [models], the fraction of test images that are misclassified.
    """

    masks: Mask
    losses: Float[Array, "models steps"]
    errors: Float[Array, "models"]


def train_masks(instance: Seed, stack: Mask, key: Key) -> Trained:
    """Trains a stack of masks, or what the instance's control makes of them.

    Args:
        instance: the seed.
        stack: masks, on a first axis. The weights of a sketch scale the initial weights.
        key: for shuffling and for the batches, which all masks share.
    """
    shuffle_key, batch_key = jax.random.split(key)
    stack = tree_where(instance.control == SHUFFLED, shuffled_within_layers(shuffle_key, stack), stack)
    start = tree_where(instance.control == REDRAWN, instance.redrawn, instance.params)
    train_x, test_x = instance.x
    train_y, test_y = instance.y

    def fit(mask: Mask) -> train.Fit:
        return train.fit(
            instance.apply,
            train.cross_entropy,
            masks.apply(start, mask),
            (train_x, train_y),
            OPTIMIZER,
            STEPS,
            mask=mask,
            key=batch_key,
            batch_size=BATCH_SIZE,
        )

    params, losses = jax.vmap(fit)(stack)
    outputs = jax.vmap(lambda params: instance.apply(params, test_x))(params)
    return Trained(stack, losses, jnp.mean(jnp.argmax(outputs, axis=2) != test_y, axis=1))


def tree_where(condition: Any, one: Any, other: Any) -> Any:
    """The one pytree where the condition holds, and the other where it does not."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def shuffled_within_layers(key: Key, stack: Mask) -> Mask:
    """Masks with the entries of each layer in another order, the same order in every mask of the stack."""
    leaves, structure = jax.tree.flatten(stack)

    def layer(key: Key, leaf: Shaped[Array, "models ..."]) -> Array:
        order = jax.random.permutation(key, leaf[0].size)
        return leaf.reshape(len(leaf), -1)[:, order].reshape(leaf.shape)

    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [layer(*part) for part in zip(keys, leaves, strict=True)])


def stacked_scores(instance: Seed, table: Mapping[str, ScoreFn], key: Key) -> Scores:
    """Every score of a table, of the initial weights on some training images, stacked in the order of the table."""
    batch = instance.x[0][:SCORED_SAMPLES], instance.y[0][:SCORED_SAMPLES]
    keys = jax.random.split(key, len(table))
    found = [
        score(instance.apply, train.cross_entropy, instance.params, batch, key=key)
        for score, key in zip(table.values(), keys, strict=True)
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
