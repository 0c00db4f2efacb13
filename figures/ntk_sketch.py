"""How well a random mask sketches the tangent kernel of a network, and how far training with the sketch strays."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures._config import Config, Scale
from figures._intervals import mean_interval
from figures._style import BLUE, GREEN, GREY, RED, WIDTH, Look, style
from sketchprune import data as datasets
from sketchprune import laws, models, sketch
from sketchprune.kernels import linearised
from sketchprune.types import Key

CLAIMS = ("tangent/sketch-moment", "tangent/trajectory")


class Work(NamedTuple):
    """What is done at a scale.

    Attributes:
        seeds: networks, each with initial weights and samples of its own.
        width: of both hidden layers.
        samples: samples of a kernel.
        masks: masks for each network and point.
    """

    seeds: int
    width: int
    samples: int
    masks: int


SETTINGS: dict[Scale, Work] = {
    "tiny": Work(2, 16, 6, 8),
    "small": Work(5, 32, 10, 64),
    "paper": Work(20, 512, 64, 256),
}
SHARES = np.geomspace(1 / 64, 4, 9)
"""Draws of a mask, as a share of the number of weights."""
TRAINED = {0.25: RED, 1.0: GREEN, 4.0: BLUE}
"""Draws, as a share of the number of weights, of the masks that train, and their colours."""
STEPS = np.unique(np.geomspace(1, 2000, 40).round().astype(int))
"""Steps of gradient descent after which outputs are compared."""
LOOKS = {
    "optimal": Look(r"$p^{\mathrm{*}}\propto\Vert J_i\Vert^2$", BLUE, "o", "-"),
    "weights": Look(r"$p\propto|w_i|$", RED, "s", "--"),
    "uniform": Look("$p$ uniform", GREEN, "^", "-."),
}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """Kernel errors and distances of outputs, each a mean over networks with half the width of its 95 % interval.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    work = config.settings(SETTINGS)
    found = [
        config.part(f"network {seed}", functools.partial(_network, config, jax.random.fold_in(key, seed), work))
        for seed in range(work.seeds)
    ]
    arrays = {"shares": SHARES, "steps": STEPS, "masks": np.array(work.masks), "networks": np.array(work.seeds)}
    for name in found[0]:
        mean, half = mean_interval(np.stack([numbers[name] for numbers in found]))
        arrays |= {f"{name}_mean": mean, f"{name}_half": half}
    return arrays


def _network(config: Config, key: Key, work: Work) -> dict[str, Array]:
    """The numbers of one network on some samples."""
    sample_key, weight_key, mask_key = jax.random.split(key, 3)
    chosen = jax.random.choice(sample_key, len(config.data.x), (work.samples,), replace=False)
    x = datasets.standardise(config.data.x)[chosen]
    y = datasets.one_hot(config.data.y, config.data.num_classes)[chosen]
    model = models.mlp(work.width, work.width, config.data.num_classes, bias=False, ntk=True)
    apply, params = models.initial(model, weight_key, x)
    leaves = jax.tree.leaves(jax.jacrev(apply)(params, x))
    jacobian = jnp.concatenate([leaf.reshape(y.size, -1) for leaf in leaves], axis=1)
    flat = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])
    return _numbers(mask_key, jacobian, flat, apply(params, x) - y, masks=work.masks)


@functools.partial(jax.jit, static_argnames="masks")
def _numbers(
    key: Key, jacobian: Float[Array, "N P"], w: Float[Array, " P"], residual: Float[Array, "n k"], *, masks: int
) -> dict[str, Array]:
    """The theory's and the measured errors of kernels, and what they do to training."""
    error_key, train_key = jax.random.split(key)
    sizes = jnp.sum(jacobian**2, axis=0)
    budgets = jnp.round(jnp.asarray(SHARES) * sizes.size).astype(int)
    optimal = sizes / sizes.sum()
    by_law = {"optimal": optimal, "weights": abs(w) / abs(w).sum(), "uniform": jnp.full_like(w, 1 / w.size)}
    most = int(round(float(SHARES.max()) * sizes.size))
    kernel = jacobian @ jacobian.T
    items = sketch.tangent_items(jacobian)
    numbers = {}
    for index, (name, p) in enumerate(by_law.items()):
        theory = jnp.stack([laws.Multinomial(p, budget).error(items) for budget in budgets])
        measured = _kernel_errors(jax.random.fold_in(error_key, index), jacobian, kernel, p, budgets, masks, most)
        numbers |= {f"{name}_theory": theory / jnp.sum(kernel**2), f"{name}_measured": measured}
    for index, share in enumerate(TRAINED):
        law = laws.Multinomial(optimal, int(round(share * sizes.size)), max_budget=most)
        drawn = jax.vmap(law.sample)(jax.random.split(jax.random.fold_in(train_key, index), masks))
        distance, bound = lax.map(functools.partial(_strays, jacobian, kernel, residual.ravel()), drawn)
        numbers |= {f"distance_{index}": distance.mean(axis=0), f"bound_{index}": bound.mean(axis=0)}
    return numbers


