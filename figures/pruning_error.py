"""What the path norm says that a mask does to the function of a network, against what it does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures._config import Config, Scale
from figures._intervals import mean_interval
from figures._path_networks import PRUNERS, Network, Pruner, Prunings, network, prune_network, stacked
from figures._style import WIDTH, style
from sketchprune import masks, paths, prune
from sketchprune.types import ApplyFn, Key, Mask, Params

CLAIMS = ("paths/pruning-error",)
PANELS = {"normal": r"He-normal weights, $x$ of mean 0", "positive": r"their absolute values, $x\geq 0$"}
"""Panel -> title. In the second one all paths have the same sign, and the bound is an equality."""


_MANY = (0.95, 0.9, 0.8, 0.6, 0.4, 0.2, 0.1)
SETTINGS: dict[Scale, Prunings] = {
    "tiny": Prunings("tiny", 2, 64, (0.9, 0.3), 3, ("synflow", "random")),
    "small": Prunings("fc", 5, 512, _MANY, 10),
    "paper": Prunings("fc", 10, 10_000, (*_MANY, 0.05, 0.02), 100),
}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """The drop of R₁ and the change of the outputs, by panel, pruner and density, as `changes` says.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    settings = config.settings(SETTINGS)
    found = [_part(config, panel, pruner, key) for panel in PANELS for pruner in settings.pruners]
    arrays = {}
    for name in found[0]:
        mean, half = mean_interval(np.stack([part[name] for part in found], axis=1))
        arrays |= {name: mean.ravel(), f"{name}_half": half.ravel()}
    panel, pruner, density = np.meshgrid(list(PANELS), settings.pruners, settings.densities, indexing="ij")
    return {"panel": panel.ravel(), "pruner": pruner.ravel(), "density": density.ravel(), **arrays}


def _part(config: Config, panel: str, pruner: str, key: Key) -> dict[str, np.ndarray]:
    """The changes by one pruner, from an earlier run if they are known."""

    def measure() -> dict[str, Float[np.ndarray, "seeds densities"]]:
        settings = config.settings(SETTINGS)
        net = network(settings.network, config.data, settings.samples)
        return changes(net, panel, PRUNERS[pruner], settings, key)

    return config.part(f"{panel}, {pruner}", measure)


def changes(
    net: Network, panel: str, pruner: Pruner, settings: Prunings, key: Key
) -> dict[str, Float[np.ndarray, "seeds densities"]]:
    """log₁₀ of the drop of R₁, ``bound``, and of the mean of ‖f_θ(x) − f_{m∘θ}(x)‖₁, ``change``.

    Both are relative to the mean of ‖f_θ(x)‖₁.

    Args:
        net: the network.
        panel: one of PANELS.
        pruner: the pruner.
        settings: what is pruned.
        key: for weights and masks.
    """
    net = net._replace(x=net.raw) if panel == "positive" else net
    found = []
    for start_key, mask_key in settings.draws(key):
        params = net.initial(start_key)
        if panel == "positive":
            params = jax.tree.map(abs, params)
        keeps = [prune.count(params, density) for density in settings.densities]
        pruned = prune_network(net, params, pruner, keeps, key=mask_key, rounds=settings.rounds)
        found.append(_changes(params, stacked(pruned), net.x, apply=net.apply))
    return {name: np.stack([each[name] for each in found]) for name in found[0]}


@functools.partial(jax.jit, static_argnames="apply")
def _changes(
    params: Params, stack: Mask, x: Float[Array, "n ..."], *, apply: ApplyFn
) -> dict[str, Float[Array, " densities"]]:
    """Both sides for every mask of a stack."""
    outputs = apply(params, x)
    size = jnp.mean(jnp.sum(abs(outputs), axis=1))
    # R₁ is linear in its input, so that of the mean of |x| is the mean over the images.
    u = jnp.mean(abs(x), axis=0)
    whole = paths.path_norm(apply, params, u.shape, 1, u=u)

    def one(mask: Mask) -> dict[str, Float[Array, ""]]:
        pruned = masks.apply(params, mask)
        change = jnp.mean(jnp.sum(abs(outputs - apply(pruned, x)), axis=1))
        left = paths.path_norm(apply, params, u.shape, 1, u=u, mask=mask)
        return {"bound": jnp.log10((whole - left) / size), "change": jnp.log10(change / size)}

    return lax.map(one, stack)


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    r"""What R_1 says that a mask changes in the outputs at most, against what it changes: both log₁₀, relative to ‖f‖₁.

    Each line is a pruner, from a high density (left) to a low one. Points are means over draws of the weights,
    with 95 % intervals; a mask that takes nothing from R_1 changes nothing, and has no point. With positive weights and
    inputs every mask lies on the bound. With weights of both signs paths cancel, and six layers make the bound loose
    by more than four orders of magnitude. On the digits it still ranks the pruners that do not see the loss: SynFlow
    takes the least from R_1, and changes the outputs little. At the same drop of R_1, though, SNIP changes them up to
    100 times less and GraSP 100 times more.
    """
    figure = Figure(figsize=(2 * WIDTH, 1.1 * WIDTH))
    names = list(dict.fromkeys(arrays["pruner"].tolist()))
    for axes, (panel, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        here = arrays["panel"] == panel
        for look, rows in ((PRUNERS[name].look, here & (arrays["pruner"] == name)) for name in names):
            x, y, across, along = (arrays[key][rows] for key in ("bound", "change", "bound_half", "change_half"))
            axes.errorbar(
                x, y, along, across, color=look.colour, marker=look.marker, linestyle=look.line, linewidth=0.8
            )
        ends = np.array([np.nanmin(arrays["bound"][here]), np.nanmax(arrays["bound"][here])])
        axes.plot(ends, ends, color="black", linewidth=0.8, zorder=0)
        axes.set(title=title, xlabel=r"$\log_{10}$ of the drop of $R_1$, relative to $\Vert f_\theta\Vert_1$")
    figure.axes[0].set_ylabel(r"$\log_{10}\;\Vert f_\theta-f_{m\circ\theta}\Vert_1\,/\,\Vert f_\theta\Vert_1$")
    bound = Line2D([], [], color="black", linewidth=0.8, label="bound")
    handles = [*(PRUNERS[name].look.entry() for name in names), bound]
    figure.legend(handles=handles, loc="outside upper center", ncols=5)
    return figure
