"""The best mask of a small model: by chance, by local search, exactly, beside what a mask does on average."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from figures._config import Config
from figures._digits import PANELS, digits
from figures._style import BLUE, CYAN, GREEN, PURPLE, RED, WIDTH, Look, style
from sketchprune import laws, search, sketch
from sketchprune.search import subsets
from sketchprune.types import Key

ITEMS = 24
"""Pixels: those of the largest raw norms."""
BUDGETS = {"quick": np.array([6]), "standard": np.array([2, 3, 4, 6, 8, 10, 12])}
MASKS = {"quick": 2048, "standard": 10**6}
MAX_NODES = 20_000


LOOKS = {
    "expectation": Look("expectation of a sketch", BLUE, "", "-"),
    "sketch": Look("best of many sketches", BLUE, "o", ":"),
    "reweighted": Look(r"best mask $\geq 0$, exactly", GREEN, "s", "--"),
    "pursuit": Look("matching pursuit", CYAN, "v", ":"),
    "binary": Look("best 0/1 mask, exactly", PURPLE, "D", "--"),
    "local": Look("0/1 masks: local search", RED, "^", ":"),
}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """Errors relative to ‖Xw‖², by budget."""
    budgets = BUDGETS[config.tier]
    arrays = {"budgets": budgets, "masks": np.array(MASKS[config.tier])}
    columns = np.argsort(-np.linalg.norm(digits("raw")[0], axis=0), kind="stable")[:ITEMS]
    for index, (name, panel) in enumerate(PANELS.items()):
        weight_key, *keys = jax.random.split(jax.random.fold_in(key, index), 1 + len(budgets))
        x = jnp.asarray(np.linalg.qr(digits(panel.pixels)[0][:, columns], mode="r"))
        w = jax.random.normal(weight_key, (ITEMS,))
        w = w if panel.signed else abs(w)
        rows = [_errors(x, w, int(budget), key, MASKS[config.tier]) for budget, key in zip(budgets, keys, strict=True)]
        size = float(jnp.sum((x @ w) ** 2))
        arrays |= {f"{name}_{quantity}": np.array([row[quantity] for row in rows]) / size for quantity in LOOKS}
    return arrays


def _errors(x: Any, w: Any, budget: int, key: Key, count: int) -> dict[str, float]:
    """The errors of all that is drawn, at one budget."""
    p = sketch.optimal_probabilities(x, w)
    law = laws.Multinomial(p.astype(jnp.float32), budget)
    objective = search.linear_error(x.astype(jnp.float32), w.astype(jnp.float32))
    optima = {
        name: subsets.optimum(x, w, budget, reweight=name == "reweighted", max_nodes=MAX_NODES)
        for name in ("reweighted", "binary")
    }
    if any(optimum.gap for optimum in optima.values()):
        raise ValueError(f"max_nodes is {MAX_NODES}, too small for the proof of what is drawn as exact")
    return {name: optimum.error for name, optimum in optima.items()} | {
        "expectation": float(laws.Multinomial(p, budget).error(sketch.linear_items(x, w))),
        "sketch": float(search.best(objective, law, count, key=key, num_best=1).values[0]),
        "pursuit": float(subsets.orthogonal_matching_pursuit(x, w, budget)[1]),
        "local": float(subsets.local_search(x, w, budget, key=key)[1]),
    }


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Masks that keep at most s of 24 weights; matching pursuit may use negative entries."""
    figure = Figure(figsize=(2 * WIDTH, 0.85 * WIDTH))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, panel) in zip(panels, PANELS.items(), strict=True):
        for quantity, look in LOOKS.items():
            values = arrays[f"{name}_{quantity}"]
            axes.plot(arrays["budgets"], values, color=look.colour, marker=look.marker, linestyle=look.line)
        axes.axhline(1, color="black", linewidth=0.5)
        axes.set(yscale="log", title=panel.title, xlabel=f"weights kept, of {ITEMS}")
        axes.set_xticks(arrays["budgets"], arrays["budgets"])
    panels[0].set_ylabel(r"$\Vert X(m\circ w)-Xw\Vert^2/\,\Vert Xw\Vert^2$")
    handles = [look.entry() for look in LOOKS.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure
