"""The best mask of a small model, found by chance, by local search and exactly, beside what a mask does on average."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from figures._config import Config, Scale
from figures._digits import PANELS, Panel, digits
from figures._style import BLUE, CYAN, GREEN, PURPLE, RED, WIDTH, Look, style
from sketchprune import laws, search, sketch
from sketchprune.search import subsets
from sketchprune.types import Key

NUM_PIXELS = 24
"""Pixels of the model: those with the largest norms."""
CLAIMS = ("sketch/existence", "sketch/second-moment")


class Work(NamedTuple):
    """What is done at a scale.

    Attributes:
        budgets: the numbers of weights that masks keep.
        num_masks: random masks that are tried.
    """

    budgets: tuple[int, ...]
    num_masks: int


DATA = "digits"
SETTINGS: dict[Scale, Work] = {
    "tiny": Work((4, 6), 2048),
    "small": Work((2, 3, 4, 6, 8, 10, 12), 10**6),
    "paper": Work((2, 3, 4, 6, 8, 10, 12), 10**8),
}
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

_BELOW_THE_LINE: Any = {"textcoords": "offset points", "ha": "right", "va": "top", "fontsize": "small"}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """Errors relative to ‖Xw‖², by budget.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    budgets, num_masks = config.settings(SETTINGS)
    arrays = {"budgets": np.array(budgets), "masks": np.array(num_masks)}
    for index, (name, panel) in enumerate(PANELS.items()):
        weight_key, *search_keys = jax.random.split(jax.random.fold_in(key, index), 1 + len(budgets))
        x, w = _model(panel, weight_key)
        errors = [
            _errors(x, w, budget, key=search_key, num_masks=num_masks)
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
    """The error of the best mask that keeps at most s of 24 weights, relative to ‖Xw‖², where the zero mask has 1.

    The existence theorem says that some mask is as good as a sketch is on average; the best of many random sketches
    shows it. Matching pursuit may use negative entries. With weights of one sign (right) no 0/1 mask is as good as the
    average reweighted one: the theorem needs reweighting there.
    """
    figure = Figure(figsize=(2 * WIDTH, 0.85 * WIDTH))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, panel) in zip(panels, PANELS.items(), strict=True):
        for quantity, look in LOOKS.items():
            errors = arrays[f"{name}_{quantity}"]
            axes.plot(arrays["budgets"], errors, color=look.colour, marker=look.marker, linestyle=look.line)
        axes.axhline(1, color="black", linewidth=0.5)
        axes.annotate("zero mask", (arrays["budgets"][-1], 1), (0, -1.5), **_BELOW_THE_LINE)
        axes.set(yscale="log", title=panel.title, xlabel=f"weights kept, of {NUM_PIXELS}")
        axes.set_xticks(arrays["budgets"], arrays["budgets"])
    panels[0].set_ylabel(r"$\Vert X(m\circ w)-Xw\Vert^2/\,\Vert Xw\Vert^2$")
    handles = [look.entry() for look in LOOKS.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure
