"""Effects on trained networks: observations, paired over seeds, which no theorem promises.

One instance is one seed: initial weights, weights drawn anew, and images to train and to test on. Each effect has two
controls, as cases of their own: masks shuffled within each layer (what is left is an effect of layer densities) and
weights drawn anew under the same masks (what is left is not one of the weights that were scored).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Int

from sketchprune import masks, paths, prune, scores, sketch, train
from sketchprune.data import Dataset
from sketchprune.types import Key, Mask, Params, Scores
from theory.claim import Case, Claim, Effect, Sides, Source

WIDTHS = (64, 64)
"""Of the hidden layers."""
SAMPLES = 400
"""Images to train on, and as many to test on: half of the data set where it has fewer than twice as many."""
STEPS, BATCH, EARLY = 150, 64, 30
OPTIMIZER = optax.adam(3e-3)
DENSITIES = (0.5, 0.1, 0.02)

AS_PRUNED, SHUFFLED, REDRAWN = range(3)
CONTROLS = {"": AS_PRUNED, ", shuffled masks": SHUFFLED, ", re-drawn weights": REDRAWN}


class Seed(struct.PyTreeNode):
    """One seed of an effect.

    Attributes:
        layers: initial weights [inputs, outputs], He-normal.
        redrawn: the same, drawn anew.
        x: [2, n, d], images to train and to test on, standardised.
        y: [2, n], their labels.
        control: AS_PRUNED, SHUFFLED or REDRAWN.
        arm: which of an effect's two arms or outcomes.
    """

    layers: tuple[Any, ...]
    redrawn: tuple[Any, ...]
    x: Any
    y: Any
    control: Any
    arm: Any


def seed(rng: np.random.Generator, dataset: Dataset, control: int, arm: int) -> Seed:
    """A seed on images chosen at random."""
    samples = min(SAMPLES, len(dataset.x) // 2)
    chosen = rng.choice(len(dataset.x), 2 * samples, replace=False)
    x = np.asarray(dataset.x, np.float64)[chosen].reshape(2 * samples, -1)
    deviation = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    widths = (x.shape[1], *WIDTHS, dataset.num_classes)

    def layers() -> tuple[np.ndarray, ...]:
        shapes = zip(widths[:-1], widths[1:], strict=True)
        return tuple((rng.standard_normal(shape) * np.sqrt(2 / shape[0])).astype(np.float32) for shape in shapes)

    return Seed(
        layers=layers(),
        redrawn=layers(),
        x=x.reshape(2, samples, -1).astype(np.float32),
        y=np.asarray(dataset.y, np.int32)[chosen].reshape(2, samples),
        control=np.asarray(control),
        arm=np.asarray(arm),
    )


def seeds(*arms: str) -> tuple[Case, ...]:
    """A case for each arm and control."""
    return tuple(
        Case(
            f"{{data}}, {name}{control}",
            lambda rng, dataset, code=code, arm=arm: seed(rng, dataset, code, arm),
        )
        for arm, name in enumerate(arms)
        for control, code in CONTROLS.items()
    )


def network(layers: tuple[Array, ...], x: Float[Array, "n d"]) -> Float[Array, "n k"]:
    """ReLU layers without biases."""
    *hidden, last = layers
    for layer in hidden:
        x = jax.nn.relu(x @ layer)
    return x @ last


def cross_entropy(outputs: Float[Array, "n k"], labels: Int[Array, " n"]) -> Float[Array, ""]:
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


def trained(instance: Seed, stack: Mask, key: Key) -> tuple[Array, Array]:
    """Losses [models, steps] and test errors [models] of the masks of a stack, under the instance's control."""
    shuffle, order = jax.random.split(key)
    stack = jax.tree.map(
        lambda kept, mixed: jnp.where(instance.control == SHUFFLED, mixed, kept), stack, shuffled(shuffle, stack)
    )
    start = jax.tree.map(
        lambda first, anew: jnp.where(instance.control == REDRAWN, anew, first), instance.layers, instance.redrawn
    )

    def fit(mask: Mask) -> tuple[Params, Array]:
        data = instance.x[0], instance.y[0]
        weights = masks.apply(start, mask)  # a sketch scales the weights that it keeps
        return train.fit(
            network, cross_entropy, weights, data, OPTIMIZER, STEPS, mask=mask, key=order, batch_size=BATCH
        )

    params, losses = jax.vmap(fit)(stack)
    outputs = jax.vmap(lambda params: network(params, instance.x[1]))(params)
    return losses, jnp.mean(jnp.argmax(outputs, axis=2) != instance.y[1], axis=1)


