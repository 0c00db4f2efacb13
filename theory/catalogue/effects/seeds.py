"""Seeds, on which effects are measured, with their controls; and the training of many masks on one of them.

An instance is one seed: initial weights, weights that are drawn anew, and images to train and to test on. Controls are
cases of their own on the same seeds. In one, masks are shuffled within each layer, so that only the densities of the
layers are left as a cause. In another, the masks are trained from the weights that were drawn anew, so that the weights
that were scored are no cause. Where densities of layers are the cause, masks are shuffled over all layers instead. The
networks are an MLP and, at the full tier, a small convolutional net.
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
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, UInt32

from sketchprune import masks, models, scores, train
from sketchprune.data import Dataset
from sketchprune.types import ApplyFn, Inputs, Key, Mask, Params, ScoreFn, Scores
from theory.claim import Case, Claim, Sides
from theory.kinds import Effect
from theory.staged import Drawn, StagedTrial, all_arms

NETWORKS = {
    "": functools.partial(models.mlp, 64, 64, bias=False),
    ", conv net": functools.partial(models.patch_net, 8, 16, bias=False),
}
"""Case suffix -> constructor of a network, which takes the number of classes."""
NETWORKS_NOTE = (
    "The network is an MLP with two hidden layers of 64; the conv net, at the full tier, has 3x3 convolutions to 8 and "
    "16 channels, average pooling by two after each, and a dense layer."
)
FEW_SEEDS_NOTE = "To save time, the quick tier takes half of its seeds."
SAMPLES = 400
"""How many images to train on, and as many to test on; at most half of the data set for each."""
SCORED_SAMPLES = 64
"""How many of the training images the scores see."""
STEPS = 150
EARLY = 30
"""How many steps count as early training."""
BATCH_SIZE = 64
OPTIMIZER = optax.adam(3e-3)

COMPARED_AT = 0.1
"""The density at which pruners, or scores, are compared with each other."""

AS_PRUNED, SHUFFLED, REDRAWN = range(3)
CONTROLS = {", shuffled masks": SHUFFLED, ", re-drawn weights": REDRAWN}
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


class Chance(NamedTuple):
    """What chance decides of the training of all masks on one seed.

    Attributes:
        order: in which the control has the entries of a mask, those of all layers after one another.
        batches: data of the key of the batches.
    """

    order: Int[Array, "weights"]
    batches: UInt32[Array, "2"]


Order = Callable[[Key, Params], Int[Array, "weights"]]
"""From a key and weights to an order of their entries."""


def order_within_layers(key: Key, params: Params) -> Int[Array, "weights"]:
    """Each layer's entries in another order."""
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    keys = jax.random.split(key, len(sizes))
    starts = np.cumsum([0, *sizes])
    orders = [jax.random.permutation(key, size) for key, size in zip(keys, sizes, strict=True)]
    return jnp.concatenate([start + order for start, order in zip(starts, orders, strict=False)]).astype(jnp.int32)


def order_over_layers(key: Key, params: Params) -> Int[Array, "weights"]:
    """The entries of all layers together in another order."""
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    return jax.random.permutation(key, size).astype(jnp.int32)


def drawn(instance: Seed, stack: Mask, key: Key, known: Any = None, *, order: Order = order_within_layers) -> Drawn:
    """Masks for a seed, with what chance decides of their training.

    Args:
        instance: the seed.
        stack: masks, on a first axis, or a pytree of such stacks. The weights of a sketch scale the initial weights.
        key: for shuffling and for the batches, which all masks share.
        known: what else the comparison takes.
        order: in which the control of shuffled masks has their entries.
    """
    order_key, batch_key = jax.random.split(key)
    chance = Chance(order(order_key, instance.params), jax.random.key_data(batch_key))
    # All masks in one dtype, so that those that select and sketches are trained by one program.
    return Drawn(chance, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), stack), known)


class Trained(NamedTuple):
    """A model trained from one seed.

    Attributes:
        mask: the mask that was trained, shuffled where the control says so.
        start: the weights before training.
        params: the weights after it.
        losses: [steps], before each step.
        error: the fraction of test images that are misclassified.
    """

    mask: Mask
    start: Params
    params: Params
    losses: Float[Array, "steps"]
    error: Float[Array, ""]


