"""The spectra of the tangent kernel, the path kernel and the path features, and the bounds that join them."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from figures._config import Config, Scale
from figures._path_networks import PRUNERS, Network, everything, network_of, prune_network
from figures._style import BLUE, GREEN, PURPLE, RED, WIDTH, Look, style
from sketchprune import kernels, masks, models, paths, prune
from sketchprune.data import Dataset
from sketchprune.types import ApplyFn, Key, Mask, Params

CLAIMS = ("paths/eigen-bounds", "paths/gram", "paths/trace-bounds-ntk")
PIXELS = 64
"""How many inputs there are at most: those whose pixels vary most."""
PANELS = {"dense": "dense", "synflow": "SynFlow, 10 % kept", "snip": "SNIP, 10 % kept"}
DENSITY = 0.1
FLOOR = 1e-6
"""The least relative eigenvalue that is drawn."""
LOOKS = {
    "ntk": Look(r"$\lambda_k$, tangent kernel $\Theta$", BLUE, "", "-"),
    "path": Look(r"$w_k$, path kernel $\Pi$", RED, "", "--"),
    "features": Look(r"$\nu_k$, path features $J_v^f$", GREEN, "", "-."),
    "bound": Look(r"bound on $\lambda_k$ from $w$ and $\nu$", PURPLE, "", ":"),
}


@dataclass(frozen=True)
class Sizes:
    """How large the network is.

    Attributes:
        hidden: the widths of the hidden layers.
        samples: how many images the tangent kernel has.
        seeds: how many draws of the weights.
        panels: which of PANELS.
        rounds: of SynFlow.
    """

    hidden: tuple[int, ...]
    samples: int
    seeds: int
    panels: tuple[str, ...] = tuple(PANELS)
    rounds: int = 100


SETTINGS: dict[Scale, Sizes] = {
    "tiny": Sizes((8, 6), 8, 2, ("dense", "synflow"), rounds=3),
    "small": Sizes((16, 16), 32, 5),
    "paper": Sizes((32, 32, 32), 128, 10),
}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """The eigenvalues by panel and index k, each relative to the trace of its kernel, and the bound on those of Θ.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    sizes = config.settings(SETTINGS)
    found = [_part(config, seed, jax.random.fold_in(key, seed)) for seed in range(sizes.seeds)]
    seeds = {name: np.stack([part[name] for part in found]) for name in found[0]}  # [seeds, panels, k]
    count = seeds["ntk"].shape[2]
    panel, index = np.meshgrid(sizes.panels, np.arange(1, count + 1), indexing="ij")
    arrays = {"panel": panel.ravel(), "k": index.ravel()}
    for name in LOOKS:
        arrays |= {
            name: np.median(seeds[name], axis=0).ravel(),
            f"{name}_low": seeds[name].min(axis=0).ravel(),
            f"{name}_high": seeds[name].max(axis=0).ravel(),
        }
    looseness = np.median(seeds["looseness"], axis=0)
    return arrays | {"trace_looseness": np.repeat(looseness, count), "seeds": np.array([sizes.seeds])}


def small_network(dataset: Dataset, sizes: Sizes) -> Network:
    """A small network on the pixels that vary most, so that all eigenvalues of its path kernel can be found.

    Args:
        dataset: the data set.
        sizes: of the network.
    """
    pixels = np.asarray(dataset.x)
    columns = np.sort(np.argsort(-pixels.var(axis=0), kind="stable")[:PIXELS])
    few = Dataset(pixels[:, columns], dataset.y, dataset.name, dataset.num_classes)
    model = models.mlp(*sizes.hidden, dataset.num_classes, bias=False)
    return network_of(model, model, few, (-1,), sizes.samples, np.float64)


def _part(config: Config, seed: int, key: Key) -> dict[str, np.ndarray]:
    """The eigenvalues of one seed, from an earlier run if they are known."""

    def measure() -> dict[str, np.ndarray]:
        sizes = config.settings(SETTINGS)
        return of_seed(small_network(config.data, sizes), sizes.panels, sizes.rounds, key)

    return config.part(f"seed {seed}", measure)


def of_seed(net: Network, panels: Sequence[str], rounds: int, key: Key) -> dict[str, Float[np.ndarray, "panels ..."]]:
    """The eigenvalues of one draw of the weights, relative to the traces, and the bounds.

    Args:
        net: the network.
        panels: which of PANELS.
        rounds: of SynFlow.
        key: for weights and masks.
    """
    start_key, mask_key = jax.random.split(key)
    params = net.initial(start_key)
    keep = prune.count(params, DENSITY)
    found = []
    for panel in panels:
        mask = everything(params)
        if panel in PRUNERS:
            mask = prune_network(net, params, PRUNERS[panel], [keep], key=mask_key, rounds=rounds)[0]
        ntk, path, features = jax.device_get(eigenvalues(params, mask, net.x, apply=net.apply))
        most = min(features[0] * path.sum(), path[0] * features.sum())
        found.append(
            {
                "ntk": _relative(ntk, ntk),
                "path": _relative(path[: len(ntk)], path),
                "features": _relative(features, features),
                "bound": _relative(eigenvalue_bounds(path, features), ntk),
                "looseness": _relative(most, ntk),
            }
        )
    return {name: np.stack([each[name] for each in found]) for name in found[0]}


def _relative(values: np.ndarray, spectrum: Float[np.ndarray, " n"]) -> np.ndarray:
    """Values relative to the trace of a spectrum; zeros where that is zero, as of a network dead on all images."""
    return np.asarray(values) / spectrum.sum() if spectrum.any() else np.zeros_like(values)


