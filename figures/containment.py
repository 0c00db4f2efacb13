"""How wide, or how dense, a random network must be to contain a target: exact, measured, and as the theory says."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.optimize import root_scalar

from figures._config import Config, Scale
from figures._style import BLUE, GREEN, PURPLE, RED, WIDTH, style
from sketchprune import lottery
from sketchprune.types import Key

NUM_INPUTS = 6
"""Inputs d of the target, one unit that uses all of them."""
DELTA = 0.05
"""The failure rate for which the theory gives its widths."""
DENSITIES = {0.2: BLUE, 0.4: GREEN, 0.8: PURPLE}
"""Densities of the left panel, of both layers of the source, and their colours."""
FIXED_WIDTH = 48
"""The width of the source in the right panel."""
MEASURED_DENSITIES = np.linspace(0.1, 0.9, 9)
CLAIMS = ("lottery/connectivity", "lottery/width-suffices", "lottery/width-necessary")
_WIDTHS = (6, 12, 24, 48, 96, 192, 384, 768)


class Work(NamedTuple):
    """What is done at a scale.

    Attributes:
        widths: widths that are measured, multiples of d.
        count: sources that are drawn for each point.
        curve: points of a curve over widths, of which those of equal width are one. Each is compiled anew.
    """

    widths: tuple[int, ...]
    count: int
    curve: int = 60


SETTINGS: dict[Scale, Work] = {
    "tiny": Work((6, 96), 256, curve=6),
    "small": Work(_WIDTHS, 4096),
    "paper": Work(_WIDTHS, 65536),
}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """Probabilities that all inputs are connected, and that the target is embedded, by width and by density.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    by_width, by_density = jax.random.split(key)
    widths, count, curve = config.settings(SETTINGS)
    curve_widths = NUM_INPUTS * np.unique(np.geomspace(1, 128, curve).round().astype(int))
    curve_densities = np.linspace(0.02, 0.98, 97)
    left = np.array(list(DENSITIES))
    measured = [
        _measured(jax.random.fold_in(by_width, width), left, width=width, count=count) for width in widths
    ]  # [widths, densities, 2]
    return {
        "masks": np.array(count),
        "widths": np.array(widths),
        "width_measured": np.array(measured),
        "curve_widths": curve_widths,
        "width_exact": np.array([[_exact(density, width) for density in left] for width in curve_widths]),
        "width_marks": np.array([[_necessary(density), _sufficient(density)] for density in left]),
        "densities": MEASURED_DENSITIES,
        "density_measured": _measured(by_density, MEASURED_DENSITIES, width=FIXED_WIDTH, count=count),
        "curve_densities": curve_densities,
        "density_exact": np.array([_exact(density, FIXED_WIDTH) for density in curve_densities]),
        "density_marks": np.array([_density_at(bound) for bound in (_necessary, _sufficient)]),
    }


def _exact(density: float, width: int) -> tuple[float, float]:
    """The chance that every input has a path to the output, and that some copy of every input has one."""
    connected = lottery.containment_probability(NUM_INPUTS, width, density, density)
    copies = width // NUM_INPUTS
    return float(connected), (1 - (1 - density**2) ** copies) ** NUM_INPUTS


def _necessary(density: float) -> float:
    """The width below which the target is contained with probability less than 1 − δ."""
    return float(lottery.necessary_width(NUM_INPUTS, density, DELTA))


def _sufficient(density: float) -> float:
    """The width from which on the target is embedded with probability at least 1 − δ."""
    return float(NUM_INPUTS * lottery.sufficient_copies([NUM_INPUTS], [density, density], DELTA)[0])


def _density_at(bound: Callable[[float], float]) -> float:
    """The density at which a bound on the width is the width of the right panel."""
    return float(root_scalar(lambda density: bound(density) - FIXED_WIDTH, bracket=(0.01, 0.99), xtol=1e-4).root)


