"""The files that a run leaves: strict, complete, self-contained."""

import csv
import io
import json
import math
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser

import pytest

from sketchprune._files import strict_json
from theory.catalogue import CATALOGUE
from theory.claim import Case, Claim, Source
from theory.kinds import Bound, Effect, Expectation, Identity, Probability, Rate
from theory.report.files import write_report
from theory.report.html import as_html, mathml
from theory.report.references import citation, references
from theory.report.run import Report, Run, Selected
from theory.report.tables import as_csv, as_json
from theory.verdict import REFUTED, SUPPORTED, UNMET, CaseVerdict, Decision, Replay, Verdict

RUN = Run(seed=3, tier="quick", data="digits", data_crc32=7, versions={"sketchprune": "0.1.0", "jax": "0.10.2"})
NAN = math.nan


def case(measured, theory, looseness, interval, method, trials=4096, verdict=SUPPORTED):
    return CaseVerdict(verdict, trials, 32, 32, measured, theory, looseness, interval, method)


KINDS = {
    "identity": (Identity(), case(1e-15, 1e-13, NAN, None, "rounding", trials=0)),
    "bound": (Bound(), case(2.0, 8.0, 4.0, None, "rounding", trials=0)),
    "equal": (Expectation(), case(1.0, 1.01, 1.01, (-0.05, 0.04), "asymptotic")),
    "at-most": (Expectation("at most"), case(1.0, 3.0, 3.0, (-2.0, -1.0), "asymptotic")),
    "probability": (Probability(), case(0.01, 0.05, 5.0, (0.0, 0.02), "exact binomial")),
    "rate": (Rate((2, 4)), case(-0.52, -0.5, NAN, (-0.55, -0.49), "slopes")),
    "effect": (Effect(0.01), case(0.02, -0.01, NAN, (0.01, 0.03), "paired")),
}
CONTROL = CaseVerdict(
    REFUTED, 32, 32, 32, -0.01, -0.01, NAN, (-0.02, 0.0), "paired", True, contrast=0.03, contrast_interval=(0.01, 0.05)
)
NO_INSTANCE = CaseVerdict(UNMET, 0, 32, 0, NAN, NAN, NAN, None, "rounding")


def example(name, **changes):
    kind, digits = KINDS[name]
    effect = name == "effect"
    claim = Claim(
        id=f"sketch/{name}",
        title="Means & <bounds>",
        statement=r"\mathbb{E}\,\lVert X(m\circ w)\rVert^2 \le \sum_{i<d} \frac{a_i^2}{p_i}",
        sources=(Source("drineas2006matmul", "stated", "Lemma 4"),),
        kind=kind,
        cases=(Case("digits", lambda key, data: key), Case("iid", lambda key, data: key)),
        trial=lambda instance, outcome: {},
        mutants=("half",),
        hypotheses={"s ≤ n − 2": lambda instance: True},
        expected=None if effect else "SUPPORTED",
    )
    fields = dict(
        id=claim.id,
        kind=type(kind).__name__.lower(),
        verdict=SUPPORTED,
        expected=claim.expected and Decision(claim.expected),
        tolerance=0.1,
        cases={"digits": digits, "iid": NO_INSTANCE} | ({"digits, a control": CONTROL} if effect else {}),
        mutants={"half": REFUTED},
        counterexample=None,
        elapsed_s=1.5,
    )
    return Selected(claim, claim.id), Verdict(**fields | changes)


COUNTEREXAMPLE = Replay(
    case="digits",
    instance=3,
    found_by="search",
    component=0,
    measured=math.inf,
    theory=1.0,
    values={"w": [[1.0, NAN], [0.5, 2.0]], "s": 3},
)
WRONG = example("bound", verdict=REFUTED, counterexample=COUNTEREXAMPLE)
ALL = [example(name) for name in KINDS if name != "bound"] + [WRONG]
VERDICTS = [verdict for _, verdict in ALL]
REPORT = Report(RUN, ALL)


