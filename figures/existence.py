"""The best mask of a small model, found by chance, by local search and exactly, beside what a mask does on average."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from figures._config import Config
from figures._digits import PANELS, Panel, digits
from figures._style import BLUE, CYAN, GREEN, PURPLE, RED, WIDTH, Look, style
from sketchprune import laws, search, sketch
from sketchprune.search import subsets
from sketchprune.types import Key

NUM_PIXELS = 24
"""Pixels of the model: those with the largest norms."""
BUDGETS = {"quick": np.array([6]), "standard": np.array([2, 3, 4, 6, 8, 10, 12])}
"""Tier -> the numbers of weights that masks keep."""
NUM_MASKS = {"quick": 2048, "standard": 10**6}
"""Tier -> random masks that are tried."""
MAX_NODES = 20_000
"""Nodes within which branch and bound has to prove an optimum."""
LOOKS = {
    "expectation": Look("expectation of a sketch", BLUE, "", "-"),
    "sketch": Look("best of many sketches", BLUE, "o", ":"),
    "reweighted": Look(r"best mask $\geq 0$, exactly", GREEN, "s", "--"),
    "pursuit": Look("matching pursuit", CYAN, "v", ":"),
    "binary": Look("best 0/1 mask, exactly", PURPLE, "D", "--"),
    "local": Look("0/1 masks: local search", RED, "^", ":"),
}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """Errors relative to ‖Xw‖², by budget.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    budgets = BUDGETS[config.tier]
    num_masks = NUM_MASKS[config.tier]
    arrays = {"budgets": budgets, "masks": np.array(num_masks)}
    for index, (name, panel) in enumerate(PANELS.items()):
        weight_key, *search_keys = jax.random.split(jax.random.fold_in(key, index), 1 + len(budgets))
        x, w = _model(panel, weight_key)
        errors = [
            _errors(x, w, int(budget), key=search_key, num_masks=num_masks)
            for budget, search_key in zip(budgets, search_keys, strict=True)
        ]
        size = float(jnp.sum((x @ w) ** 2))
        arrays |= {f"{name}_{quantity}": np.array([row[quantity] for row in errors]) / size for quantity in LOOKS}
    return arrays


def _model(panel: Panel, key: Key) -> tuple[Float[Array, "d d"], Float[Array, " d"]]:
    """The pixels with the largest raw norms, as the triangular factor of a QR decomposition, and weights of them."""
    norms = np.linalg.norm(digits("raw")[0], axis=0)
    columns = np.argsort(-norms, kind="stable")[:NUM_PIXELS]
    x = jnp.asarray(np.linalg.qr(digits(panel.pixels)[0][:, columns], mode="r"))
    w = jax.random.normal(key, (NUM_PIXELS,))
    return x, w if panel.signed else abs(w)


def _errors(
    x: Float[Array, "n d"], w: Float[Array, " d"], budget: int, *, key: Key, num_masks: int
) -> dict[str, float]:
    """The error of each quantity that is drawn, at one budget."""
    optima = {
        name: subsets.optimum(x, w, budget, reweight=name == "reweighted", max_nodes=MAX_NODES)
        for name in ("reweighted", "binary")
    }
    if any(optimum.gap for optimum in optima.values()):
        raise ValueError(f"max_nodes is {MAX_NODES}; it takes a number large enough to prove what is drawn as exact")
    probabilities = sketch.optimal_probabilities(x, w)
    objective = search.linear_error(x.astype(jnp.float32), w.astype(jnp.float32))
    law = laws.Multinomial(probabilities.astype(jnp.float32), budget)
    return {
        "expectation": float(laws.Multinomial(probabilities, budget).error(sketch.linear_items(x, w))),
        "sketch": float(search.best(objective, law, num_masks, key=key, num_best=1).values[0]),
        "reweighted": optima["reweighted"].error,
        "pursuit": float(subsets.orthogonal_matching_pursuit(x, w, budget)[1]),
        "binary": optima["binary"].error,
        "local": float(subsets.local_search(x, w, budget, key=key)[1]),
    }


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Masks that keep at most s of 24 weights. Matching pursuit may use negative entries."""
    figure = Figure(figsize=(2 * WIDTH, 0.85 * WIDTH))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, panel) in zip(panels, PANELS.items(), strict=True):
        for quantity, look in LOOKS.items():
            errors = arrays[f"{name}_{quantity}"]
            axes.plot(arrays["budgets"], errors, color=look.colour, marker=look.marker, linestyle=look.line)
        axes.axhline(1, color="black", linewidth=0.5)  # the zero mask
        axes.set(yscale="log", title=panel.title, xlabel=f"weights kept, of {NUM_PIXELS}")
        axes.set_xticks(arrays["budgets"], arrays["budgets"])
    panels[0].set_ylabel(r"$\Vert X(m\circ w)-Xw\Vert^2/\,\Vert Xw\Vert^2$")
    handles = [look.entry() for look in LOOKS.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure
