"""CONTRIBUTING.md: every skeleton is short, complete, and runs with the check that follows it."""

import importlib
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from figures._config import Config
from sketchprune import laws, prune, scores, search
from sketchprune.search.problems import law_names
from theory import verify
from theory.cli.select import claims_of
from theory.report.html import as_html
from theory.report.run import Report, Run, Selected

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))
LAW, SCORE, CLAIM, KIND = CHECKS = re.findall(r"^(?!`)[^\n]*:\n\n```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
MAX_LINES = 25
"""Lines of code in a skeleton, without blank lines and docstrings."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with every skeleton, from which they can be imported; what was imported is forgotten afterwards."""
    folder = tmp_path_factory.mktemp("contributed")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    for name in set(sys.modules) - before:
        if name + ".py" in FILES:
            del sys.modules[name]


def contributed(name):
    return importlib.import_module(name)


def test_there_is_a_skeleton_of_each():
    assert list(FILES) == [
        "all_or_nothing.py", "gradient_size.py", "operator_norm.py", "lower_bound.py", "spectrum.py",
    ]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_skeletons_are_short(name):
    code = re.sub(r'""".*?"""', "", FILES[name], flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= MAX_LINES


def run(check):
    """What a check defines."""
    names = {}
    exec(compile(check, "CONTRIBUTING.md", "exec"), names)
    return names


@pytest.mark.parametrize("check", [LAW, SCORE, CLAIM], ids=("law", "score", "claim"))
def test_checks_pass(folder, check):
    run(check)


def test_a_kind_is_decided_and_explained_in_the_report(folder):
    claim = run(KIND)["reversed_claim"]
    verdict = verify(claim)
    assert verdict.verdict == "REFUTED" and verdict.kind == "lower-bound"
    item = Selected(claim, claim.id)
    page = as_html(Report(Run(0, "quick", "digits", 0, {}), [(item, verdict)]))
    words = ("<td>lower-bound</td>", ">median of the measured side</td>", ">median bound</td>")
    assert all(word in page for word in words)


def test_a_law_is_searched_and_pruned_with(folder):
    law = contributed("all_or_nothing").AllOrNothing.proportional(jnp.ones(4), 2)
    found = search.best(lambda mask: jnp.sum(mask), law, 512, key=jax.random.key(0), num_best=2)
    assert found.values.tolist() == [0, 0]
    assert abs(found.mean - 4) < 5 * np.sqrt(found.variance / 512)
    sampler = prune.proportional(type(law))
    mask = sampler(jax.random.key(1), jnp.ones(4), 2)
    assert set(np.unique(mask)) <= {0.0, 2.0}


def test_a_law_in_the_table_is_known_by_name(folder, monkeypatch):
    law = contributed("all_or_nothing").AllOrNothing
    monkeypatch.setitem(laws.LAWS, "all-or-nothing", law)
    assert "all-or-nothing" in law_names()


def test_a_score_prunes(folder):
    score = contributed("gradient_size").gradient_size
    params = {"kernel": jnp.asarray([[1.0, 2.0], [3.0, 4.0]])}
    x = jnp.asarray([[1.0, 10.0]])
    mask = prune.one_shot(
        score, lambda params, x: x @ params["kernel"], lambda outputs, y: jnp.sum(outputs), params, (x, None), 2
    )
    assert mask["kernel"].tolist() == [[False, False], [True, True]]
    assert score.__name__ not in scores.SCORES


def test_a_claim_of_a_file_is_verified(folder):
    (item,) = claims_of(str(folder / "operator_norm.py"), ())
    verdict = verify(item.claim)
    assert verdict.verdict == "SUPPORTED" and set(verdict.mutants.values()) == {"REFUTED"}
    assert verdict.kind == "bound" and list(verdict.cases) == ["digits"]


def test_a_figure_is_found_and_drawn(folder, monkeypatch):
    import figures
    from figures.__main__ import names_of_figures

    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(folder)])
    assert "spectrum" in names_of_figures()
    module = importlib.import_module("figures.spectrum")
    monkeypatch.delitem(sys.modules, "figures.spectrum")
    arrays = module.data(Config(scale="tiny"), jax.random.key(0))
    assert arrays["values"].shape == (64,) and arrays["values"][0] == 1
    assert isinstance(module.draw(arrays), Figure)
