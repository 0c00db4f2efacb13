"""Layer densities keep what was asked, each by its rule."""

import functools

import numpy as np
import pytest

from sketchprune import laws

NETWORKS = {
    "mlp": [(784, 300), (300, 100), (100, 10)],
    "bottleneck": [(3, 3, 3, 64), (1, 1, 64, 512), (512, 10)],
    "vgg": [(3, 3, a, b) for a, b in [(3, 64), (64, 128), (128, 256), (256, 512), (512, 512)]] + [(512, 10)],
    "one": [(4, 4)],
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
    ("call", "message"),
    [
        (lambda: laws.layer_densities("erk", [(2, 2)], 0), r"density is 0; it takes a number in \(0, 1\]"),
        (lambda: laws.layer_densities("erk", [(2, 2)], 1.01), "density is 1.01"),
        (lambda: laws.layer_densities("erk", [(2, 2)], float("nan")), "density is nan"),
        (lambda: laws.layer_densities("erk", [], 0.5), r"shapes is \[\]; it takes one shape for each layer"),
        (lambda: laws.layer_densities("erk", [(0, 3)], 0.5), "at least one weight"),
    ],
)
def test_layer_densities_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_layer_densities_refuse_other_rules():
    """By the function, or before it by its annotations where those are checked."""
    with pytest.raises((ValueError, TypeError), match="rule is 'er'; it takes 'uniform'|Type-check error"):
        laws.layer_densities("er", [(2, 2)], 0.5)
