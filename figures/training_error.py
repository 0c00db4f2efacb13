"""The error that is left after training what a mask keeps, against how much it keeps, beside three bounds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float
from matplotlib.figure import Figure
from scipy.optimize import brentq

from figures._config import Config, Scale
from figures._digits import mostly_optimal, with_unit_targets
from figures._style import BLUE, GREEN, PURPLE, RED, WIDTH, Look, style
from sketchprune import laws, linalg, masks, sketch
from sketchprune.types import Key, Mask
from theory.catalogue.sketch.training import trained_error

BUDGETS = np.array([2, 3, 4, 6, 9, 14, 20, 30, 45, 64, 96, 128, 192, 256])
"""Draws of a multinomial mask where its bounds are drawn."""
SIZES = np.arange(2, 61, 2)
"""Weights kept on average by other masks where their bounds are drawn."""
TRAINED = {
    "multinomial": BUDGETS[1::2],
    "poisson": np.array([4, 9, 16, 26, 32, 41, 51]),
    "determinantal": np.array([2, 7, 14, 20, 30, 39, 58]),
    "top": np.array([10, 18, 24, 28, 34, 44, 54]),
}
"""Draws (multinomial) or weights kept on average (others) where masks are trained, side by side in the figure."""
CLAIMS = ("sketch/training-error", "sketch/training-error-ridge", "sketch/dpp-training-error")
DATA = "digits"
SETTINGS: dict[Scale, int] = {"tiny": 4, "small": 32, "paper": 256}
"""Scale -> masks for each of the ten classes."""
LOOKS = {
    "multinomial": Look("multinomial, ridge bound", BLUE, "o", "-"),
    "poisson": Look("poisson, ridge bound", RED, "s", "--"),
    "determinantal": Look("determinantal, equality", GREEN, "^", "-."),
    "top": Look("top-$|w_0|$", PURPLE, "D", "none"),
}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """The theory's ‖Xu − y‖²/‖y‖² by weights kept, and its mean over trained masks with a standard error.

    All are averages over the ten classes. Each class is told from the rest, with Gaussian initial weights w₀ of its
    own. The probabilities of multinomial and poisson masks are nine parts p*(w₀) and one part uniform.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    x, y = with_unit_targets()
    weight_key, mask_key = jax.random.split(key)
    start, probabilities = _start(weight_key, x, num_classes=len(y))
    arrays = jax.device_get(_theory(x, y, start, probabilities, _ridges(x, SIZES)))
    points = TRAINED | {"determinantal": _ridges(x, TRAINED["determinantal"])}
    for index, (name, settings) in enumerate(points.items()):
        shape = (len(settings), len(y), config.settings(SETTINGS))
        keys = jax.random.split(jax.random.fold_in(mask_key, index), shape)
        # Through NumPy, so that the masks of every law have one layout and one program trains them all.
        kept = np.asarray(_drawn(keys, settings, x, probabilities, start, name=name))
        errors = np.asarray(_trained(x, y, kept))
        arrays[f"{name}_trained"] = TRAINED[name]
        arrays[f"{name}_mean"] = errors.mean(axis=(1, 2))
        arrays[f"{name}_error"] = np.sqrt(errors.var(axis=2, ddof=1).sum(axis=1) / errors.shape[2]) / len(y)
    # The horizontal axis is weights kept, and what is known of multinomial masks is their draws.
    arrays["multinomial_trained"] = np.interp(TRAINED["multinomial"], BUDGETS, arrays["multinomial_kept"])
    return arrays


@functools.partial(jax.jit, static_argnames="num_classes")
def _start(key: Key, x: Float[Array, "n d"], *, num_classes: int) -> tuple[Float[Array, "k d"], Float[Array, "k d"]]:
    """Initial weights, and the probabilities that they give."""
    start = jax.random.normal(key, (num_classes, x.shape[1]))
    return start, jax.vmap(mostly_optimal, (None, 0))(x, start)


