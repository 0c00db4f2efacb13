"""Figures: every one is drawn, its numbers agree with the theory, and a seed decides its bytes."""

import importlib
import itertools
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import stats

import theory
from figures import containment, existence, tightness
from figures.__main__ import FIGURES, main
from figures._config import Config
from sketchprune import scores
from theory import Bound, Case, Claim, Sides, Source

LOOSENESS = {
    "sketch/top-k": {"digits": 42.0, "aligned": 1.0},
    "sketch/second-moment": {"digits": 1.0, "informative": 1.01, "small": None},
    "sketch/data-free": {"digits": None},
    "paths/trace": {"digits": 7.0},
}


pytestmark = pytest.mark.usefixtures("jax_settings")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    claims = [
        {"id": claim, "cases": {case: {"looseness": value} for case, value in cases.items()}}
        for claim, cases in LOOSENESS.items()
    ]
    path = tmp_path_factory.mktemp("report") / "verdicts.json"
    path.write_text(json.dumps({"claims": claims}))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory, report):
    """A folder with every figure."""
    folder = tmp_path_factory.mktemp("figures")
    assert main(["--tier", "quick", "--out", str(folder), "--report", str(report)]) == 0
    return folder


@pytest.fixture(scope="module")
def arrays(made):
    """By figure, the numbers that it was drawn from."""
    return {name: dict(np.load(made / f"{name}.npz")) for name in FIGURES}


def test_figures_are_found_in_the_folder():
    assert {"sketch_error", "training_error", "tightness", "tails"} <= set(FIGURES)
    assert not any(name.startswith("_") for name in FIGURES)


def test_a_seed_decides_every_byte(made, report, tmp_path):
    assert main(["--tier", "quick", "--out", str(tmp_path), "--report", str(report)]) == 0
    names = sorted(f"{name}{suffix}" for name in FIGURES for suffix in (".npz", ".pdf", ".png"))
    assert sorted(path.name for path in made.iterdir()) == sorted(path.name for path in tmp_path.iterdir()) == names
    assert [name for name in names if (made / name).read_bytes() != (tmp_path / name).read_bytes()] == []


def test_another_seed_gives_other_numbers(arrays, tmp_path):
    assert main(["tails", "--tier", "quick", "--seed", "1", "--out", str(tmp_path)]) == 0
    other = np.load(tmp_path / "tails.npz")
    assert not np.array_equal(other["gaussian_thresholds"], arrays["tails"]["gaussian_thresholds"])


@pytest.mark.parametrize("name", FIGURES)
def test_drawing_labels_its_axes(arrays, name):
    figure = importlib.import_module(f"figures.{name}").draw(arrays[name])
    assert isinstance(figure, Figure)
    assert all(np.isfinite(values).all() for values in arrays[name].values() if values.dtype.kind == "f")
    for axes in figure.axes:
        place = axes.get_subplotspec()
        assert place is not None
        assert not place.is_last_row() or axes.get_xlabel()
        assert not place.is_first_col() or axes.get_ylabel() or figure.get_supylabel()


def test_sampled_errors_agree_with_the_second_moment(arrays):
    numbers = arrays["sketch_error"]
    for panel in ("raw", "standardised"):
        for law in ("optimal", "data_free", "uniform"):
            mean, error, expected = (numbers[f"{panel}_{law}_{name}"] for name in ("mean", "error", "theory"))
            assert (abs(mean - expected) < 5 * error).all()
            assert (expected >= numbers[f"{panel}_optimal_theory"]).all()
        assert (numbers[f"{panel}_top_mean"] <= numbers[f"{panel}_top_theory"]).all()


def test_trained_errors_respect_the_bounds(arrays):
    numbers = arrays["training_error"]

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


def test_the_best_masks_are_ranked(arrays):
    numbers = arrays["existence"]
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


