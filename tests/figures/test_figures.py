"""Figures: every one is drawn, its numbers agree with the theory, and a seed decides its bytes."""

import importlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import stats

import theory
from figures import containment, existence, tails, tightness
from figures.__main__ import FIGURES, main
from figures._config import Config
from figures._files import SUFFIXES
from sketchprune import scores

pytestmark = pytest.mark.usefixtures("jax_settings")


def test_figures_are_found_in_the_folder():
    assert {"sketch_error", "training_error", "tightness", "tails"} <= set(FIGURES)
    assert not any(name.startswith("_") for name in FIGURES)


@pytest.mark.parametrize("name", ["tails", "tightness"])
def test_a_seed_decides_every_byte(name, made, folder, report, tmp_path):
    made(name)
    assert main([name, "--scale", "tiny", "--out", str(tmp_path), "--report", str(report)]) == 0
    for suffix in SUFFIXES:
        assert (folder / (name + suffix)).read_bytes() == (tmp_path / (name + suffix)).read_bytes()


def test_another_seed_gives_other_numbers(made):
    other = tails.data(Config(seed=1, scale="tiny"), jax.random.key(1))
    assert not np.array_equal(other["gaussian_thresholds"], made("tails")["gaussian_thresholds"])


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_whole(name, made, folder, report):
    """It labels its axes, its numbers are finite, its claims exist, and drawing it again gives the same bytes."""
    numbers, module = made(name), importlib.import_module(f"figures.{name}")
    assert set(getattr(module, "CLAIMS", ())) <= {claim.id for claim in theory.CATALOGUE}
    figure = module.draw(numbers)
    assert isinstance(figure, Figure)
    for axes in figure.axes:
        place = axes.get_subplotspec()
        assert place is not None
        assert not place.is_last_row() or axes.get_xlabel() or figure.get_supxlabel()
        assert not place.is_first_col() or axes.get_ylabel() or figure.get_supylabel()
    assert all((folder / (name + suffix)).stat().st_size > 100 for suffix in SUFFIXES)
    picture = (folder / f"{name}.png").read_bytes()
    assert main([name, "--scale", "tiny", "--out", str(folder), "--report", str(report)]) == 0
    assert (folder / f"{name}.png").read_bytes() == picture


@pytest.mark.parametrize("name", ["sketch_error", "transferred_error"])
def test_sampled_errors_agree_with_the_second_moment(made, name):
    numbers = made(name)
    for panel in ("raw", "standardised"):
        for law in ("optimal", "data_free", "uniform"):
            mean, error, expected = (numbers[f"{panel}_{law}_{kind}"] for kind in ("mean", "error", "theory"))
            assert (abs(mean - expected) < 5 * error).all()
            if name == "sketch_error":  # the probabilities are optimal for the weights that they are used on
                assert (expected >= numbers[f"{panel}_optimal_theory"]).all()
        assert (numbers[f"{panel}_top_mean"] <= numbers[f"{panel}_top_theory"]).all()


def test_trained_errors_respect_the_bounds(made):
    numbers = made("training_error")

    def theory_at(name, points):
        return np.interp(points, numbers[f"{name}_kept"], numbers[f"{name}_theory"])

    for name in ("multinomial", "poisson"):
        mean, error = numbers[f"{name}_mean"], numbers[f"{name}_error"]
        assert (mean <= theory_at(name, numbers[f"{name}_trained"]) + 5 * error).all()
    mean, error = numbers["determinantal_mean"], numbers["determinantal_error"]
    # The equality is convex between the sizes at which it was evaluated: interpolation errs by about 10⁻³.
    assert (abs(mean - theory_at("determinantal", numbers["determinantal_trained"])) <= 5 * error + 2e-3).all()
    assert (numbers["multinomial_theory"] <= numbers["multinomial_transfer"]).all()
    trained = np.concatenate([numbers[f"{name}_mean"] for name in ("multinomial", "poisson", "determinantal", "top")])
    assert ((trained >= numbers["dense"]) & (trained <= 1)).all()


