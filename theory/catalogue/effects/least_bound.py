"""Effects of pruning by the least training bound of the linearised network, beside SNIP and SynFlow."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sketchprune import prune, scores, train
from sketchprune.types import Key, Mask
from theory.catalogue.effects.drawing import LOW_DENSITIES
from theory.catalogue.effects.seeds import SCORED_SAMPLES, STEPS, Seed, Trained, drawn, effect_claim, stacked
from theory.claim import Claim, Sides, Source
from theory.staged import Drawn

SAMPLES = 16
"""How many of the training images the bound is for; their outputs are the size of its kernel."""
ROUNDS = 20
STEPS_A_ROUND = 3
SYNFLOW_ROUNDS = 100


def least_bound_mask(instance: Seed, keeps: Array) -> Mask:
    """The mask of the least bound on some training images, with centred one-hot labels as targets.

    Args:
        instance: the seed.
        keeps: how many weights are left after each round.
    """
    x, y = instance.x[0][:SAMPLES], instance.y[0][:SAMPLES]
    classes = jax.eval_shape(instance.apply, instance.params, x).shape[1]
    targets = jax.nn.one_hot(y, classes) - 1 / classes
    return prune.least_bound(instance.apply, instance.params, (x, targets), keeps, steps=STEPS_A_ROUND)


def snip_mask(instance: Seed, keep: int) -> Mask:
    """SNIP's highest scores."""
    batch = instance.x[0][:SCORED_SAMPLES], instance.y[0][:SCORED_SAMPLES]
    return prune.one_shot(scores.snip, instance.apply, train.cross_entropy, instance.params, batch, keep)


def synflow_mask(instance: Seed, keep: int) -> Mask:
    """SynFlow in rounds."""
    keeps = jnp.asarray(prune.exponential_schedule(prune.size(instance.params), keep, SYNFLOW_ROUNDS))
    return prune.iterative(scores.synflow, instance.apply, None, instance.params, (instance.x[0][:1], None), keeps)


RIVALS = {"SNIP": snip_mask, "SynFlow": synflow_mask}


def _draw(instance: Seed, key: Key) -> Drawn:
    """The masks [densities] of the least bound, and those of its rivals."""
    size = prune.size(instance.params)
    counts = [prune.count(instance.params, density) for density in LOW_DENSITIES]
    schedules = jnp.asarray([prune.exponential_schedule(size, keep, ROUNDS) for keep in counts])
    arms = {name: stacked(*(rival(instance, keep) for keep in counts)) for name, rival in RIVALS.items()}
    arms["the least bound"] = jax.lax.map(lambda keeps: least_bound_mask(instance, keeps), schedules)
    return drawn(instance, arms, key)


def _compare(instance: Seed, results: Trained, known: None) -> dict[str, Sides]:
    return {"claim": Sides(*results.error.reshape(2, -1))}


def beats(name: str, *, few_seeds: bool = False, id: str, source: str) -> Claim:
    """That masks of the least bound train better than those of another method.

    Args:
        name: of the other method, one of RIVALS.
        few_seeds: whether the quick tier measures it on few seeds.
        id: of the claim.
        source: of the other method.
    """

    def select(arms: dict[str, Mask]) -> Mask:
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), arms[name], arms["the least bound"])

    return effect_claim(
        _draw,
        _compare,
        select=select,
        costly_draw=True,
        few_seeds=few_seeds,
        id=id,
        title=f"After training, masks of the least training bound beat {name}",
        statement=(
            r"\mathbb{E}\,\mathrm{err}(m_{\mathrm{" + name + r"}})\ge\mathbb{E}\,\mathrm{err}(m^{(R)}),\qquad "
            r"m^{(r)}=\mathrm{top}_{s_r}\Big(\mathrm{argmin}_{\sum\pi\le s_r}\;t^\top(I+\Theta_{c(\pi)})^{-1}t\Big)"
        ),
        sources=(Source("bar2023sketching"), Source("moka2022combss"), Source(source)),
        note=(
            f"Test errors after {STEPS} steps, averaged over the densities {', '.join(map(str, LOW_DENSITIES))}. "
            f"The bound is that of tangent/training-error-ridge on {SAMPLES} images, minimised over the rates "
            f"of the mask in {ROUNDS} rounds of {STEPS_A_ROUND} steps; after each the network that is left is "
            "linearised anew."
        ),
    )


LEAST_BOUND_SNIP = beats("SNIP", few_seeds=True, id="tangent/least-bound-snip", source="lee2019snip")
LEAST_BOUND_SYNFLOW = beats("SynFlow", id="tangent/least-bound-synflow", source="tanaka2020synflow")
