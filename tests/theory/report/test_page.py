"""What the page says: observations in words of their own, what is folded, and what changed since the last report."""

import json
import math
import re
from dataclasses import replace

import pytest

from tests.support.catalogue_report import DISAGREES, SURVIVED, UNDECIDED, WRONG, catalogue_report
from theory.report.files import write_report
from theory.report.html import OBSERVED, as_html
from theory.report.run import Report
from theory.report.tables import VERDICTS
from theory.verdict import REFUTED, SUPPORTED, VACUOUS, Verdict

REPORT = catalogue_report()
HEADING = "Since the last report in this folder"


@pytest.fixture(scope="module")
def page():
    return as_html(REPORT)


def of(ids, **changes):
    """The report with these claims alone; ``changes`` from an id, with "/" and "-" as "_", to fields of its verdict."""
    chosen = [(item, verdict) for item, verdict in REPORT.verdicts if verdict.id in ids]
    fields = {verdict.id: changes.get(re.sub("[/-]", "_", verdict.id), {}) for _, verdict in chosen}
    return Report(REPORT.run, [(item, replace(verdict, **fields[verdict.id])) for item, verdict in chosen])


def badges(text):
    return set(re.findall(r'<span class="badge \w+">([^<]+)</span>', text))


def test_the_whole_catalogue_fits_into_a_page_of_five_megabytes(page):
    assert len(page.encode()) < 5e6
    assert page.count('class="claim ') == len(REPORT.verdicts)


def test_observations_have_words_of_their_own(page):
    theorems, observations = page.split("<h2>Observations</h2>")
    observations = observations.split('<h2 id="words">')[0]
    assert not badges(theorems) & set(OBSERVED.values()) and {SUPPORTED, REFUTED} <= badges(theorems)
    of_mutants = {REFUTED}
    assert badges(observations) <= set(OBSERVED.values()) | of_mutants
    assert observations.count("What the paper says") == sum(v.expected is None for _, v in REPORT.verdicts)
    item, verdict = next(each for each in REPORT.verdicts if each[1].id == DISAGREES)
    (claim,) = re.findall(rf'<details class="claim seen" data-id="{DISAGREES}".*?</summary>', page, re.DOTALL)
    assert "at odds" in claim and "mean difference 0.02 in [0.01, 0.03]" in claim and item.claim.title in claim
    assert verdict.verdict == REFUTED


def test_only_what_is_unexpected_is_open(page):
    opened = re.findall(r'<details class="claim \w+" open data-id="([^"]+)"', page)
    assert set(opened) == {WRONG, UNDECIDED, SURVIVED}


def test_every_kind_of_number_is_text_beside_its_plot(page):
    assert page.count("<svg") > 150 and page.count('role="img"') == page.count("<svg")
    assert page.count("aria-label=") >= page.count("<svg")
    assert "heat mask" in page and "kept [10×12]" in page


def test_the_first_report_in_a_folder_has_nothing_to_compare_with(tmp_path):
    assert HEADING not in write_report(tmp_path, of({WRONG})).read_text()


def test_the_page_says_what_changed_since_the_last_report(tmp_path):
    write_report(tmp_path, of({WRONG, "sketch/top-k", "paths/gram"}))
    again = write_report(tmp_path, of({WRONG, "sketch/top-k", "paths/gram"})).read_text()
    assert HEADING in again and "No verdict changed on the 3 claims that both reports have." in again
    item, verdict = next(each for each in REPORT.verdicts if each[1].id == "sketch/top-k")
    drifted = {
        name: replace(case, looseness=3 * case.looseness, verdict=VACUOUS) if math.isfinite(case.looseness) else case
        for name, case in verdict.cases.items()
    }
    text = write_report(tmp_path, of({WRONG, "sketch/top-k"}, sketch_top_k={"cases": drifted, "elapsed_s": 500.0}))
    text = text.read_text().split(HEADING)[1].split('id="controls"')[0]
    moved = sum(math.isfinite(case.looseness) for case in verdict.cases.values())
    assert moved > 2 and text.count(f"<td>{SUPPORTED}</td><td><b>{VACUOUS}</b></td>") == moved
    assert f"by more than a factor 1.01 in {moved} cases" in text
    assert '<a class="id link" href="#sketch/top-k">sketch/top-k, case ' in text
    assert '<span class="id">paths/gram</span>' in text and "are not in this one" in text


def test_a_change_of_an_observation_is_in_its_words(tmp_path):
    write_report(tmp_path, of({DISAGREES}, lottery_edge_popup={"verdict": SUPPORTED}))
    text = write_report(tmp_path, of({DISAGREES})).read_text().split(HEADING)[1].split('id="controls"')[0]
    assert "<td>in agreement</td><td><b>at odds</b></td>" in text and REFUTED not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda report: report.update(schema=3), "whose schema is 3; it takes schema 4"),
        (lambda report: report["claims"][0].pop("verdict"), "which lacks fields of a report"),
        (lambda report: report.update(claims=[1]), "which lacks fields of a report"),
        (lambda report: report.clear(), "which holds no verdicts"),
    ],
)
def test_a_last_report_that_cannot_be_compared_is_named_and_written_over(tmp_path, change, words):
    write_report(tmp_path, of({WRONG}))
    report = json.loads((tmp_path / VERDICTS).read_text())
    change(report)
    (tmp_path / VERDICTS).write_text(json.dumps(report))
    text = write_report(tmp_path, of({WRONG})).read_text()
    assert f"{HEADING}</h2>" in text and words in text
    assert json.loads((tmp_path / VERDICTS).read_text())["schema"] == 4


def test_what_is_drawn_comes_back_from_the_files(tmp_path):
    write_report(tmp_path, REPORT)
    entries = json.loads((tmp_path / VERDICTS).read_text())["claims"]
    again = {
        entry["id"]: Verdict.from_json({name: value for name, value in entry.items() if name != "command"})
        for entry in entries
    }
    for _, verdict in REPORT.verdicts:
        assert {name: (case.points, case.looseness_quantiles) for name, case in again[verdict.id].cases.items()} == {
            name: (case.points, case.looseness_quantiles) for name, case in verdict.cases.items()
        }