def test_the_best_masks_are_ranked(made):
    numbers = made("existence")
    for panel in ("gaussian", "informative"):
        found = {name: numbers[f"{panel}_{name}"] for name in existence.LOOKS}
        assert (found["reweighted"] <= np.minimum(found["sketch"], found["binary"])).all()
        assert (found["binary"] <= found["local"] * (1 + 1e-9)).all()
        assert (found["sketch"] < found["expectation"]).all()
    assert (numbers["informative_binary"] > numbers["informative_expectation"]).all()


def test_best_masks_without_a_proof_are_not_drawn(monkeypatch):
    monkeypatch.setattr(existence, "MAX_NODES", 1)
    x, w = np.random.default_rng(0).standard_normal((12, 12)), np.ones(12)
    with pytest.raises(ValueError, match="max_nodes is 1; it takes a number large enough to prove"):
        existence._errors(jnp.asarray(x), jnp.asarray(w), 6, key=jax.random.key(0), num_masks=256)


def test_tails_bound_the_frequencies(made):
    numbers = made("tails")
    for panel in ("gaussian", "informative"):
        thresholds, exceed = numbers[f"{panel}_thresholds"], numbers[f"{panel}_exceed"] / numbers["masks"]
        assert (np.diff(exceed) <= 0).all()
        assert exceed[-1] == 0
        for bound in ("mcdiarmid", "dkm"):
            allowed = np.interp(thresholds, numbers[f"{panel}_{bound}"], numbers["deltas"], left=1)
            assert (exceed <= allowed).all()
        assert (numbers[f"{panel}_mcdiarmid"] <= numbers[f"{panel}_dkm"]).all()


def test_scores_are_ranked_by_their_efficiency(made):
    numbers = made("score_efficiency")
    names = numbers["names"].tolist()
    assert names == list(scores.SCORES)
    efficiency = numbers["efficiency"]
    assert ((efficiency > 0) & (efficiency < 1 + 1e-6)).all()
    assert (efficiency.argmax(axis=1) == names.index("ntk_trace")).all()
    for name in ("sampled", "top"):
        error, found = numbers[f"{name}_error"], numbers[f"{name}_correlation"]
        assert error.shape == efficiency.shape and (0 <= error).all() and (error <= 1).all()
        expected = [stats.spearmanr(*pair).statistic for pair in zip(efficiency, -error, strict=True)]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_names_in_a_figure_do_not_overlap(made):
    figure = importlib.import_module("figures.score_efficiency").draw(made("score_efficiency"))
    figure.draw_without_rendering()
    texts = [text for text in figure.axes[1].texts if text.get_text() in scores.SCORES]
    boxes = [Text.get_window_extent(text) for text in texts]  # without the line to the point
    assert len(boxes) == len(scores.SCORES)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_tightness_is_the_reports(made):
    """Each case of the first bounds, with the looseness and the resolution that the report gives it."""
    numbers = made("tightness")
    bounds = [claim for claim in theory.CATALOGUE if tightness._is_bound(claim)][:3]
    expected = [(claim.id, place) for claim in bounds for place, _ in enumerate(claim.cases)]
    assert numbers["claims"].tolist() == [claim for claim, _ in expected]
    np.testing.assert_array_equal(numbers["looseness"], [2 + place for _, place in expected])
    np.testing.assert_allclose(numbers["slack"], [2 + place for _, place in expected])


