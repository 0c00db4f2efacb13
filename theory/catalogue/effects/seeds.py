"""What effects are measured on: seeds, their controls, and the training of many masks.

One instance is one seed: initial weights, weights drawn anew, and images to train and to test on. Each effect has two
controls, as cases of their own: masks shuffled within each layer (what is left is an effect of layer densities) and
weights drawn anew under the same masks (what is left is not one of the weights that were scored). Networks are an MLP
and, at the full tier, a small convolutional net.
"""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float

from sketchprune import masks, models, scores, train
from sketchprune.data import Dataset
from sketchprune.types import ApplyFn, Key, Mask, Params, Scores
from theory.claim import Case, Claim
from theory.kinds import Effect

NETWORKS = {
    "": functools.partial(models.mlp, 64, 64, bias=False),
    ", conv net": functools.partial(models.patch_net, 8, 16, bias=False),
}
"""Of the number of classes."""
IN_WORDS = (
    "The network is an MLP with two hidden layers of 64; the conv net, at the full tier, has 3x3 convolutions to 8 and "
    "16 channels, average pooling by two after each, and a dense layer."
)
SAMPLES = 400
"""Images to train on, and as many to test on: half of the data set where it has fewer than twice as many."""
STEPS, BATCH, EARLY = 150, 64, 30
OPTIMIZER = optax.adam(3e-3)

AS_PRUNED, SHUFFLED, REDRAWN = range(3)
CONTROLS = {"": AS_PRUNED, ", shuffled masks": SHUFFLED, ", re-drawn weights": REDRAWN}


class Seed(struct.PyTreeNode):
    """One seed of an effect.

    Attributes:
        model: the network, which has no biases.
        params: its initial weights, He-normal.
        redrawn: the same, drawn anew.
        x: [2, n, ...], images to train and to test on, standardised.
        y: [2, n], their labels.
        suited: the data are images, or the network does not ask for them.
        control: AS_PRUNED, SHUFFLED or REDRAWN.
        arm: which of an effect's two arms or outcomes.
    """

    model: nn.Module = struct.field(pytree_node=False)
    params: Any
    redrawn: Any
    x: Any
    y: Any
    suited: Any
    control: Any
    arm: Any

    @property
    def apply(self) -> ApplyFn:
        model = self.model

        def apply(params: Params, x: Array) -> Any:
            return model.apply({"params": params}, x)

        return apply


def seed(rng: np.random.Generator, dataset: Dataset, network: str = "", control: int = AS_PRUNED, arm: int = 0) -> Seed:
    """A seed on images chosen at random; plain features are one row of pixels."""
    samples = min(SAMPLES, len(dataset.x) // 2)
    chosen = rng.choice(len(dataset.x), 2 * samples, replace=False)
    x = np.asarray(dataset.x, np.float64)[chosen].reshape(2 * samples, -1)
    deviation = x.std(axis=0)
    x = ((x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)).astype(np.float32)
    x = x.reshape(2, samples, *(dataset.image_shape or (1, -1, 1)))
    model = NETWORKS[network](dataset.num_classes)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x[0]))["params"]

    def drawn(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        return (rng.standard_normal(leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))).astype(leaf.dtype)

    return Seed(
        model=model,
        params=jax.tree.map(drawn, shapes),
        redrawn=jax.tree.map(drawn, shapes),
        x=x,
        y=np.asarray(dataset.y, np.int32)[chosen].reshape(2, samples),
        suited=np.asarray(bool(dataset.image_shape) or not network),
        control=np.asarray(control),
        arm=np.asarray(arm),
    )


def effect(*arms: str, note: str, **fields: Any) -> Claim:
    """A claim about seeds, with a case for each network, arm and control."""
    cases = tuple(
        Case(
            f"{{data}}{network}, {name}{control}",
            functools.partial(seed, network=network, control=code, arm=arm),
            control=code != AS_PRUNED,
            long=bool(network),
        )
        for network in NETWORKS
        for arm, name in enumerate(arms)
        for control, code in CONTROLS.items()
    )
    hypotheses = {"images for the conv net": lambda instance: instance.suited}
    return Claim(
        kind=Effect(),
        cases=cases,
        hypotheses=hypotheses,
        expected=None,
        batch=2,
        note=f"{note} {IN_WORDS}",
        **fields,
    )


class Trained(NamedTuple):
    """What became of a stack of masks.

    Attributes:
        masks: as they were trained.
        losses: before each step.
        errors: on the images to test on.
    """

    masks: Mask
    losses: Float[Array, "models steps"]
    errors: Float[Array, " models"]


def trained(instance: Seed, stack: Mask, key: Key) -> Trained:
    """Trains a stack of masks, or what the instance's control makes of them."""
    shuffle, order = jax.random.split(key)
    stack = either(instance.control == SHUFFLED, shuffled(shuffle, stack), stack)
    start = either(instance.control == REDRAWN, instance.redrawn, instance.params)
    apply, (train_x, test_x), (train_y, test_y) = instance.apply, instance.x, instance.y

    def fit(mask: Mask) -> tuple[Params, Array]:
        weights = masks.apply(start, mask)  # a sketch scales the weights that it keeps
        data = train_x, train_y
        return train.fit(
            apply, train.cross_entropy, weights, data, OPTIMIZER, STEPS, mask=mask, key=order, batch_size=BATCH
        )

    params, losses = jax.vmap(fit)(stack)
    outputs = jax.vmap(lambda params: apply(params, test_x))(params)
    return Trained(stack, losses, jnp.mean(jnp.argmax(outputs, axis=2) != test_y, axis=1))


def either(condition: Any, one: Any, other: Any) -> Any:
    """The one pytree where the condition holds, and the other where not."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def shuffled(key: Key, stack: Mask) -> Mask:
    """Every mask of a stack with its entries permuted within each layer."""
    leaves, structure = jax.tree.flatten(stack)

    def layer(key: Key, leaf: Float[Array, "models ..."]) -> Array:
        order = jax.random.permutation(key, leaf[0].size)
        return leaf.reshape(len(leaf), -1)[:, order].reshape(leaf.shape)

    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [layer(*part) for part in zip(keys, leaves, strict=True)])


def scored(instance: Seed, names: Iterable[str], key: Key) -> Scores:
    """The scores of these names, stacked: of the initial weights, on 64 images."""
    table = [scores.SCORES[name] for name in names]
    batch, keys = (instance.x[0][:64], instance.y[0][:64]), jax.random.split(key, len(table))
    found = [
        score(instance.apply, train.cross_entropy, instance.params, batch, key=key)
        for score, key in zip(table, keys, strict=True)
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