def with_verdicts(verdicts):
    """The report above, with other verdicts on its claims."""
    return Report(RUN, [(item, verdict) for (item, _), verdict in zip(ALL, verdicts, strict=True)])


def test_json_has_the_documented_fields_and_is_strict():
    report = json.loads(as_json(REPORT), parse_constant=pytest.fail)
    assert list(report) == ["schema", "versions", "seed", "tier", "data", "level", "claims", "failed"]
    for entry, item in zip(report["claims"], (item for item, _ in ALL), strict=True):
        assert list(entry) == [
            "id", "kind", "verdict", "expected", "tolerance", "cases", "mutants", "counterexample", "command",
            "elapsed_s",
        ]  # fmt: skip
        assert set(entry["cases"]["digits"]) >= {
            "verdict", "trials", "admissible", "measured", "theory", "looseness", "interval", "control",
        }  # fmt: skip
        assert entry["command"] == f"sketchprune verify {item.argument} --tier quick --seed 3"
    by_id = {entry["id"]: entry for entry in report["claims"]}
    assert by_id["sketch/effect"]["expected"] is None
    assert by_id["sketch/identity"]["cases"]["iid"]["measured"] is None
    assert by_id["sketch/equal"]["cases"]["digits"]["interval"] == [-0.05, 0.04]
    assert by_id["sketch/bound"]["counterexample"]["measured"] is None
    assert by_id["sketch/bound"]["counterexample"]["values"] == {"w": [[1.0, None], [0.5, 2.0]], "s": 3}


def test_only_elapsed_differs_between_two_runs():
    again = [replace(verdict, elapsed_s=99.0) for verdict in VERDICTS]
    assert as_csv(again) == as_csv(VERDICTS)
    one, two = (re.sub(r'"elapsed_s": .*', "", as_json(report)) for report in (REPORT, with_verdicts(again)))
    assert one == two


def test_csv_has_a_row_a_claim_and_case():
    rows = list(csv.DictReader(io.StringIO(as_csv(VERDICTS))))
    assert [(row["id"], row["case"]) for row in rows] == [(v.id, case) for v in VERDICTS for case in v.cases]
    assert rows[0]["measured"] == "1e-15" and rows[0]["low"] == "" and rows[1]["measured"] == ""
    row = next(row for row in rows if row["id"] == "sketch/effect" and row["case"] == "digits, a control")
    assert (row["contrast"], row["contrast_low"], row["contrast_high"]) == ("0.03", "0.01", "0.05")
    row = next(row for row in rows if row["id"] == "sketch/equal")
    assert (row["low"], row["high"], row["method"]) == ("-0.05", "0.04", "asymptotic")