def test_bounds_are_all_claims_that_compare():
    kinds = {claim.id: claim for claim in theory.CATALOGUE if tightness._is_bound(claim)}
    assert {"sketch/top-k", "sketch/training-error-ridge", "lottery/concentration"} <= set(kinds)
    assert not {"sketch/second-moment", "sketch/data-free", "tangent/finite-width"} & set(kinds)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sketch_eror"], "names holds 'sketch_eror'; it takes sketch_error"),
        (["tails", "no-such-thing"], "names holds 'no-such-thing'; it takes "),
        (["tails", "--data", "{file}"], "data is {file}: {file} is no .npz archive"),
        (["tails", "--data", "{file}.npz"], "data is file; tails takes digits alone"),
        (["tails", "--data", "nowhere"], "data is nowhere: source is 'nowhere'; it takes 'digits'"),
        (["tails", "--seed", "-1"], "seed is -1; it takes a whole number from 0"),
        (["tails", "--out", "{file}"], "out is {file}, which cannot be written"),
        (["tightness", "--report", "{file}"], "report is {file}, which is malformed; it takes a verdicts.json"),
        (["tightness", "--report", "{file}.missing"], "report is {file}.missing, which cannot be read (No such file"),
    ],
)
def test_wrong_usage(arguments, message, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("no report")
    np.savez(tmp_path / "file.npz", x=np.eye(3), y=np.arange(3))
    arguments = [argument.format(file=file) for argument in arguments]
    if "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert message.format(file=file) in capsys.readouterr().err


def test_wrong_options_exit_with_2():
    with pytest.raises(SystemExit) as ended:
        main(["tails", "--scale", "huge"])
    assert ended.value.code == 2


def test_containment_is_measured_as_the_formulas_say(made):
    """Frequencies against sums over hidden units, and what the theory's widths promise at the rate δ."""
    numbers, inputs = made("containment"), containment.NUM_INPUTS

    def exact(density, width):
        hidden = np.arange(width + 1)
        connected = stats.binom.pmf(hidden, width, density) @ (1 - (1 - density) ** hidden) ** inputs
        # The sum may exceed 1 by rounding.
        return np.clip([connected, (1 - (1 - density**2) ** (width // inputs)) ** inputs], 0, 1)

    def agree(measured, density, width):
        expected = exact(density, width)
        deviation = np.sqrt(expected * (1 - expected) / numbers["masks"])
        assert (abs(measured - expected) <= 5 * deviation + 3 / numbers["masks"]).all()

    for row, width in zip(numbers["width_measured"], numbers["widths"], strict=True):
        for measured, density in zip(row, containment.DENSITIES, strict=True):
            agree(measured, density, width)
    for measured, density in zip(numbers["density_measured"], numbers["densities"], strict=True):
        agree(measured, density, containment.FIXED_WIDTH)
    for (necessary, sufficient), density in zip(numbers["width_marks"], containment.DENSITIES, strict=True):
        assert exact(density, int(necessary))[0] < 1 - containment.DELTA <= exact(density, int(sufficient))[1]
    low, high = numbers["density_marks"]
    assert exact(low, containment.FIXED_WIDTH)[0] < 1 - containment.DELTA <= exact(high, containment.FIXED_WIDTH)[1]


def test_rates_are_the_reports(made):
    numbers = made("rates")
    for name in ("infinite-width gaussian", "infinite-width {data}", "infinite-width conv-{data}"):
        np.testing.assert_array_equal(numbers[f"{name} widths"], [32, 128, 512])
        np.testing.assert_allclose(numbers[f"{name} measured"], [32**-0.5, 128**-0.5, 512**-0.5])
        np.testing.assert_array_equal(numbers[f"{name} exponent"], [-0.5, -0.6, -0.4])


def test_training_errors_stay_below_the_bound_at_every_step(made):
    numbers = made("training_error_at_t")
    error, bound = numbers["error"], numbers["bound"]
    assert (error <= bound * (1 + 1e-9)).all()
    assert (bound <= numbers["ridge_bound"] + 5 * numbers["error_error"]).all()
    assert (np.diff(error, axis=1) <= 1e-9).all()  # gradient descent at 1/λ_max never climbs
    np.testing.assert_allclose(error[:, 0], bound[:, 0])  # an equality before the first step
    np.testing.assert_allclose(error[:, -1], numbers["at_the_end"], rtol=1e-3)
