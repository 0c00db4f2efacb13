"""README.md: its names exist, its example is the tested one, and its shorter code runs."""

import functools
import re
from pathlib import Path

import pytest

import sketchprune

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
NOTATION = TEXT[TEXT.index("## Notation to code") : TEXT.index("## The report")]
NAMES = sorted(set(re.findall(r"(?<![\w.])(?:[a-z_]+\.)+\w+", " ".join(re.findall(r"`([^`]*)`", NOTATION)))))
SNIPPETS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_the_table_of_notation_has_names():
    assert len(NAMES) > 40


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_table_of_notation_exist(name):
    parts = name.removeprefix("sketchprune.").split(".")
    functools.reduce(getattr, parts, sketchprune)


def test_the_example_is_the_one_that_is_tested():
    assert (ROOT / "tests" / "examples" / "my_bounds.py").read_text(encoding="utf-8") in SNIPPETS


def test_code_compiles():
    for snippet in SNIPPETS:
        compile(snippet, "README.md", "exec")


def test_the_first_lines_of_the_library_run():
    (snippet,) = (snippet for snippet in SNIPPETS if "the error of one mask" in snippet)
    names = {}
    exec(snippet, names)
    assert names["mask"].shape == names["w"].shape
    assert 0 < float(names["error"]) < 100 * float(names["expected"])


def test_folders_of_the_house_exist():
    house = TEXT[TEXT.index("## The house") : TEXT.index("## The papers")]
    for path in re.findall(r"`((?:sketchprune|theory|sketchprune_entry|figures|benchmarks|tests)/[\w/.]*)`", house):
        assert (ROOT / path).exists(), path