@functools.partial(jax.jit, static_argnames=("width", "count"))
def _frequencies(key: Key, densities: Float[Array, " p"], *, width: int, count: int) -> Float[Array, "p 2"]:
    """How often all inputs are connected, and the target embedded, over random masks of both layers."""
    target = [lottery.Dense(jnp.ones((NUM_INPUTS, 1)), jnp.zeros(1))]

    def once(key: Key, density: Array) -> tuple[Array, Array]:
        first, second = jax.random.split(key)
        hidden = jax.random.bernoulli(first, density, (NUM_INPUTS, width))
        output = jax.random.bernoulli(second, density, (width, 1))
        connected = (hidden & output[:, 0]).any(axis=1).all()
        return connected, lottery.embed(target, [hidden, output]).complete

    keys = jax.random.split(key, (count, len(densities)))
    connected, embedded = jax.vmap(jax.vmap(once), (0, None))(keys, densities)
    return jnp.stack([connected.mean(axis=0), embedded.mean(axis=0)], axis=-1)


def _measured(key: Key, densities: np.ndarray, *, width: int, count: int) -> np.ndarray:
    """The frequencies, in NumPy."""
    return np.asarray(_frequencies(key, jnp.asarray(densities), width=width, count=count))


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """How often a random two-layer network contains a target unit of six inputs.

    Solid: every input has a path, which containment needs. Dashed: the construction finds the target, which suffices.
    Lines are exact, points are frequencies over random masks. Triangles mark the widths (left) and densities (right)
    that the theory says are necessary and sufficient at 1 − δ.
    """
    figure = Figure(figsize=(2 * WIDTH, 0.95 * WIDTH))
    left, right = figure.subplots(1, 2, sharey=True)
    for index, colour in enumerate(DENSITIES.values()):
        exact, measured = arrays["width_exact"][:, index], arrays["width_measured"][:, index]
        _curves(left, arrays["curve_widths"], exact, arrays["widths"], measured, colour)
        _marks(left, arrays["width_marks"][index], colour)
    _curves(
        right, arrays["curve_densities"], arrays["density_exact"], arrays["densities"], arrays["density_measured"], RED
    )
    _marks(right, arrays["density_marks"], RED)
    for axes in (left, right):
        axes.axhline(1 - DELTA, color="black", linewidth=0.5)
        axes.set_ylim(-0.02, 1.1)
    left.set(xscale="log", xlabel="width $n$ of the source", ylabel="probability")
    left.set_title("three densities $p$ of both layers")
    right.set(xlabel="density $p$ of both layers", title=f"width {FIXED_WIDTH}")
    figure.legend(handles=_legend(), loc="outside upper center", ncols=4)
    return figure


def _curves(axes: Axes, x: np.ndarray, exact: np.ndarray, at: np.ndarray, measured: np.ndarray, colour: str) -> None:
    """Both probabilities, exact as lines and measured as points."""
    for column, (line, marker) in enumerate((("-", "o"), ("--", "s"))):
        axes.plot(x, exact[:, column], color=colour, linestyle=line)
        axes.plot(at, measured[:, column], color=colour, marker=marker, linestyle="")


def _marks(axes: Axes, bounds: np.ndarray, colour: str) -> None:
    """Where the theory puts the necessary and the sufficient width, on the line of 1 − δ."""
    for bound, marker in zip(bounds, ("v", "^"), strict=True):
        axes.axvline(bound, color=colour, linewidth=0.6, linestyle=":")
        axes.plot(bound, 1.06, color=colour, marker=marker, markersize=4.5, markerfacecolor=colour, clip_on=False)


def _legend() -> list[Line2D]:
    """Quantities in black, and the colours of the densities."""
    densities = [Line2D([], [], color=colour, label=f"$p={density:g}$") for density, colour in DENSITIES.items()]
    kinds = [
        Line2D([], [], color="black", linestyle="-", marker="o", label="all inputs connected"),
        Line2D([], [], color="black", linestyle="--", marker="s", label="embedded"),
        Line2D([], [], color="black", linestyle="", marker="v", markerfacecolor="black", label="necessary width"),
        Line2D([], [], color="black", linestyle="", marker="^", markerfacecolor="black", label="sufficient width"),
        Line2D([], [], color="black", linewidth=0.5, label=rf"$1-\delta={1 - DELTA:g}$"),
    ]
    return [*kinds, *densities]