def train_mask(instance: Seed, chance: Chance, mask: Mask) -> Trained:
    """Trains a mask, or what the instance's control makes of it and of the weights.

    Args:
        instance: the seed.
        chance: of :func:`drawn`.
        mask: one of those that were drawn.
    """
    mask = controlled_mask(instance, chance, mask)
    start = masks.apply(controlled_weights(instance), mask)
    training = training_options(instance, jax.random.wrap_key_data(chance.batches, impl="threefry2x32"))
    params, losses = train.fit(params=start, mask=mask, steps=STEPS, **training)
    return Trained(mask, start, params, losses, misclassified(instance, params))


def training_options(instance: Seed, key: Key) -> dict[str, Any]:
    """The arguments of :mod:`sketchprune.train` that all training on a seed shares."""
    return {
        "apply": instance.apply,
        "loss": train.cross_entropy,
        "data": (instance.x[0], instance.y[0]),
        "optimizer": OPTIMIZER,
        "key": key,
        "batch_size": BATCH_SIZE,
    }


def misclassified(instance: Seed, params: Params) -> Float[Array, ""]:
    """The fraction of test images that a model misclassifies."""
    outputs = instance.apply(params, instance.x[1])
    return jnp.mean(jnp.argmax(outputs, axis=1) != instance.y[1])


def controlled_mask(instance: Seed, chance: Chance, mask: Mask) -> Mask:
    """A mask, shuffled where the control says so."""
    return tree_where(instance.control == SHUFFLED, reordered(mask, chance.order), mask)


def reordered(mask: Mask, order: Int[Array, "weights"]) -> Mask:
    """The mask with its entries in another order, those of all layers after one another."""
    flat, unravel = ravel_pytree(mask)
    return unravel(flat[order])


def controlled_weights(instance: Seed) -> Params:
    """The initial weights, drawn anew where the control says so."""
    return tree_where(instance.control == REDRAWN, instance.redrawn, instance.params)


def stacked(*trees: Any) -> Any:
    """Pytrees of one structure on a first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def tree_where(condition: Any, one: Any, other: Any) -> Any:
    """The one pytree where the condition holds, and the other where it does not."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def named_scores(*names: str) -> dict[str, ScoreFn]:
    """Some of the library's scores."""
    return {name: scores.SCORES[name] for name in names}


def stacked_scores(instance: Seed, table: Mapping[str, ScoreFn], key: Key) -> Scores:
    """Every score of a table, of the initial weights on some training images, stacked in the order of the table."""
    batch = instance.x[0][:SCORED_SAMPLES], instance.y[0][:SCORED_SAMPLES]
    keys = jax.random.split(key, len(table))
    found = [
        score(instance.apply, train.cross_entropy, instance.params, batch, key=key)
        for score, key in zip(table.values(), keys, strict=True)
    ]
    return stacked(*found)


def effect_claim(
    draw: Callable[[Seed, Key], Drawn],
    compare: Callable[[Seed, Any, Any], dict[str, Sides]],
    *,
    needs: tuple[str, ...] = ("error",),
    run: Callable[[Seed, Chance, Mask], Trained] = train_mask,
    select: Callable[[Any], Mask] = all_arms,
    costly_draw: bool = False,
    note: str,
    controls: Mapping[str, int] = CONTROLS,
    margin: float = 0.0,
    few_seeds: bool = False,
    **fields: Any,
) -> Claim:
    """A claim about seeds, with a case for each network and control. Controls have the same seeds.

    Args:
        draw: the masks that are trained on a seed, whatever its control is: what :func:`drawn` returns.
        compare: both sides of the effect on one seed, from what it needs of the trained models.
        needs: fields of :class:`Trained` that the comparison takes.
        run: what is done with each mask, by default its training.
        select: which of the drawn masks are trained.
        costly_draw: whether finding the masks takes longer than compiling it.
        note: what is compared.
        controls: case suffix -> what is done to the masks or to the weights.
        margin: the difference that is still called a match.
        few_seeds: whether the quick tier measures it on few seeds, as of :class:`theory.Effect`.
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
        for suffix, control in {"": AS_PRUNED, **controls}.items()
    )
    return Claim(
        kind=Effect(margin, few_seeds=few_seeds),
        cases=cases,
        hypotheses={"images for the conv net": lambda instance: instance.suited},
        expected=None,
        batch=2,
        draw=draw,
        trial=StagedTrial(run, needs, compare, select, costly_draw),
        note=" ".join((note, NETWORKS_NOTE, *((FEW_SEEDS_NOTE,) if few_seeds else ()))),
        **fields,
    )
