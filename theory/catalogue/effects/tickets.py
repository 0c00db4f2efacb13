"""Effects of starting inside a random mask: do methods that find masks need the weights that it has left out?"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune import laws, masks, prune, scores, train
from sketchprune.types import Key, Mask
from theory.catalogue.effects.seeds import (
    AS_PRUNED,
    STEPS,
    Chance,
    Seed,
    Trained,
    controlled_mask,
    controlled_weights,
    drawn,
    effect_claim,
    misclassified,
    stacked,
    train_mask,
    training_options,
)
from theory.claim import Claim, Sides, Source
from theory.staged import Drawn

SOURCE_DENSITY = 0.5
FINAL_DENSITY = 0.1
POPUP_DENSITY = 0.25
"""Of masks on weights that are not trained, which need more of them."""
MARGIN = 0.02
ROUNDS = 3
EVERY = 10
"""How many steps lie between two changes of a mask."""

Search = Callable[[Seed, Mask, Array, Key], train.Ticket]
"""From a seed, a source mask, the counts of all rounds, and a key."""
Schedule = Callable[[int, int], np.ndarray]
"""The counts of all rounds, from how many weights the source keeps and how many the ticket keeps."""
Again = Callable[[Seed, Chance, Mask], Trained]
"""What becomes of a mask that was found in a control."""


def starts_sparse(
    search: Search,
    schedule: Schedule,
    again: Again = train_mask,
    *,
    density: float = FINAL_DENSITY,
    few_seeds: bool = False,
    id: str,
    title: str,
    source: Source,
    note: str,
) -> Claim:
    """That a search inside an Erdős–Rényi mask matches the same search among all weights.

    Args:
        search: finds a mask, and a network that uses it.
        schedule: of its counts.
        again: what becomes of the masks in a control.
        density: of the masks that it finds.
        few_seeds: whether the quick tier measures it on few seeds.
        id: of the claim.
        title: of the claim.
        source: of the search.
        note: how the search goes, and what its controls are.
    """

    def draw(instance: Seed, key: Key) -> Drawn:
        source_key, search_key, again_key = jax.random.split(key, 3)
        params = instance.params
        dense = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)
        sparse = laws.ErdosRenyi.at_density(params, SOURCE_DENSITY).sample(source_key)
        sizes = prune.size(params), prune.count(params, SOURCE_DENSITY)
        keeps = jnp.array([schedule(size, prune.count(params, density)) for size in sizes])
        found = jax.vmap(lambda source, keeps: search(instance, source, keeps, search_key))(
            stacked(dense, sparse), keeps
        )
        errors = jax.vmap(lambda params: misclassified(instance, params))(found.params)
        return drawn(instance, found.mask, again_key, errors)

    def compare(instance: Seed, results: Trained, found: Float[Array, "2"]) -> dict[str, Sides]:
        errors = jnp.where(instance.control == AS_PRUNED, found, results.error)
        return {"claim": Sides(errors[0], errors[1])}

    return effect_claim(
        draw,
        compare,
        run=again,
        costly_draw=True,
        few_seeds=few_seeds,
        margin=MARGIN,
        id=id,
        title=title,
        statement=(
            r"\mathbb{E}\,\mathrm{err}\big(\mathrm{ER}(\rho_0)\to m\big)\le"
            r"\mathbb{E}\,\mathrm{err}\big(1\to m'\big)+0.02,\qquad \|m\|_0=\|m'\|_0"
        ),
        sources=(Source("gadhikar2023random"), source),
        note=(
            f"Test errors, of masks that keep {density} of the weights. The source keeps {SOURCE_DENSITY} of them "
            f"on average, at ERK densities. {note}"
        ),
    )


TRAINED_CONTROLS = (
    f"In the controls the masks that were found are trained from the start for {STEPS} steps, shuffled or from "
    "re-drawn weights."
)


# --- lottery/edge-popup


def _edge_popup(instance: Seed, source: Mask, keeps: Array, key: Key) -> train.Ticket:
    options = training_options(instance, key)
    return train.edge_popup(params=instance.params, steps=STEPS, keep=keeps[-1], mask=source, **options)


def _frozen(instance: Seed, chance: Chance, mask: Mask) -> Trained:
    """A mask, or what the control makes of it, on weights that are not trained."""
    mask = controlled_mask(instance, chance, mask)
    params = masks.apply(controlled_weights(instance), mask)
    return Trained(mask, params, params, jnp.zeros(0), misclassified(instance, params))


def _final_count(size: int, keep: int) -> np.ndarray:
    """One round."""
    del size
    return np.array([keep])


EDGE_POPUP = starts_sparse(
    _edge_popup,
    _final_count,
    _frozen,
    density=POPUP_DENSITY,
    id="lottery/edge-popup",
    title="Edge-popup inside a random mask finds masks of frozen weights as good as among all weights",
    source=Source("ramanujan2020hidden"),
    note=f"Scores are trained for {STEPS} steps. Weights are not trained, in the controls neither.",
)


# --- lottery/sparse-to-sparse-imp, lottery/sparse-to-sparse-gradual, lottery/sparse-to-sparse-rigl


def _iterative(instance: Seed, source: Mask, keeps: Array, key: Key) -> train.Ticket:
    options = training_options(instance, key)
    return train.iterative_magnitude(params=instance.params, steps=STEPS // 2, keeps=keeps, mask=source, **options)


def _gradual(instance: Seed, source: Mask, keeps: Array, key: Key) -> train.Ticket:
    options = training_options(instance, key) | {"keeps": keeps, "every": EVERY, "begin": EVERY, "mask": source}
    return train.gradual_magnitude(params=instance.params, steps=STEPS, **options)


def _rigl(instance: Seed, source: Mask, keeps: Array, key: Key) -> train.Ticket:
    del keeps
    start_key, key = jax.random.split(key)
    counts = prune.layer_counts(instance.params, FINAL_DENSITY, "erk")
    options = training_options(instance, key) | {"every": EVERY, "mask": source}
    start = prune.one_shot(scores.random, None, None, instance.params, None, counts, mask=source, key=start_key)
    return train.rigl(params=instance.params, steps=STEPS, start=start, **options)


SPARSE_TO_SPARSE_IMP = starts_sparse(
    _iterative,
    functools.partial(prune.exponential_schedule, rounds=ROUNDS),
    id="lottery/sparse-to-sparse-imp",
    title="Iterative magnitude pruning that starts from a random mask matches the one that starts dense",
    source=Source("frankle2019lottery"),
    note=f"{ROUNDS} rounds and a last training of {STEPS // 2} steps each, rewound to the start. {TRAINED_CONTROLS}",
)
SPARSE_TO_SPARSE_GRADUAL = starts_sparse(
    _gradual,
    functools.partial(prune.cubic_schedule, rounds=STEPS // 2 // EVERY),
    id="lottery/sparse-to-sparse-gradual",
    title="Gradual magnitude pruning that starts from a random mask matches the one that starts dense",
    source=Source("zhu2018prune"),
    note=f"{STEPS} steps, with {STEPS // 2 // EVERY} prunings on the cubic ramp, one every {EVERY}. {TRAINED_CONTROLS}",
)
SPARSE_TO_SPARSE_RIGL = starts_sparse(
    _rigl,
    _final_count,
    few_seeds=True,
    id="lottery/sparse-to-sparse-rigl",
    title="RigL that may grow the weights of a random mask matches RigL that may grow all weights",
    source=Source("evci2020rigl"),
    note=f"{STEPS} steps, with a change of the mask every {EVERY}. {TRAINED_CONTROLS}",
)