def shuffled(key: Key, stack: Mask) -> Mask:
    """Every mask of a stack with its entries permuted within each layer."""
    leaves, structure = jax.tree.flatten(stack)

    def layer(key: Key, leaf: Float[Array, "models a b"]) -> Array:
        order = jax.random.permutation(key, leaf[0].size)
        return leaf.reshape(len(leaf), -1)[:, order].reshape(leaf.shape)

    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [layer(*part) for part in zip(keys, leaves, strict=True)])


def score_of(name: str, instance: Seed, key: Key) -> Any:
    """A score of the initial weights, on 64 images."""
    batch = instance.x[0][:64], instance.y[0][:64]
    return scores.SCORES[name](network, cross_entropy, instance.layers, batch, key=key)


# --- sketch/randomised-beats-top

DATA_FREE = ("magnitude", "synflow", "synflow_l2")
BINARY, REWEIGHTED = range(2)


def _beats(instance: Seed, key: Key) -> dict[str, Sides]:
    draw, rest = jax.random.split(key)
    keeps = jnp.array([round(density * prune.size(instance.layers)) for density in DENSITIES])

    def pair(scored: Any, keep: Array, key: Key) -> Mask:
        """The top of the score, and a mask drawn in proportion to it."""
        top, fixed = (
            jax.tree.map(lambda kept: kept.astype(jnp.float32), sampler(key, scored, keep))
            for sampler in (prune.top, prune.fixed_size)
        )
        sketch = prune.poisson(key, scored, keep)
        sampled = jax.tree.map(lambda one, other: jnp.where(instance.arm == BINARY, one, other), fixed, sketch)
        return jax.tree.map(lambda one, other: jnp.stack([one, other]), top, sampled)

    found = [score_of(name, instance, key) for name in DATA_FREE]
    scored = jax.tree.map(lambda *leaves: jnp.repeat(jnp.stack(leaves), len(DENSITIES), axis=0), *found)
    pairs = len(DATA_FREE) * len(DENSITIES)
    both = jax.vmap(pair)(scored, jnp.tile(keeps, len(DATA_FREE)), jax.random.split(draw, pairs))
    stack = jax.tree.map(lambda leaf: leaf.reshape(2 * pairs, *leaf.shape[2:]), both)
    errors = trained(instance, stack, rest)[1].reshape(pairs, 2)
    return {"claim": Sides(errors[:, 0], errors[:, 1])}


RANDOMISED_BEATS_TOP = Claim(
    id="sketch/randomised-beats-top",
    title="After training, a mask drawn in proportion to a data-free score beats the top of that score",
    statement=(
        r"\mathbb{E}\,\mathrm{err}(m_{\mathrm{top}(s)})\ge\mathbb{E}\,\mathrm{err}(m),\qquad m\sim q\propto\text{score}"
    ),
    sources=(Source("bar2023sketching"),),
    kind=Effect(),
    cases=seeds("fixed size, binary", "poisson, reweighted"),
    trial=_beats,
    expected=None,
    batch=2,
    note=(
        f"Test errors of a 64-64-64-10 MLP after {STEPS} steps, averaged over the scores {', '.join(DATA_FREE)} and "
        f"the densities {', '.join(map(str, DENSITIES))}. Read the cases one by one: those of the controls say how "
        "much of the difference is left without the score's choice of weights or without the weights themselves."
    ),
)


# --- paths/convergence-predictor

PRUNERS = ("random", "magnitude", "snip", "grasp", "synflow", "synflow_l2", "path_trace", "trace_drop", "ntk_sap")
COMPARED_AT = 0.1
"""The density at which pruners, or scores, are compared."""


def spearman(a: Float[Array, " n"], b: Float[Array, " n"]) -> Float[Array, ""]:
    """Rank correlation, tied entries sharing their mean rank; 0 where one of the two is constant."""

    def ranks(values: Array) -> Array:
        below = values[None, :] < values[:, None]
        equal = values[None, :] == values[:, None]
        ranked = below.sum(1) + equal.sum(1) / 2
        return ranked - ranked.mean()

    a, b = ranks(a), ranks(b)
    norm = jnp.sqrt(jnp.sum(a**2) * jnp.sum(b**2))
    return jnp.where(norm > 0, jnp.sum(a * b) / jnp.where(norm > 0, norm, 1), 0.0)


