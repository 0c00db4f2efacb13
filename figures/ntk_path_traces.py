"""The trace of the tangent kernel against that of the path kernel, over pruners and densities."""

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
from figures._path_networks import PRUNERS, Network, Pruner, Prunings, everything, network, prune_network, stacked
from figures._style import WIDTH, style
from sketchprune import kernels, masks, paths, prune
from sketchprune.types import ApplyFn, Key, Mask, Params

CLAIMS = ("paths/sign-average", "paths/trace", "paths/trace-bounds-ntk")


SETTINGS: dict[Scale, Prunings] = {
    "tiny": Prunings("tiny", 2, 64, (0.5, 0.2), 3, ("synflow", "random")),
    "small": Prunings("fc", 5, 256, (0.5, 0.2, 0.1, 0.05), 20),
    "paper": Prunings("fc", 10, 1024, (0.8, 0.5, 0.2, 0.1, 0.05, 0.02), 100),
}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """log₁₀ of the traces by pruner and density, with their means over seeds; the first rows are dense.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    settings = config.settings(SETTINGS)
    found = [_part(config, pruner, key) for pruner in settings.pruners]
    pruner, density = np.meshgrid(settings.pruners, (1.0, *settings.densities), indexing="ij")
    arrays = {"pruner": pruner.ravel(), "density": density.ravel()}
    for name in found[0]:
        mean, half = mean_interval(np.stack([part[name] for part in found], axis=1))
        arrays |= {name: mean.ravel(), f"{name}_half": half.ravel()}
    net = network(settings.network, config.data, 1)
    # The mean of Tr Θ over the signs of the weights has a factor ½ for each hidden layer.
    return arrays | {"hidden_layers": np.array([len(net.layers(net.initial(key))) - 1])}


def _part(config: Config, pruner: str, key: Key) -> dict[str, np.ndarray]:
    """The traces of one pruner, from an earlier run if they are known."""

    def measure() -> dict[str, Float[np.ndarray, "seeds densities"]]:
        settings = config.settings(SETTINGS)
        net = network(settings.network, config.data, settings.samples)
        return traces(net, PRUNERS[pruner], settings, key)

    return config.part(pruner, measure)


def traces(
    net: Network, pruner: Pruner, settings: Prunings, key: Key
) -> dict[str, Float[np.ndarray, "seeds densities"]]:
    """log₁₀ of the traces for each mask; the first density is 1.

    Those of Tr Θ, ``ntk``, as a mean over the samples; and of Tr Π, ``ones`` for an input of ones and ``data`` for the
    mean of x².

    Args:
        net: the network.
        pruner: the pruner.
        settings: what is pruned.
        key: for weights and masks.
    """
    found = []
    for start_key, mask_key in settings.draws(key):
        params = net.initial(start_key)
        keeps = [prune.count(params, density) for density in settings.densities]
        pruned = prune_network(net, params, pruner, keeps, key=mask_key, rounds=settings.rounds)
        found.append(_traces(params, stacked([everything(params), *pruned]), net.x, apply=net.apply))
    return {name: np.stack([each[name] for each in found]) / np.log(10) for name in found[0]}


@functools.partial(jax.jit, static_argnames="apply")
def _traces(
    params: Params, stack: Mask, x: Float[Array, "n ..."], *, apply: ApplyFn
) -> dict[str, Float[Array, " densities"]]:
    """The natural logarithms of the traces for every mask of a stack."""
    u = jnp.mean(x**2, axis=0)

    def one(mask: Mask) -> dict[str, Float[Array, ""]]:
        tangent = kernels.trace(apply, masks.apply(params, mask), x, mask=mask) / len(x)
        ones, on_data = (paths.trace(apply, params, u.shape, u=u, mask=mask, log=True) for u in (jnp.ones_like(u), u))
        return {"ntk": jnp.log(tangent), "ones": ones, "data": on_data}

    return lax.map(one, stack)


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    r"""The trace of the tangent kernel against that of the path kernel, which sees no data, for masks of one network.

    Each line is a pruner, from the dense network (top right) to the lowest density. Points are means over draws of the
    weights of log₁₀, with 95 % intervals. Black is what the path kernel says of weights with random signs and of inputs
    of ones. On the digits random masks and all variants of SynFlow lie on it, since they do not look at signs. SNIP and
    GraSP choose weights whose paths do not cancel on the data: their tangent kernels are up to 50 and 30,000 times
    larger than that, and those of GraSP with the other sign are smaller. Between pruners that see the loss and others,
    the path kernel alone does not rank the tangent kernels.
    """
    figure = Figure(figsize=(WIDTH, 1.1 * WIDTH))
    axes = figure.subplots()
    names = list(dict.fromkeys(arrays["pruner"].tolist()))
    for look, rows in ((PRUNERS[name].look, arrays["pruner"] == name) for name in names):
        x, y, across, along = (arrays[key][rows] for key in ("ones", "ntk", "ones_half", "ntk_half"))
        axes.errorbar(x, y, along, across, color=look.colour, marker=look.marker, linestyle=look.line, linewidth=0.8)
    ends = np.array([np.nanmin(arrays["ones"]), np.nanmax(arrays["ones"])])
    axes.plot(ends, ends - arrays["hidden_layers"][0] * np.log10(2), color="black", linewidth=0.8, zorder=0)
    axes.set_xlabel(r"$\log_{10}\,\mathrm{Tr}\,\Pi(m\circ\theta)$")
    axes.set_ylabel(r"$\log_{10}\,\mathrm{Tr}\,\Theta(x,x)$, mean over images")
    line = Line2D([], [], color="black", linewidth=0.8, label=r"mean over signs, $x^2=1$")
    handles = [*(PRUNERS[name].look.entry() for name in names), line]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure
