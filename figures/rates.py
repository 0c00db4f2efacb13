"""How fast wide networks approach their limits: linear training, and the infinite-width kernel."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures._config import Config, Scale
from figures._style import BLUE, GREEN, RED, WIDTH, style
from sketchprune.types import Key

CLAIMS = (
    "tangent/finite-width",
    "tangent/finite-width-relu",
    "tangent/infinite-width",
    "tangent/random-pruning-limit",
)
TITLES = ("training, erf", "training, ReLU", "kernel", "kernel, randomly pruned")
_OF_TRAINING = r"$\sup_t\Vert f_t-f_t^{\mathrm{lin}}\Vert$"
_OF_THE_KERNEL = r"$\Vert\Theta_n-\Theta_\infty\Vert/\,\Vert\Theta_\infty\Vert$"
QUANTITIES = (_OF_TRAINING, _OF_TRAINING, _OF_THE_KERNEL, _OF_THE_KERNEL)
"""What is measured, of each claim."""
LOOKS = {
    "gaussian": ("Gaussian inputs", BLUE, "o"),
    "{data}": ("images", RED, "s"),
    "conv-{data}": ("images, CNN", GREEN, "^"),
}
"""Case -> label, colour and marker."""
SETTINGS: dict[Scale, tuple[str, ...]] = {"tiny": CLAIMS[2:3], "small": CLAIMS, "paper": CLAIMS}
"""Scale -> the claims that are drawn."""
THEORY = -0.5
"""The exponent of all of them."""


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """Of each case of each claim the widths, what was measured there, the fitted exponent and its interval.

    Args:
        config: the settings of the run.
        key: not used: the claims have keys of their own.
    """
    arrays = {}
    for claim in config.settings(SETTINGS):
        for case, found in config.verdict(claim).cases.items():
            known = {look.format(data=config.data.name): look for look in LOOKS}
            name = f"{_name(claim)}{known[case]}"
            sizes, means = np.array(found.points or [(math.nan, math.nan)]).T
            low, high = found.interval or (math.nan, math.nan)
            arrays |= {f"{name} widths": sizes, f"{name} measured": means}
            arrays[f"{name} exponent"] = np.array([found.measured, low, high])
    return arrays


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """How far networks of width n are from their limit, in geometric means over instances, and the fitted exponents.

    Training: the largest distance of the outputs of a network from those of its linearisation. Kernel: the distance of
    the tangent kernel from that of infinite width, and of a randomly pruned, rescaled network from the same limit.
    Black lines have the theory's exponent; bands are the 99.9 % intervals of the fitted one. Training may approach its
    limit faster: the theory is an upper rate. For ReLU, which is not smooth, no theorem is known here.
    """
    found = [place for place, claim in enumerate(CLAIMS) if any(name.startswith(_name(claim)) for name in arrays)]
    figure = Figure(figsize=(2 * WIDTH, 0.72 * WIDTH))
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, place in zip(panels, found, strict=True):
        widths = np.array([])
        for case, look in LOOKS.items():
            name = f"{_name(CLAIMS[place])}{case}"
            if f"{name} widths" in arrays:
                widths = arrays[f"{name} widths"]
                _draw_case(axes, arrays, name, look)
        axes.set(xscale="log", yscale="log", xlabel="width $n$")
        axes.set_title(TITLES[place], fontsize="small")
        axes.set_xticks(widths, [f"{width:g}" for width in widths])
        axes.minorticks_off()
        axes.set_ylabel(QUANTITIES[place], fontsize="small")
        axes.set_ylim(axes.get_ylim()[0] / 3)
        axes.legend(fontsize="x-small", loc="lower left")
    return figure


def _name(claim: str) -> str:
    """What the arrays of a claim begin with."""
    return f"{claim.partition('/')[2]} "


def _draw_case(axes: Axes, arrays: dict[str, np.ndarray], name: str, look: tuple[str, str, str]) -> None:
    """The points of a case, the band of its exponent, and a line of the theory's through their middle."""
    label, colour, marker = look
    widths, means = arrays[f"{name} widths"], arrays[f"{name} measured"]
    exponent, low, high = arrays[f"{name} exponent"]
    middle = np.exp(np.log(widths).mean())
    level = np.exp(np.log(means).mean())
    ends = [level * (widths / middle) ** slope for slope in (low, high)]
    axes.fill_between(widths, np.minimum(*ends), np.maximum(*ends), color=colour, alpha=0.2, linewidth=0)
    axes.plot(widths, level * (widths / middle) ** THEORY, color="black", linewidth=0.5)
    axes.plot(
        widths, means, color=colour, marker=marker, linestyle="", label=f"{label}: {exponent:.2f}".replace("-", "−")
    )
