"""The files of a figure: numbers as CSV, how it was made as JSON, the mark of a refuted claim, and the gallery."""

import csv
import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest
from matplotlib.figure import Figure

from figures import _style
from figures.__main__ import FIGURES, main
from figures._config import Config
from figures._files import as_csv
from sketchprune._files import strict_json
from tests.support.figure_reports import REFUTED_CLAIM, write_report
from theory import CATALOGUE, verify

pytestmark = pytest.mark.usefixtures("jax_settings")


def test_columns_hold_every_number(made, folder):
    arrays = made("sketch_error")
    with open(folder / "sketch_error.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for name, values in arrays.items():
        column = [float(row[name]) for row in rows if row[name]]
        np.testing.assert_array_equal(column, values)


def test_trailing_axes_become_columns():
    cube = np.arange(12).reshape(2, 3, 2)
    rows = list(csv.reader(as_csv({"cube": cube, "one": np.array("β, γ")}).splitlines()))
    assert rows[0] == [f"cube[{i},{j}]" for i in range(3) for j in range(2)] + ["one"]
    assert rows[1:] == [[*map(str, cube[0].ravel()), "β, γ"], [*map(str, cube[1].ravel()), ""]]


def test_the_sidecar_says_how_the_figure_was_made(made, folder, report):
    made("sketch_error")
    sidecar = json.loads((folder / "sketch_error.json").read_text())
    assert (sidecar["seed"], sidecar["scale"], sidecar["settings"]) == (0, "tiny", "32")
    assert sidecar["data"] == {"name": "digits", "samples": 1797, "features": 64}
    assert sidecar["report"] == str(report) and sidecar["versions"]["jax"] and sidecar["hardware"]
    assert sidecar["claims"]["sketch/second-moment"]["verdict"] == "SUPPORTED"
    assert sidecar["claims"][REFUTED_CLAIM]["verdict"] == "REFUTED"


def test_a_refuted_claim_is_said_on_the_figure(made, monkeypatch, tmp_path, report):
    drawn = {}
    for name in ("sketch_error", "tails"):
        made(name)
    monkeypatch.setattr("figures._files.save", lambda figure, path: drawn.setdefault(path.stem, figure))
    for name in ("sketch_error", "tails"):
        assert main([name, "--scale", "tiny", "--out", str(tmp_path), "--report", str(report)]) == 0
    texts = {name: [text.get_text() for text in figure.texts] for name, figure in drawn.items()}
    assert texts["sketch_error"] == [f"REFUTED on digits: {REFUTED_CLAIM}"]
    assert texts["tails"] == []


@pytest.mark.parametrize("label", ["", "a label of the whole figure"])
def test_the_mark_covers_nothing(label):
    with _style.style():
        figure = Figure(figsize=(3.25, 2))
        axes = figure.subplots()
        axes.set(xlabel="steps", ylabel="error")
        if label:
            figure.supxlabel(label, fontsize="medium")
        figure.draw_without_rendering()
        panel = axes.get_window_extent().height
        _style.stamp(figure, ["sketch/one", "sketch/two"], "digits")
        figure.draw_without_rendering()
    *labels, mark = sorted(figure.texts, key=lambda text: "REFUTED" in text.get_text())
    boxes = [axes.get_tightbbox(), *(text.get_window_extent() for text in labels)]
    assert len(labels) == bool(label)
    assert not any(one.overlaps(other) for one, other in itertools.combinations([mark.get_window_extent(), *boxes], 2))
    assert figure.bbox.contains(*mark.get_window_extent().min)
    assert axes.get_window_extent().height == pytest.approx(panel, rel=0.05)


def as_fields(verdict):
    """All but the time; nan equals nan."""
    return strict_json(asdict(verdict)) | {"elapsed_s": 0}


def test_claims_without_a_report_are_verified(tmp_path):
    """A report that lacks a claim: it is verified, with the data and the seed of the run."""
    (claim,) = (claim for claim in CATALOGUE if claim.id == "sketch/data-free")
    path = write_report(tmp_path / "verdicts.json", [])
    verdict = Config(seed=3, report=path).verdict(claim.id)
    assert as_fields(verdict) == as_fields(verify(claim, seed=3))


def test_a_report_of_other_data_is_refused(tmp_path):
    path = write_report(tmp_path / "verdicts.json", CATALOGUE[:1], data="elsewhere/fashion-mnist")
    with pytest.raises(ValueError, match="of the data fashion-mnist; it takes one of digits"):
        Config(report=path).verdict(CATALOGUE[0].id)


def test_a_report_of_another_schema_is_refused(tmp_path):
    path = write_report(tmp_path / "verdicts.json", CATALOGUE[:1], schema=3)
    with pytest.raises(ValueError, match="verdicts.json, whose schema is 3; it takes schema 4"):
        Config(report=path).verdict(CATALOGUE[0].id)


def test_the_gallery_shows_what_the_folder_holds(made, folder):
    for name in ("sketch_error", "tails"):
        made(name)
    text = (folder / "gallery.md").read_text()
    assert all(f"![{name}]({name}.png)" in text for name in ("sketch_error", "tails"))
    assert f"`{REFUTED_CLAIM}`: REFUTED" in text
    assert text.count("## ") == len(list(folder.glob("*.png"))) <= len(FIGURES)


def test_a_figure_that_fails_leaves_the_others(monkeypatch, tmp_path, report, capsys):
    def data(config, key):
        raise ValueError("no such luck")

    monkeypatch.setattr("figures.tails.data", data)
    assert main(["tails", "tightness", "--scale", "tiny", "--out", str(tmp_path), "--report", str(report)]) == 1
    assert (tmp_path / "tightness.png").exists() and not (tmp_path / "tails.png").exists()
    assert "tails failed: ValueError: no such luck" in capsys.readouterr().err