def test_tails_bound_the_frequencies(arrays):
    numbers = arrays["tails"]
    for panel in ("gaussian", "informative"):
        thresholds, exceed = numbers[f"{panel}_thresholds"], numbers[f"{panel}_exceed"] / numbers["masks"]
        assert (np.diff(exceed) <= 0).all()
        assert exceed[-1] == 0
        for bound in ("mcdiarmid", "dkm"):
            allowed = np.interp(thresholds, numbers[f"{panel}_{bound}"], numbers["deltas"], left=1)
            assert (exceed <= allowed).all()
        assert (numbers[f"{panel}_mcdiarmid"] <= numbers[f"{panel}_dkm"]).all()


def test_scores_are_ranked_by_their_efficiency(arrays):
    numbers = arrays["score_efficiency"]
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


def test_names_in_a_figure_do_not_overlap(arrays):
    figure = importlib.import_module("figures.score_efficiency").draw(arrays["score_efficiency"])
    figure.draw_without_rendering()
    texts = [text for text in figure.axes[1].texts if text.get_text() in scores.SCORES]
    boxes = [Text.get_window_extent(text) for text in texts]  # without the line to the point
    assert len(boxes) == len(scores.SCORES)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_tightness_is_the_reports(arrays):
    numbers = arrays["tightness"]
    found = [
        tuple(row) for row in zip(*(numbers[name].tolist() for name in ("claims", "cases", "looseness")), strict=True)
    ]
    expected = [(claim, case, value) for claim, cases in LOOSENESS.items() for case, value in cases.items()]
    assert found == [row for row in expected if row[2] is not None and row[0].startswith("sketch/")]


def test_tightness_verifies_without_a_report(monkeypatch):
    class Number(struct.PyTreeNode):
        x: jax.Array

    claim = Claim(
        id="sketch/twice",
        title="x² is at most 2x²",
        statement="x^2\\le 2x^2",
        sources=(Source("drineas2006matmul"),),
        kind=Bound(),
        cases=(Case("{data}", lambda rng, dataset: Number(rng.uniform(1, 2))),),
        trial=lambda instance, key: {"claim": Sides(jnp.square(instance.x), 2 * jnp.square(instance.x))},
    )
    monkeypatch.setattr(theory, "CATALOGUE", (claim,), raising=False)
    numbers = tightness.data(Config(), jax.random.key(0))
    assert (numbers["claims"].tolist(), numbers["cases"].tolist()) == (["sketch/twice"], ["digits"])
    np.testing.assert_allclose(numbers["looseness"], 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sketch_eror"], "names holds 'sketch_eror'; it takes sketch_error"),
        (["tails", "no-such-thing"], "names holds 'no-such-thing'; it takes containment or existence or"),
        (["tails", "--seed", "-1"], "seed is -1; it takes a whole number from 0"),
        (["tails", "--out", "{file}"], "out is {file}, which cannot be written"),
        (["tightness", "--report", "{file}"], "report is {file}, which is malformed; it takes a verdicts.json"),
        (["tightness", "--report", "{file}.missing"], "report is {file}.missing, which cannot be read (No such file"),
    ],
)
def test_wrong_usage(arguments, message, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("no report")
    arguments = [argument.format(file=file) for argument in arguments]
    if "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert message.format(file=file) in capsys.readouterr().err


def test_wrong_options_exit_with_2():
    with pytest.raises(SystemExit) as ended:
        main(["tails", "--tier", "huge"])
    assert ended.value.code == 2


def test_a_report_without_looseness(tmp_path):
    path = tmp_path / "verdicts.json"
    path.write_text(json.dumps({"claims": []}))
    with pytest.raises(ValueError, match=r"report is .*verdicts.json; it takes one with a looseness"):
        tightness.data(SimpleNamespace(report=path), jax.random.key(0))


def test_containment_is_measured_as_the_formulas_say(arrays):
    """Frequencies against sums over hidden units, and what the theory's widths promise at the rate δ."""
    numbers, inputs = arrays["containment"], containment.NUM_INPUTS

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
