"""Effects of layer densities: do random masks train better at balanced or pyramidal ones than at uniform ones?"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from sketchprune import laws, lottery, masks, prune
from sketchprune.laws.densities import Rule
from sketchprune.types import Key, Mask
from theory.catalogue.effects.seeds import (
    SHUFFLED,
    STEPS,
    Seed,
    Trained,
    drawn,
    effect_claim,
    order_over_layers,
    stacked,
)
from theory.claim import Claim, Sides, Source
from theory.staged import Drawn

DENSITIES = (0.1, 0.05, 0.02)
CONTROLS = {", shuffled over all layers": SHUFFLED}


def beats_uniform(rule: Rule, *, few_seeds: bool = False, id: str, title: str, note: str = "") -> Claim:
    """That random masks at the densities of a rule train better than those at uniform densities.

    Args:
        rule: for the densities of layers.
        few_seeds: whether the quick tier measures it on few seeds.
        id: of the claim.
        title: of the claim.
        note: what a reader should know of the rule.
    """

    def draw(instance: Seed, key: Key) -> Drawn:
        mask_key, train_key = jax.random.split(key)
        pairs = masks_of_rules(instance, rule, mask_key)
        stack = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:]), pairs)
        return drawn(instance, stack, train_key, order=order_over_layers)

    def compare(instance: Seed, results: Trained, known: None) -> dict[str, Sides]:
        errors = results.error.reshape(2, len(DENSITIES), 2)
        return {"claim": Sides(errors[..., 0], errors[..., 1])}

    return effect_claim(
        draw,
        compare,
        few_seeds=few_seeds,
        controls=CONTROLS,
        id=id,
        title=title,
        statement=(
            r"\mathbb{E}\,\mathrm{err}(m_{\mathrm{uniform}})\ge\mathbb{E}\,\mathrm{err}(m_{\mathrm{"
            + rule
            + r"}}),\qquad \|m_{\mathrm{uniform}}\|_0=\|m_{\mathrm{"
            + rule
            + r"}}\|_0"
        ),
        sources=(Source("gadhikar2023random"),),
        note=(
            f"Test errors after {STEPS} steps, averaged over the densities {', '.join(map(str, DENSITIES))} (with what "
            "full layers cannot take given to the others, so that they are the realised ones), each with and without "
            "flow preservation. Where that adds fewer edges to one mask, it gets random ones to the count of the "
            f"other. The control has the entries of all layers shuffled together, which makes densities uniform.{note}"
        ),
    )


def masks_of_rules(instance: Seed, rule: Rule, key: Key) -> Mask:
    """Pairs of masks [2, densities, 2], uniform and by the rule: as they are drawn, and with their flow preserved.

    Args:
        instance: the seed.
        rule: for the densities of layers.
        key: for the masks.
    """
    order = prune.order_of_use(instance.apply, instance.params, instance.x[0][:1])
    options = {"least": 0, "order": order}
    uniform, by_rule = (
        stacked(*(prune.layer_counts(instance.params, density, name, **options) for density in DENSITIES))
        for name in ("uniform", rule)
    )
    shapes = tuple(leaf.shape for leaf in jax.tree.leaves(instance.params))

    def pair(key: Key, *counts: PyTree[Array]) -> Mask:
        draw_key, repair_key, fill_key = jax.random.split(key, 3)
        plain = jax.vmap(lambda counts: laws.ErdosRenyiCounts(counts, shapes).sample(draw_key))(stacked(*counts))
        repaired = jax.vmap(lottery.repair, (None, 0))(repair_key, plain)
        kept = jnp.array([leaf.reshape(2, -1).sum(axis=1) for leaf in jax.tree.leaves(repaired)]).sum(axis=0)
        return stacked(plain, jax.vmap(filled_up, (None, 0, None))(fill_key, repaired, kept.max()))

    return jax.vmap(pair, out_axes=1)(jax.random.split(key, len(DENSITIES)), uniform, by_rule)


def filled_up(key: Key, mask: Mask, keep: Array) -> Mask:
    """The mask with uniformly random entries of all layers added, up to ``keep`` of them.

    Args:
        key: for the entries.
        mask: a boolean mask.
        keep: how many entries there are in the end.
    """
    leaves, structure = jax.tree.flatten(mask)
    keys = jax.random.split(key, len(leaves))
    noise = [jax.random.uniform(key, leaf.shape, jnp.float32) for key, leaf in zip(keys, leaves, strict=True)]
    ranks = [jnp.where(leaf, 1 + draw, draw) for leaf, draw in zip(leaves, noise, strict=True)]
    return structure.unflatten(masks.keep_top(ranks, keep))


RATIOS_BALANCED = beats_uniform(
    "balanced",
    id="lottery/ratios-balanced",
    title="Random masks at balanced layer densities train better than at uniform ones, at high sparsity",
)
RATIOS_PYRAMIDAL = beats_uniform(
    "pyramidal",
    few_seeds=True,
    id="lottery/ratios-pyramidal",
    title="Random masks at pyramidal layer densities train better than at uniform ones, at high sparsity",
    note=" Pyramidal densities can leave the last layer without weights, and such a network predicts one class.",
)