def _predicts(instance: Seed, key: Key) -> dict[str, Sides]:
    draw, rest = jax.random.split(key)
    keep = round(COMPARED_AT * prune.size(instance.layers))
    found = [score_of(name, instance, key) for name, key in zip(PRUNERS, jax.random.split(draw, 9), strict=True)]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[prune.top(None, scored, keep) for scored in found])
    moved = jax.tree.map(
        lambda kept, mixed: jnp.where(instance.control == SHUFFLED, mixed, kept),
        stack,
        shuffled(jax.random.split(rest)[0], stack),
    )
    traces = jax.vmap(
        lambda mask: paths.trace(network, instance.layers, instance.x.shape[2:], mask=mask, log=True)
    )(moved)  # fmt: skip
    losses, errors = trained(instance, stack, rest)
    outcome = jnp.where(instance.arm == 0, losses[:, :EARLY].mean(axis=1), errors)
    return {"claim": Sides(spearman(traces, -outcome), jnp.zeros(()))}


CONVERGENCE_PREDICTOR = Claim(
    id="paths/convergence-predictor",
    title="Among pruners, a larger trace of the path kernel goes with faster early training and smaller test error",
    statement=r"\rho_{\mathrm{Spearman}}\big(\mathrm{Tr}\,\Pi(m\circ\theta),\,-\mathrm{loss}\big)\ge0",
    sources=(Source("gebhart2021paths"),),
    kind=Effect(),
    cases=seeds("early training", "test error"),
    trial=_predicts,
    expected=None,
    batch=2,
    note=(
        f"Rank correlation over {', '.join(PRUNERS)} at density {COMPARED_AT}: with the mean loss of the first "
        f"{EARLY} steps, and with the test error after {STEPS}. Shuffled masks have their own trace; under re-drawn "
        "weights the trace is that of the weights which were scored."
    ),
)


# --- tangent/efficiency-predictor

SAMPLED, TOP = range(2)


def law(scored: Scores) -> Params:
    """|score|/Σ|score|; what is never pruned, or pruned already, has no part in it."""
    return sketch.data_free_probabilities(jax.tree.map(lambda leaf: jnp.where(jnp.isinf(leaf), 0, leaf), scored))


def masks_of_scores(instance: Seed, key: Key) -> tuple[Float[Array, " scores"], Mask, Mask]:
    """Of every score: its efficiency on the images that it saw, a mask in proportion to it, and the mask of its top."""
    score_key, mask_key = jax.random.split(key)
    count = len(scores.SCORES)
    keep = round(COMPARED_AT * prune.size(instance.layers))
    keys = jax.random.split(score_key, count)
    found = {name: score_of(name, instance, key) for name, key in zip(scores.SCORES, keys, strict=True)}
    optimal = law(found["ntk_trace"])

    def one(scored: Scores, key: Key) -> tuple[Array, Mask, Mask]:
        efficiency = sketch.efficiency(optimal, law(scored))
        return efficiency, prune.fixed_size(key, scored, keep), prune.top(None, scored, keep)

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *found.values())
    return jax.vmap(one)(stacked, jax.random.split(mask_key, count))


def _ranks(instance: Seed, key: Key) -> dict[str, Sides]:
    draw, rest = jax.random.split(key)
    efficiency, sampled, top = masks_of_scores(instance, draw)
    stack = jax.tree.map(lambda one, other: jnp.where(instance.arm == SAMPLED, one, other), sampled, top)
    return {"claim": Sides(spearman(efficiency, -trained(instance, stack, rest)[1]), jnp.zeros(()))}


EFFICIENCY_PREDICTOR = Claim(
    id="tangent/efficiency-predictor",
    title="Among pruning scores, one that sketches the tangent kernel better goes with smaller test error",
    statement=(
        r"\rho_{\mathrm{Spearman}}\Big(\frac1{1+\chi^2(p^*\|q)},\,-\mathrm{err}\Big)\ge0,\qquad "
        r"p^*_i\propto\|J_i\|^2,\quad q\propto|\text{score}|"
    ),
    sources=(Source("bar2023sketching"),),
    kind=Effect(),
    cases=seeds("sampled", "top"),
    trial=_ranks,
    expected=None,
    batch=2,
    note=(
        f"Rank correlation over {', '.join(scores.SCORES)} at density {COMPARED_AT} with the test error after {STEPS} "
        "steps, of binary masks of a fixed size drawn in proportion to |score| and of the top of the score. Efficiency "
        "is that of tangent/score-efficiency on the 64 images that the scores see: of the score itself, whatever the "
        "control does to its masks. `python -m figures score_efficiency` draws the table."
    ),
)
