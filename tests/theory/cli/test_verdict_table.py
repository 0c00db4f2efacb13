"""The table of verdicts: what a narrow terminal leaves out, and how much of a counterexample is shown."""

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from tests.support.claims import claim
from theory.cli.verdict_table import VerdictTable
from theory.report.remarks import MAX_COUNTEREXAMPLE_LINES
from theory.report.run import Run, Selected
from theory.verdict import REFUTED, SUPPORTED, CaseVerdict, Replay, Verdict

RUN = Run(seed=0, tier="quick", data="digits", data_crc32=7, versions={"sketchprune": "0.1.0", "jax": "0.10.2"})
ITEM = Selected(claim("sketch/a-claim-with-a-rather-long-name"), "sketch/a-claim-with-a-rather-long-name")
CASE = CaseVerdict(SUPPORTED, 4096, 32, 32, 1.0, 2.0, 2.0, None, "rounding")
VERDICT = Verdict(ITEM.claim.id, "bound", SUPPORTED, SUPPORTED, 0.1, {"digits": CASE}, {}, None, 1.0)


def printed(verdict, **options):
    console = Console(file=io.StringIO(), markup=False, highlight=False, no_color=True, **options)
    table = VerdictTable(RUN, [ITEM], console)
    table.begin()
    table.add(ITEM, verdict)
    return console.file.getvalue()


@pytest.mark.parametrize(
    "width, columns",
    [
        (126, ["measured", "theory", "looseness", "resolution", "trials", "mutants", "seconds"]),
        (117, ["measured", "theory", "looseness", "resolution", "mutants", "seconds"]),
        (105, ["measured", "theory", "looseness", "mutants", "seconds"]),
        (60, ["measured", "theory", "mutants", "seconds"]),
    ],
)
def test_a_narrow_terminal_leaves_columns_out_and_cuts_names(width, columns):
    text = printed(VERDICT, width=width, force_terminal=True, color_system=None)
    head = next(line for line in text.splitlines() if line.startswith("  verdict"))
    assert head.split()[2:] == columns
    assert ("sketch/a-claim-with-a-rather-long-name" in text) == (width > 60)


def test_piped_output_has_every_column_whatever_the_width():
    assert " looseness  resolution   trials  mutants  seconds" in printed(VERDICT, width=20)


def test_an_effect_is_shown_beside_its_controls():
    effect = CaseVerdict(SUPPORTED, 16, 16, 16, 0.02, 0.0, math.nan, (0.01, 0.03), "paired")
    control = replace(effect, control=True, verdict=REFUTED, contrast=0.05, contrast_interval=(0.04, 0.06))
    cases = {"digits": effect, "digits, shuffled": control}
    text = printed(Verdict(ITEM.claim.id, "effect", SUPPORTED, None, 0.0, cases, {}, None, 1.0))
    assert "\n  digits: 0.02 in [0.01, 0.03], SUPPORTED\n" in text
    line = "digits, shuffled: 0.02 in [0.01, 0.03], REFUTED; effect − control 0.05 in [0.04, 0.06]"
    assert f"\n  {line}\n" in text


def test_a_long_counterexample_is_cut():
    values = {f"x{i}": [1.0] for i in range(30)}
    found = Replay("digits", 3, "instance", component=0, measured=2.0, theory=1.0, values=values)
    verdict = Verdict(ITEM.claim.id, "bound", REFUTED, SUPPORTED, 0.1, {"digits": CASE}, {}, found, 1.0)
    text = printed(verdict)
    shown = [line for line in text.splitlines() if line.strip().startswith("x")]
    assert len(shown) == MAX_COUNTEREXAMPLE_LINES - 1  # the first line holds both sides
    assert f"… {30 - len(shown)} more lines in verdicts.json" in text
    assert "replay: sketchprune verify sketch/a-claim-with-a-rather-long-name --tier quick --seed 0" in text


def test_a_rate_shows_its_points_and_its_fit():
    slopes = replace(CASE, measured=-1.0, method="slopes", points=((2.0, 3.0), (4.0, 1.5)))
    text = printed(replace(VERDICT, kind="rate", cases={"digits": slopes}))
    assert "\n  case digits: measured 3 at 2, 1.5 at 4; fit 6·size^-1\n" in text


def test_the_progress_line_says_what_is_done_for_the_claim_in_hand():
    first, second = Selected(claim("a/first"), "a/first"), Selected(claim("a/second"), "a/second")
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, color_system=None)
    table = VerdictTable(RUN, [first, second], console)

    def written(*doing):
        file.seek(0)
        file.truncate()
        table.working(*doing)
        return file.getvalue()

    results = table.tracked([(first, 1), (second, 2)])
    assert next(results) == (first, 1)
    assert "a/first: size 4" in written(first, "size 4")
    assert not written(second, "size 16")
    file.truncate(0)
    assert next(results) == (second, 2)
    assert "a/second: size 16" in file.getvalue()
    results.close()
