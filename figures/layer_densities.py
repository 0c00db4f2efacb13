"""Test accuracy of random masks against density, for four ways to spread the density over the layers."""

import functools
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures._config import BySize, Config, Scale
from figures._style import BLUE, GREEN, PURPLE, RED, WIDTH, style
from figures._sweeps import rows_of, swept
from sketchprune import laws, lottery, prune, sweep
from sketchprune.laws.densities import Rule
from sketchprune.sweep import Look, Method, Training
from sketchprune.types import ApplyFn, Batch, Key, LossFn, Mask, Params

CLAIMS = ("lottery/densities", "lottery/flow-preservation", "lottery/ratios-balanced", "lottery/ratios-pyramidal")
RULES: dict[Rule, str] = {"uniform": BLUE, "erk": GREEN, "balanced": RED, "pyramidal": PURPLE}
"""How the density is spread, and the colour of the rule."""
PRESERVED = "flow preserved"


class Work(NamedTuple):
    """What is done at a scale.

    Attributes:
        network: the network's name.
        densities: the densities.
        seeds: how many seeds.
        training: of every network.
        samples: how many samples are trained on at most.
    """

    network: str
    densities: tuple[float, ...]
    seeds: int
    training: Training
    samples: int | None = None


SETTINGS: dict[Scale, Work | BySize[Work]] = {
    "tiny": Work("mlp", (0.1,), 2, Training(20), 300),
    "small": BySize(
        Work("mlp", (0.5, 0.2, 0.1, 0.05, 0.02, 0.01), 5, Training(500)),
        Work("lenet", (0.2, 0.05, 0.02, 0.01), 5, Training(1000, 0.05), 10_000),
    ),
    "paper": Work("vgg16", (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005), 3, Training(40_000)),
}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """The table of runs, by columns.

    Args:
        config: the settings of the run.
        key: not used: a run derives from its seed.
    """
    work = config.settings(SETTINGS)
    problem = sweep.problem(work.network, *config.halves(work.samples), work.training)
    methods = [
        Method(rule, functools.partial(_draw, rule, preserve), PRESERVED if preserve else "")
        for rule in RULES
        for preserve in (False, True)
    ]
    return swept(config, "layer_densities", problem, methods, work.densities, work.seeds)


def _draw(
    rule: Rule,
    preserve: bool,
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    batch: Batch,
    density: float,
    key: Key,
) -> Mask:
    """A random mask with the counts of a rule, and with edges added where a unit has lost all of its own."""
    order = prune.order_of_use(apply, params, batch[0][:1])
    draw_key, repair_key = jax.random.split(key)
    mask = laws.ErdosRenyiCounts.at_density(params, density, rule=rule, order=order).sample(draw_key)
    return lottery.repair(repair_key, mask) if preserve else mask


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Test accuracy of networks that are trained under random masks, against the density that the masks realise.

    Layers keep the same part of their weights (uniform), a part in proportion to (Σ dims)/(Π dims) (erk), the same
    number of weights (balanced), or a part that falls with depth (pyramidal); what full layers cannot take goes to the
    others. On the right units that have lost all their edges get one back, which raises the density. Means over seeds
    with 95 % intervals. A cross is a density at which most networks have a layer without weights: such a network
    predicts one class.
    """
    found = sweep.summarise(rows_of(arrays))
    figure = Figure(figsize=(2 * WIDTH, 0.85 * WIDTH))
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    entries: dict[str, Line2D] = {}
    for axes, sampler, line, title in zip(panels, ("", PRESERVED), ("-", "--"), ("as drawn", PRESERVED), strict=True):
        looks = {
            sweep.Run("", rule, sampler, 1, 1.0, 0).method: Look(colour, line, "o") for rule, colour in RULES.items()
        }
        for entry in sweep.draw_accuracy(axes, found, looks):
            entries.setdefault(str(entry.get_label()).removesuffix(f", {PRESERVED}"), entry)
        axes.set_title(title)
        axes.set_xlabel("density (part of the weights that is kept)")
    panels[1].set_ylabel("")
    figure.legend(handles=list(entries.values()), loc="outside upper center", ncols=7)
    return figure