def _ridges(x: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The ridge τ at which a determinantal mask keeps a given number of weights on average."""
    size = jax.jit(laws.effective_dimension)
    return np.array([brentq(lambda tau, wanted=wanted: size(x, tau) - wanted, 1e-6, 1e9) for wanted in sizes])


def _multinomial(key: Key, budget: Array, x: Array, probabilities: Array, start: Array) -> Mask:
    return laws.Multinomial(probabilities, budget, max_budget=int(BUDGETS.max())).sample(key)


def _poisson(key: Key, size: Array, x: Array, probabilities: Array, start: Array) -> Mask:
    return laws.Poisson.proportional(probabilities, size).sample(key)


def _determinantal(key: Key, tau: Array, x: Array, probabilities: Array, start: Array) -> Mask:
    return laws.Determinantal.ridge(x, tau).sample(key)


def _top(key: Key, size: Array, x: Array, probabilities: Array, start: Array) -> Mask:
    return masks.keep_top(abs(start), size)


_SAMPLERS = {"multinomial": _multinomial, "poisson": _poisson, "determinantal": _determinantal, "top": _top}
"""Name -> how a mask is drawn, given what says how much it keeps."""


@functools.partial(jax.jit, static_argnames="name")
def _drawn(
    keys: Key, points: Array, x: Array, probabilities: Array, start: Array, *, name: str
) -> Bool[Array, "points k masks d"]:
    """What masks keep, for each point, class and key."""

    def kept(key: Key, point: Array, probabilities: Array, start: Array) -> Array:
        return _SAMPLERS[name](key, point, x, probabilities, start) != 0

    over_keys = jax.vmap(kept, (0, None, None, None))
    over_classes = jax.vmap(over_keys, (0, None, 0, 0))
    return jax.vmap(over_classes, (0, 0, None, None))(keys, points, probabilities, start)


@jax.jit
def _trained(
    x: Float[Array, "n d"], y: Float[Array, "k n"], kept: Bool[Array, "points k masks d"]
) -> Float[Array, "points k masks"]:
    """‖Xu − y‖² after training what each mask keeps."""

    def one(y: Array, kept: Array) -> Array:
        return trained_error(x, y, kept.astype(x.dtype))

    return lax.map(lambda kept: jax.vmap(jax.vmap(one, (None, 0)))(y, kept), kept)


@jax.jit
def _theory(x: Array, y: Array, start: Array, probabilities: Array, taus: Array) -> dict[str, Array]:
    """The bounds and the equality, and the weights kept at each of their points."""

    def one_class(y: Array, start: Array, probabilities: Array) -> dict[str, Array]:
        end = linalg.limit(x, y, start)
        dense = jnp.sum((x @ end - y) ** 2)
        items = sketch.linear_items(x, end)

        def multinomial(budget: Array) -> tuple[Array, Array]:
            law = laws.Multinomial(probabilities, budget)
            return law.training_bound(x, y), law.error(items) + dense

        def poisson(size: Array) -> Array:
            return laws.Poisson.proportional(probabilities, size).training_bound(x, y)

        ridge, transfer = jax.vmap(multinomial)(jnp.asarray(BUDGETS))
        return {
            "dense": dense,
            "multinomial_transfer": transfer,
            "multinomial_theory": ridge,
            "poisson_theory": lax.map(poisson, jnp.asarray(SIZES)),
            "determinantal_theory": jax.vmap(lambda tau: laws.Determinantal.ridge(x, tau).training_bound(x, y))(taus),
        }

    means = jax.tree.map(lambda values: values.mean(axis=0), jax.vmap(one_class)(y, start, probabilities))
    return {
        **means,
        "multinomial_kept": jnp.sum(1 - (1 - probabilities) ** BUDGETS[:, None, None], axis=2).mean(axis=1),
        "poisson_kept": jnp.asarray(SIZES),
        "determinantal_kept": jnp.asarray(SIZES),
    }


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """The error of a linear model of the digits that is trained on what a random mask keeps, averaged over ten classes.

    Lines are the theory, points are means over trained masks with 95 % intervals. The upper panel shows the multinomial
    training-error bound, which is much larger, on a logarithmic scale.
    """
    figure = Figure(figsize=(WIDTH, WIDTH))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.2))
    above.plot(arrays["multinomial_kept"], arrays["multinomial_transfer"], ":", color=BLUE)
    above.annotate("multinomial, training-error bound", (12, 8), color=BLUE, fontsize="small")
    for name, look in LOOKS.items():
        if name != "top":
            for axes in (above, below):
                axes.plot(arrays[f"{name}_kept"], arrays[f"{name}_theory"], color=look.colour, linestyle=look.line)
        interval = 1.96 * arrays[f"{name}_error"]
        below.errorbar(arrays[f"{name}_trained"], arrays[f"{name}_mean"], interval, fmt=look.marker, color=look.colour)
    for axes in (above, below):
        axes.axhline(1, color="black", linewidth=0.5)
        axes.axhline(arrays["dense"], color="black", linewidth=0.5, linestyle=(0, (4, 3)))
    offset = {"textcoords": "offset points", "fontsize": "small"}
    below.annotate("zero mask", (64, 1), (-2, 2), ha="right", **offset)
    below.annotate("dense", (0, arrays["dense"]), (2, 2), **offset)
    above.set(yscale="log")
    below.set(xlabel="weights kept (of 64), on average", ylim=(0.3, 1.07), xlim=(0, 64))
    below.set_xticks(range(0, 65, 8))
    figure.supylabel(r"$\mathbb{E}\,\Vert Xu_\infty-y\Vert^2/\,\Vert y\Vert^2$", fontsize="medium")
    handles = [look.entry() for look in LOOKS.values()]
    below.legend(handles=handles, loc="upper right", bbox_to_anchor=(1, 0.93))
    return figure