def eigenvalue_bounds(path: Float[np.ndarray, " n"], features: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The least bound on each λ_k: ν_i w_j for i + j − 1 = k, or the mean of ν_1w_1, …, ν_kw_k.

    The mean is one because the sum of the k largest λ, of which λ_k is the least, is at most that of the products.

    Args:
        path: w, descending, and zero where there are fewer than features.
        features: ν, descending.
    """
    path = np.pad(path, (0, max(0, len(features) - len(path))))[: len(features)]
    products = [np.min(features[:k] * path[:k][::-1]) for k in range(1, len(path) + 1)]
    means = np.cumsum(features * path) / np.arange(1, len(path) + 1)
    return np.minimum(products, means)


@functools.partial(jax.jit, static_argnames="apply")
def eigenvalues(
    params: Params, mask: Mask, x: Float[Array, "n d"], *, apply: ApplyFn
) -> tuple[Float[Array, " nk"], Float[Array, " p"], Float[Array, " nk"]]:
    """All eigenvalues of Θ, of Π (those of its Gram matrix) and of the kernel of the path features, descending.

    Args:
        params: the weights of a dense network.
        mask: the mask.
        x: the samples.
        apply: the network.
    """
    pruned = masks.apply(params, mask)
    size = x.shape[0] * jax.eval_shape(apply, params, x).shape[1]
    ntk = kernels.ntk(apply, pruned, x, mask=mask).transpose(0, 2, 1, 3).reshape(size, size)
    _, split = ravel_pytree(params)

    def column(unit: Float[Array, " p"]) -> Float[Array, " p"]:
        return ravel_pytree(paths.gram_product(apply, params, x.shape[1:], split(unit), mask=mask))[0]

    gram = jax.vmap(column)(jnp.eye(prune.size(params), dtype=x.dtype))
    features = jnp.linalg.eigvalsh(feature_kernels(pruned, mask, x)).ravel()
    return _descending(jnp.linalg.eigvalsh(ntk)), _descending(jnp.linalg.eigvalsh(gram)), _descending(features)


def _descending(values: Float[Array, " n"]) -> Float[Array, " n"]:
    """Eigenvalues from the largest, with zeros for those that are rounding."""
    ordered = jnp.sort(values)[::-1]
    return jnp.where(ordered > ordered.size * jnp.finfo(ordered.dtype).eps * ordered[0], ordered, 0)


def feature_kernels(params: Params, mask: Mask, x: Float[Array, "n d"]) -> Float[Array, "k n n"]:
    """The blocks of J_v^f (J_v^f)ᵀ, one for each output: Σ_p a_p(x) a_p(x') x_{i_0} x'_{i_0} over the paths to it.

    It is a forward pass of the pairs x∘x' through the mask, which keeps those units that are active on both samples.
    Features of two outputs have no path in common.

    Args:
        params: the masked weights of a dense network.
        mask: the mask.
        x: the samples.
    """
    layers = sorted(params)
    hidden = x
    pairs = x[:, None] * x
    for name in layers[:-1]:
        hidden = jax.nn.relu(hidden @ params[name]["kernel"])
        active = hidden > 0
        pairs = (pairs @ mask[name]["kernel"].astype(x.dtype)) * (active[:, None] & active)
    return (pairs @ mask[layers[-1]]["kernel"].astype(x.dtype)).transpose(2, 0, 1)


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    r"""Eigenvalues of the tangent kernel, of its two factors, and what the factors say about it, in a small network.

    Lines are medians over draws of the weights, bands go from the least to the largest, and each spectrum is relative
    to the trace of its kernel, the bound to that of Θ. Lines end at the rank. The bound on each λ_k is the least that
    follows from λ_{i+j−1} ≤ ν_i w_j and from the sums of the largest. On the digits it is loose by a factor of more
    than 100 in the dense network and of about 20 in the pruned ones, for the largest eigenvalue; and where it exceeds
    1 it says less than that no eigenvalue exceeds the trace.
    """
    figure = Figure(figsize=(2 * WIDTH, 0.95 * WIDTH))
    names = list(dict.fromkeys(arrays["panel"].tolist()))
    panels = figure.subplots(1, len(names), sharey=True)
    for axes, panel in zip(panels, names, strict=True):
        rows = arrays["panel"] == panel
        for name, look in LOOKS.items():
            middle, low, high = (arrays[key][rows] for key in (name, f"{name}_low", f"{name}_high"))
            known = middle > 0
            k = arrays["k"][rows][known]
            axes.plot(k, middle[known], color=look.colour, linestyle=look.line)
            inside = low[known] > 0  # where no draw has reached its rank
            axes.fill_between(k, low[known], high[known], inside, color=look.colour, alpha=0.2, linewidth=0)
        axes.set(xscale="log", yscale="log", title=PANELS[panel], xlabel="index $k$")
        looseness = arrays["trace_looseness"][rows][0]
        trace = r"\mathrm{Tr}\,\Theta"
        axes.annotate(f"bound on ${trace}$: ${looseness:.0f}\\,{trace}$", (0.04, 0.04), xycoords="axes fraction")
    panels[0].set_ylim(bottom=FLOOR)
    panels[0].set_ylabel("eigenvalue, relative to the trace")
    figure.legend(handles=[look.entry() for look in LOOKS.values()], loc="outside upper center", ncols=4)
    return figure