def _kernel_errors(
    key: Key,
    jacobian: Float[Array, "N P"],
    kernel: Float[Array, "N N"],
    p: Float[Array, " P"],
    budgets: Int[Array, " s"],
    masks: int,
    most: int,
) -> Float[Array, " s"]:
    """The mean of ‖Θ̂ − Θ‖²_F/‖Θ‖²_F over masks, for each budget."""

    def error(keyed: tuple[Key, Array]) -> Array:
        key, budget = keyed
        mask = laws.Multinomial(p, budget, max_budget=most).sample(key)
        return jnp.sum(((jacobian * (mask - 1)) @ jacobian.T) ** 2)

    def at(keyed: tuple[Key, Array]) -> Array:
        key, budget = keyed
        return lax.map(lambda key: error((key, budget)), jax.random.split(key, masks)).mean()

    return lax.map(at, (jax.random.split(key, len(budgets)), budgets)) / jnp.sum(kernel**2)


def _strays(
    jacobian: Float[Array, "N P"], kernel: Float[Array, "N N"], residual: Float[Array, " N"], mask: Float[Array, " P"]
) -> tuple[Float[Array, " t"], Float[Array, " t"]]:
    """‖f_t − f̂_t‖/‖f_0 − y‖ and its bound, for descent on the linearised network with either kernel."""
    sketched = (jacobian * mask) @ jacobian.T
    spectra = jnp.stack([jnp.linalg.eigvalsh(kernel), jnp.linalg.eigvalsh(sketched)])
    step, least = 1 / spectra.max(), jnp.maximum(spectra.min(), 0)
    steps = jnp.asarray(STEPS)
    dense, pruned = (
        linearised.descent(theta, residual, jnp.zeros_like(residual), step, steps) for theta in (kernel, sketched)
    )
    apart = jnp.max(abs(jnp.linalg.eigvalsh(sketched - kernel)))
    bound = step * steps * (1 - step * least) ** (steps - 1) * apart
    return jnp.linalg.norm(dense - pruned, axis=1) / jnp.linalg.norm(residual), bound


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Left: the error of the tangent kernel of a masked network, exact (lines) and over random masks (points).

    Right: how far gradient descent with the masked kernel is from descent with the dense one, relative to the first
    residual (solid), and the bound (dashed), for masks drawn from p* with three numbers of draws. Outputs differ by 2
    at most (black), and the bound soon exceeds that. Both: networks with two hidden layers in the NTK parameterisation;
    means over networks with 95 % intervals.
    """
    figure = Figure(figsize=(2 * WIDTH, 0.8 * WIDTH))
    left, right = figure.subplots(1, 2)
    for name, look in LOOKS.items():
        left.plot(arrays["shares"], arrays[f"{name}_theory_mean"], color=look.colour, linestyle=look.line)
        interval = arrays[f"{name}_measured_half"]
        left.errorbar(arrays["shares"], arrays[f"{name}_measured_mean"], interval, fmt=look.marker, color=look.colour)
    left.axhline(1, color="black", linewidth=0.5)
    left.annotate("zero mask", (4, 1), (0, 1.5), textcoords="offset points", ha="right", fontsize="small")
    left.set(xscale="log", yscale="log", xlabel="draws $s$ / number of weights")
    left.set_ylabel(r"$\mathbb{E}\,\Vert\hat\Theta-\Theta\Vert_F^2/\,\Vert\Theta\Vert_F^2$")
    _draw_distances(right, arrays)
    shares = [Line2D([], [], color=colour, label=f"$s={share:g}\\,P$") for share, colour in TRAINED.items()]
    bound = Line2D([], [], color=GREY, linestyle="--", label="bound (right)")
    laws_drawn = [look.entry() for look in LOOKS.values()]
    figure.legend(handles=[*laws_drawn, *shares, bound], loc="outside upper center", ncols=7, columnspacing=1.0)
    return figure


def _draw_distances(axes: Axes, arrays: dict[str, np.ndarray]) -> None:
    """The distances of outputs during training, with their bounds."""
    for index, colour in enumerate(TRAINED.values()):
        mean, interval = arrays[f"distance_{index}_mean"], arrays[f"distance_{index}_half"]
        axes.fill_between(arrays["steps"], mean - interval, mean + interval, color=colour, alpha=0.2, linewidth=0)
        axes.plot(arrays["steps"], mean, color=colour)
        axes.plot(arrays["steps"], arrays[f"bound_{index}_mean"], color=colour, linestyle="--")
    axes.axhline(2, color="black", linewidth=0.5)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="steps $t$ of size $1/\\lambda_{\\max}$",
        ylim=(arrays["distance_2_mean"].min() / 2, 4),
    )
    axes.set_ylabel(r"$\Vert f_t-\hat f_t\Vert/\,\Vert f_0-y\Vert$")
