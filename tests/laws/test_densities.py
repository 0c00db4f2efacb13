"""Layer densities keep what was asked, each by its rule."""

import functools
import itertools

import numpy as np
import pytest

from sketchprune import laws


def convolutions(*widths, size=3):
    """The shapes of a chain of convolutions, from the channels of the image on."""
    return [(size, size, a, b) for a, b in itertools.pairwise(widths)]


def resnet(*stages, shortcuts):
    """The shapes of a residual network for small images: a stem, two convolutions a block, and a dense layer."""
    shapes = convolutions(3, stages[0][0])
    width = stages[0][0]
    for channels, blocks in stages:
        shapes += convolutions(width, *[channels] * (2 * blocks))
        if shortcuts and channels != width:
            shapes += convolutions(width, channels, size=1)
        width = channels
    return [*shapes, (width, 10)]


NETWORKS = {
    "mlp": [(784, 300), (300, 100), (100, 10)],
    "bottleneck": [(3, 3, 3, 64), (1, 1, 64, 512), (512, 10)],
    "vgg": [(3, 3, a, b) for a, b in [(3, 64), (64, 128), (128, 256), (256, 512), (512, 512)]] + [(512, 10)],
    "one": [(4, 4)],
    "vgg16": [*convolutions(3, 64, 64, 128, 128, *[256] * 3, *[512] * 6), (512, 10)],
    "resnet18": resnet((64, 2), (128, 2), (256, 2), (512, 2), shortcuts=True),
    "resnet20": resnet((16, 3), (32, 3), (64, 3), shortcuts=False),
}


@pytest.mark.parametrize("rule", ["uniform", "erk", "balanced", "pyramidal"])
@pytest.mark.parametrize("network", NETWORKS)
def test_layer_densities_keep_what_was_asked(rule, network):
    shapes = NETWORKS[network]
    sizes = np.array([np.prod(shape) for shape in shapes], float)
    for density in (0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999, 1.0):
        p = laws.layer_densities(rule, shapes, density)
        assert (p > 0).all() and (p <= 1).all()
        assert (p * sizes).sum() == pytest.approx(density * sizes.sum(), rel=1e-13)
        free = p < 1
        ratios = {"uniform": p, "erk": p * sizes / [sum(shape) for shape in shapes], "balanced": p * sizes}
        if rule == "pyramidal":
            np.testing.assert_allclose(p, p[0] ** np.arange(1, len(p) + 1), rtol=1e-12)
        elif free.any():
            np.testing.assert_allclose(ratios[rule][free], ratios[rule][free][0], rtol=1e-12)
            assert (ratios[rule][~free] <= ratios[rule][free][0] * (1 + 1e-12)).all()


def test_clipping_without_redistribution_keeps_less():
    sizes = np.array([np.prod(shape) for shape in NETWORKS["vgg"]], float)
    for rule in ("erk", "balanced"):
        clipped = functools.partial(laws.layer_densities, rule, NETWORKS["vgg"], redistribute=False)
        assert (clipped(0.5) * sizes).sum() < 0.49 * sizes.sum()
        np.testing.assert_allclose(clipped(1e-4), laws.layer_densities(rule, NETWORKS["vgg"], 1e-4))


@pytest.mark.parametrize(
    ("network", "rule", "realised"),
    [("vgg16", "balanced", 0.324), ("vgg16", "erk", 0.446), ("resnet18", "balanced", 0.27)],
)
def test_densities_of_published_networks(network, rule, realised):
    """Clipped, a nominal 0.5 realises less; the counts of layers and the masks of a law keep just that."""
    shapes = NETWORKS[network]
    params = [np.broadcast_to(0.0, shape) for shape in shapes]  # of no memory
    sizes = np.array([np.prod(shape) for shape in shapes])
    clipped = laws.layer_densities(rule, shapes, 0.5, redistribute=False)
    assert laws.realised_density(clipped, shapes) == pytest.approx(realised, abs=5e-3 if realised == 0.27 else 5e-4)
    assert laws.realised_density(clipped, shapes) == pytest.approx((clipped * sizes).sum() / sizes.sum(), rel=1e-13)
    assert laws.realised_density(laws.layer_densities(rule, shapes, 0.5), shapes) == pytest.approx(0.5, rel=1e-13)
    counts = laws.layer_counts(params, 0.5, rule, redistribute=False)
    assert sum(counts) == round((clipped * sizes).sum()) and (abs(counts - clipped * sizes) < 1).all()
    law = laws.ErdosRenyiCounts.at_density(params, 0.5, rule=rule, redistribute=False)
    assert law.counts == counts
    assert sum(laws.layer_counts(params, 0.5, rule)) == round(0.5 * sizes.sum())


def test_sizes_of_published_networks():
    sizes = {name: sum(map(np.prod, NETWORKS[name])) for name in ("vgg16", "resnet18", "resnet20")}
    assert sizes == {"vgg16": 14710464 + 5120, "resnet18": 11164352, "resnet20": 268336}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: laws.layer_densities("erk", [(2, 2)], 0), r"density is 0; it takes a number in \(0, 1\]"),
        (lambda: laws.layer_densities("erk", [(2, 2)], 1.01), "density is 1.01"),
        (lambda: laws.layer_densities("erk", [(2, 2)], float("nan")), "density is nan"),
        (lambda: laws.layer_densities("erk", [], 0.5), r"shapes is \[\]; it takes one shape for each layer"),
        (lambda: laws.layer_densities("erk", [(0, 3)], 0.5), "at least one weight"),
        (lambda: laws.realised_density([0.5], [(2, 2), (2, 2)]), r"densities has shape \(1,\); it takes \(2,\)"),
        (lambda: laws.realised_density([1.5], [(2, 2)]), r"densities is \[1.5\]; it takes numbers in \[0, 1\]"),
        (lambda: laws.realised_density([], []), r"shapes is \[\]; it takes one shape for each layer"),
    ],
)
def test_layer_densities_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_layer_densities_refuse_other_rules():
    """By the function, or before it by its annotations where those are checked."""
    with pytest.raises((ValueError, TypeError), match="rule is 'er'; it takes 'uniform'|Type-check error"):
        laws.layer_densities("er", [(2, 2)], 0.5)
