"""README, CONTRIBUTING and docs/: names exist, the example is the tested one, shorter code runs, notebooks are bare."""

import functools
import json
import re
import sys
from pathlib import Path

import pytest

import sketchprune
from theory import CATALOGUE

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
NOTATION = (DOCS / "notation.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"(?<![\w.])(?:[a-z_]+\.)+\w+", " ".join(re.findall(r"`([^`]*)`", NOTATION)))))
NOTEBOOKS = sorted((DOCS / "tutorials").glob("*.ipynb"))
sys.path.append(str(DOCS / "hooks"))


def _snippets(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_table_of_notation_has_names():
    assert len(NAMES) > 40


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_table_of_notation_exist(name):
    parts = name.removeprefix("sketchprune.").split(".")
    functools.reduce(getattr, parts, sketchprune)


def test_the_example_is_the_one_that_is_tested():
    example = (ROOT / "tests" / "examples" / "my_bounds.py").read_text(encoding="utf-8")
    assert example in _snippets(DOCS / "guides" / "claims.md")
    (short,) = (snippet for snippet in _snippets(ROOT / "README.md") if "Claim(" in snippet)
    assert short in example  # the README shows a part of it


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_compiles(page):
    for snippet in _snippets(page):
        compile(snippet, str(page), "exec")


def test_the_first_lines_of_the_library_run():
    (snippet,) = (snippet for snippet in _snippets(ROOT / "README.md") if "the error of one mask" in snippet)
    assert snippet in _snippets(DOCS / "guides" / "library.md")
    names = {}
    exec(snippet, names)
    assert names["mask"].shape == names["w"].shape
    assert 0 < float(names["error"]) < 100 * float(names["expected"])


def test_folders_of_the_house_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    house = text[text.index("## The house") : text.index("## A law of masks")]
    paths = re.findall(r"`((?:sketchprune|theory|sketchprune_entry|figures|benchmarks|tests)/[\w/.]*)`", house)
    assert len(paths) > 20
    for path in paths:
        assert (ROOT / path).exists(), path


def test_the_citation_has_the_version():
    assert f"\nversion: {sketchprune.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_notebooks_are_kept_without_what_they_print(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert all(
        cell["outputs"] == [] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code"
    )


def test_every_symbol_of_the_index_occurs_in_a_claim():
    import symbols

    for symbol in symbols.SYMBOLS:
        assert any(symbol.occurs_in(claim.statement) for claim in CATALOGUE), symbol.name


def test_docstrings_become_markdown():
    import docstrings

    text = "Sums as :func:`~a.b` does.\n\nCost: O(n).\n\n>>> f(1)\n[1.0]\n\nMore."
    shown = "Sums as `a.b` does.\n\n\n**Cost:** O(n).\n\n```pycon\n>>> f(1)\n[1.0]\n```\n\nMore.\n"
    assert docstrings.as_markdown(text) == shown


def test_the_atlas_has_a_verdict_on_every_claim():
    report = json.loads((DOCS / "verdicts.json").read_text(encoding="utf-8"))
    assert {fields["id"] for fields in report["claims"]} == {claim.id for claim in CATALOGUE}


def test_the_page_of_an_observation_does_not_read_like_a_theorem_that_failed():
    import atlas
    import claim_page

    report = json.loads((DOCS / "verdicts.json").read_text(encoding="utf-8"))
    verdicts = {fields["id"]: atlas._verdict(fields) for fields in report["claims"]}
    pages = {claim: claim_page.page(claim, verdicts[claim.id], report) for claim in CATALOGUE}
    observed = [text.partition("## Mutants")[0] for claim, text in pages.items() if claim.expected is None]
    assert any("at odds" in text for text in observed)
    assert not any("REFUTED" in text or "SUPPORTED" in text for text in observed)
    assert all("at odds" not in text for claim, text in pages.items() if claim.expected is not None)
