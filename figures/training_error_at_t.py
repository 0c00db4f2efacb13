"""The training error of a pruned linear model at every step of gradient descent, beside its bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from figures._config import Config, Scale
from figures._digits import mostly_optimal, with_unit_targets
from figures._style import BLUE, GREEN, RED, WIDTH, Look, style
from sketchprune import laws, train
from sketchprune.types import Key
from theory.catalogue.squares import squared, stepped_half_squares, with_step

BUDGETS = np.array([8, 32, 128])
"""Draws of a multinomial mask."""
STEPS = 1_000
TIMES = np.unique(np.concatenate([[0], np.geomspace(1, STEPS, 22).round().astype(int)]))
"""Steps after which the error is drawn."""
OPTIMIZER = optax.sgd(1.0)
CLAIMS = ("sketch/training-error-at-t", "sketch/training-error-ridge")
DATA = "digits"
SETTINGS: dict[Scale, int] = {"tiny": 2, "small": 8, "paper": 64}
"""Scale -> masks for each of the ten classes."""
COLOURS = (RED, GREEN, BLUE)
MARKERS = "so^"


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """‖Xu_t − y‖²/‖y‖² after each of TIMES, and two bounds on it, for each of BUDGETS.

    All are averages over the ten classes and over masks, each trained by optax's gradient descent with the step size
    η = 1/λ_max(K_S). Initial weights are Gaussian with E‖Xw₀‖² = ‖y‖². The probabilities are nine parts p*(w₀) and one
    part uniform.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    x, y = with_unit_targets()
    weight_key, mask_key = jax.random.split(key)
    start = jax.random.normal(weight_key, (len(y), x.shape[1])) / np.linalg.norm(x)
    keys = jax.random.split(mask_key, (len(BUDGETS), len(y), config.settings(SETTINGS)))
    found = jax.device_get(_followed(keys, jnp.asarray(BUDGETS), x, y, start))
    error, masks = found["error"], keys.shape[-1]
    return {
        "budgets": BUDGETS,
        "times": TIMES,
        "kept": found["kept"].mean(axis=(1, 2)),
        "error": error.mean(axis=(1, 2)),
        "error_error": np.sqrt(error.var(axis=2, ddof=1).sum(axis=1) / masks) / len(y),
        "bound": found["bound"].mean(axis=(1, 2)),
        "ridge_bound": found["ridge_bound"].mean(axis=(1, 2)),
        "at_the_end": found["at_the_end"].mean(axis=(1, 2)),
    }


@jax.jit
def _followed(
    keys: Key, budgets: Array, x: Float[Array, "r d"], y: Float[Array, "k r"], start: Float[Array, "k d"]
) -> dict[str, Array]:
    """For each budget, class and key: what a mask keeps, its error along training and at its end, and the bounds."""

    def one(key: Key, budget: Array, y: Array, start: Array) -> dict[str, Array]:
        law = laws.Multinomial(mostly_optimal(x, start), budget, max_budget=int(BUDGETS.max()))
        kept = law.sample(key) != 0
        limit, fades = _bound(x * kept, y, start)
        return {
            "kept": kept.sum(),
            "error": _trained(x * kept, y, start),
            "bound": limit + fades,
            "ridge_bound": law.training_bound(x, y) + fades,
            "at_the_end": limit,
        }

    over_keys = jax.vmap(one, (0, None, None, None))
    over_classes = jax.vmap(over_keys, (0, None, 0, 0))
    return jax.vmap(over_classes, (0, 0, None, None))(keys, budgets, y, start)


def _trained(x: Float[Array, "r d"], y: Float[Array, " r"], start: Float[Array, " d"]) -> Float[Array, " times"]:
    """The error after each of TIMES: gradients of pruned columns, which are zero, leave their weights alone."""
    step = 1 / jnp.linalg.eigvalsh(x.T @ x)[-1]
    data = x, with_step(y, step)
    _, losses = train.fit(_predict, stepped_half_squares, start, data, OPTIMIZER, STEPS + 1)
    return 2 * losses[TIMES] / step


def _predict(params: Float[Array, " d"], x: Float[Array, "r d"]) -> Float[Array, " r"]:
    """Xw, with the arguments in the order that training takes."""
    return x @ params


def _bound(
    x: Float[Array, "r d"], y: Float[Array, " r"], start: Float[Array, " d"]
) -> tuple[Float[Array, ""], Float[Array, " times"]]:
    """‖Xu_∞ − y‖², and e^(−2ηλ⁺t) ‖P_S(Xu_0 − y)‖² after each of TIMES."""
    values, vectors = jnp.linalg.eigh(x @ x.T)
    alive = values > len(values) * jnp.finfo(x.dtype).eps * values[-1]
    rate = jnp.min(jnp.where(alive, values, values[-1])) / values[-1]
    along = vectors.T @ (x @ start - y)
    fades = jnp.exp(-2 * rate * TIMES) * squared(jnp.where(alive, along, 0))
    return squared(jnp.where(alive, 0, along)), fades


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """The error of a linear model of the digits along gradient descent on what a multinomial mask keeps.

    Points are means over trained masks and the ten classes with 95 % intervals. Solid lines are the bound at step t:
    the error where training ends, and what is left of the way there if all of it shrank as slowly as the least non-zero
    eigenvalue lets it. Dashed lines put the ridge bound, which knows only the law of the mask, in the place of the end.
    Dotted lines are the ends. Training comes close to its end about ten times sooner than the bound does.
    """
    figure = Figure(figsize=(WIDTH, 0.85 * WIDTH))
    axes = figure.subplots()
    times = arrays["times"]
    for index, (colour, marker) in enumerate(zip(COLOURS, MARKERS, strict=True)):
        axes.plot(times, arrays["bound"][index], color=colour)
        axes.plot(times, arrays["ridge_bound"][index], "--", color=colour)
        axes.axhline(arrays["at_the_end"][index], color=colour, linestyle=":", linewidth=0.8)
        interval = 1.96 * arrays["error_error"][index]
        points = axes.errorbar(times, arrays["error"][index], interval, fmt=marker, color=colour)
        for artist in (points.lines[0], *points.lines[1], *points.lines[2]):
            artist.set_clip_on(False)  # the first points are on the axis
    axes.set_xscale("symlog", linthresh=1)
    axes.set(xlabel="gradient step $t$", ylabel=r"$\mathbb{E}\,\Vert Xu_t-y\Vert^2/\,\Vert y\Vert^2$", xlim=(0, STEPS))
    entries = [
        Look(f"{kept:.0f} of 64 weights kept", colour, marker, "none").entry()
        for kept, colour, marker in zip(arrays["kept"], COLOURS, MARKERS, strict=True)
    ]
    lines = {"bound at step $t$": "-", "with the ridge bound": "--", "where training ends": ":"}
    entries += [Look(label, "black", "none", line).entry() for label, line in lines.items()]
    axes.legend(handles=entries)
    return figure