class Page(HTMLParser):
    """Checks that tags nest; collects ids and links."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.tags = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes[name] for name in ("href", "src") if name in attributes]
        if tag not in ("meta", "br", "link", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_no_other_file_and_its_links_lead_somewhere():
    text = as_html(REPORT)
    page = Page(text)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert {verdict.id for verdict in VERDICTS} <= set(page.ids)
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(|<script[^>]|<link", text)
    assert page.tags.count("math") == len(VERDICTS)
    assert page.tags.count("circle") >= len(VERDICTS)


def test_the_page_says_what_happened():
    text = as_html(REPORT)
    assert "Means &amp; &lt;bounds&gt;" in text
    assert "6 of 7 claims as expected" in text
    assert "Lemma 4, stated there" in text and citation("drineas2006matmul") in text
    assert "asymptotic" in text and "s ≤ n − 2" in text
    assert "found by search" in text and "nan" in text
    assert text.count('<th class="n">effect − control</th>') == 1 and "0.03 in 0.01 … 0.05" in text
    assert "sketchprune verify sketch/bound --tier quick --seed 3" in text


def test_a_resumed_verdict_gives_the_same_files():
    again = [Verdict.from_json(strict_json(asdict(verdict))) for verdict in VERDICTS]
    assert as_json(with_verdicts(again)) == as_json(REPORT)
    assert as_csv(again) == as_csv(VERDICTS)


def test_files_are_written(tmp_path):
    assert write_report(tmp_path, REPORT) == tmp_path / "index.html"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "verdicts.csv", "verdicts.json"]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_an_axis_on_which_its_cases_lie(name):
    item, verdict = example(name)
    drawn = item.claim.kind.axis(verdict)
    assert drawn is not None
    strip = drawn.strips["digits"]
    places = [strip.point, *(strip.interval or ()), *drawn.band, *(place for place, _ in drawn.marks)]
    assert all(0 <= place <= 1 for place in places)
    assert strip.point is not None and drawn.band[0] <= strip.point <= drawn.band[1]
    assert drawn.strips["iid"].point is None and drawn.strips["iid"].interval is None


@pytest.mark.parametrize("name", KINDS)
def test_a_claim_without_numbers_has_no_axis_and_a_page_all_the_same(name):
    item, verdict = example(name, cases={"digits": NO_INSTANCE, "iid": NO_INSTANCE}, verdict=UNMET)
    assert item.claim.kind.axis(verdict) is None
    Page(as_html(Report(RUN, [(item, verdict)])))


def test_an_exact_identity_lies_at_the_left_end():
    exact = case(0.0, 1e-13, NAN, None, "rounding")
    item, verdict = example("identity", cases={"digits": exact, "iid": exact})
    drawn = item.claim.kind.axis(verdict)
    assert drawn is not None and drawn.strips["digits"].point == 0.0


def test_a_violated_bound_lies_outside_the_band():
    broken = case(2.0, 1.0, 0.5, None, "rounding", verdict=REFUTED)
    item, verdict = example("bound", cases={"digits": broken, "iid": NO_INSTANCE}, verdict=REFUTED)
    drawn = item.claim.kind.axis(verdict)
    assert drawn is not None and (point := drawn.strips["digits"].point) is not None and point < drawn.band[0]


def test_unknown_latex_is_an_error_and_the_page_shows_its_source():
    with pytest.raises(ValueError, match=r"statement is .*; it takes LaTeX that latex2mathml knows"):
        mathml(r"\nosuchcommand x")
    item, verdict = example("bound")
    odd = replace(item, claim=replace(item.claim, statement=r"\nosuchcommand <x>"))
    assert r"<code>\nosuchcommand &lt;x&gt;</code>" in as_html(Report(RUN, [(odd, verdict)]))


@pytest.mark.parametrize("formula", [r"\log\frac1p", r"\log n", r"\log_2\frac1p"])
def test_a_logarithm_is_apart_from_its_argument(formula):
    assert re.search(r'log</mi>(<mn>2</mn></msub>)?<mspace width="0.17em"/>', mathml(formula))
    assert "mspace" not in mathml(formula.replace("\\frac1p", "(p)").replace(" n", "(n)"))


PAPERS = {
    "bar2023sketching", "gebhart2021paths", "gonon2024pathmetrics", "gadhikar2023random", "drineas2006matmul",
    "tropp2015concentration", "lee2019wide", "jacot2018ntk", "tanaka2020synflow", "lee2019snip",
    "wang2020grasp", "wang2023ntksap",
    "patil2021phew", "yang2023prunedntk", "lueker1998subsetsum", "pensia2020subsetsum", "evci2020rigl",
    "mocanu2018set", "frankle2019lottery", "ramanujan2020hidden", "zhu2018prune",
    "moka2022combss",
}  # fmt: skip


def test_the_bibliography_is_complete():
    assert set(references()) == PAPERS
    for key, entry in references().items():
        assert {"title", "year"} <= set(entry.fields)
        assert entry.fields["year"] in key
        assert key.startswith(entry.persons["author"][0].last_names[0].lower())
        assert not re.search(r"[{}\\]", citation(key))


def test_every_claim_of_the_catalogue_can_be_reported():
    for claim in CATALOGUE:
        mathml(claim.statement)
        for source in claim.sources:
            citation(source.key)
