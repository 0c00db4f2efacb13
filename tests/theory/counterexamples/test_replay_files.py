"""Counterexamples as files: what is printed with NumPy alone, what is written, and what the next run tries first."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune._files import strict_json
from tests.support.claims import DATA, FALSE, TINY, toy, verdict
from tests.theory.counterexamples.test_balls import GROUPS
from theory.claim import Sides
from theory.cli import main
from theory.counterexamples.numpy_formats import Expression, NoSource, literal
from theory.counterexamples.numpy_source import source
from theory.counterexamples.shrink import Remembered
from theory.kinds import Bound
from theory.report import replays
from theory.report.run import Report, Run, Selected
from theory.verdict import REFUTED, SUPPORTED, Verdict
from theory.verification import verify

RUN = Run(0, "quick", "toys", 0, {})


def printed(program, folder):
    """Both sides, as the file prints them in an interpreter that has neither JAX nor this package."""
    file = folder / "replay.py"
    file.write_text(f"import sys\nsys.modules['jax'] = sys.modules['theory'] = None\n{program}")
    said = subprocess.run([sys.executable, file], cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    lines = [line.split() for line in said.stdout.splitlines()]
    assert [words[0] for words in lines] == ["measured", "theory"] and said.stderr == ""
    return [np.array(words[1:], float) for words in lines]


@pytest.mark.parametrize("name", ["identity", "bound"])
def test_the_file_prints_the_recorded_sides(name, tmp_path):
    found = verdict(replace(FALSE[name], free=("x",))).counterexample.smaller
    assert "translated" in found.program and "not translated" not in found.program
    measured, theory = printed(found.program, tmp_path)
    assert measured[found.component] == pytest.approx(found.measured, rel=1e-12)
    assert theory[found.component] == pytest.approx(found.theory, rel=1e-12)
    assert found.certificate.text in found.program and f"x = {literal(found.values['x'])}" in found.program


def test_a_trial_that_has_no_translation_prints_what_was_recorded(tmp_path):
    claim = toy(Bound(), lambda v, _: Sides(jax.scipy.special.i0e(v.x[0]), jnp.asarray(0.0)), free=("x",))
    found = verdict(claim).counterexample.smaller
    assert "bessel_i0e has no translation" in " ".join(found.program.split())
    measured, theory = printed(found.program, tmp_path)
    assert (measured.item(), theory.item()) == (found.measured, 0)


def test_numbers_that_are_not_finite_are_written_as_numpy_reads_them():
    values = np.array([np.inf, -np.inf, np.nan, -1.5])
    np.testing.assert_array_equal(eval(literal(values)), values)


TRANSLATED = ["arithmetic", "trigonometric", "hyperbolic", "comparisons", "extremes", "reductions", "cumulative",
              "products", "layout", "joining", "maps", "eigenvalues", "derivatives"]  # fmt: skip


@pytest.mark.parametrize("group", TRANSLATED)
def test_numpy_source_computes_what_jax_does(group):
    function, *arguments = GROUPS[group]
    names = ["x", "y"][: len(arguments)]
    program = jax.make_jaxpr(function)(*arguments)
    lines, outputs = source(program, [Expression(*each) for each in zip(names, map(np.shape, arguments), strict=True)])
    values = dict(zip(names, arguments, strict=True)) | {"np": np}
    exec("\n".join(lines), values)
    for text, expected in zip(outputs, jax.tree.leaves(function(*arguments)), strict=True):
        found = eval(text, values)
        assert np.shape(found) == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_short_loops_are_written_step_by_step():
    program = jax.make_jaxpr(lambda x: jax.lax.fori_loop(0, 3, lambda i, r: r * x + i, x))(np.arange(2.0))
    lines, (output,) = source(program, [Expression("x", (2,))])
    values = {"np": np, "x": np.array([2.0, 3.0])}
    exec("\n".join(lines), values)
    np.testing.assert_array_equal(eval(output, values), [((2 * 2 + 0) * 2 + 1) * 2 + 2, ((3 * 3 + 0) * 3 + 1) * 3 + 2])


def test_loops_that_test_their_result_are_not_translated():
    function, *arguments = GROUPS["loops"]
    program = jax.make_jaxpr(function)(*arguments)
    with pytest.raises(NoSource, match="while has no translation"):
        source(program, [Expression("p", np.shape(arguments[0]))])


# --- Files of a report


@pytest.fixture
def refuted():
    claim = replace(FALSE["identity"], free=("x",))
    return Selected(claim, claim.id), verdict(claim)


def test_a_replay_survives_json(refuted):
    _, found = refuted
    written = json.dumps(strict_json(asdict(found)))
    again = Verdict.from_json(json.loads(written)).counterexample
    assert again == found.counterexample and again.smaller.certificate.certified


def test_the_folder_of_replays_holds_what_is_refuted(refuted, tmp_path):
    item, found = refuted
    replays.write_replays(tmp_path, Report(RUN, [(item, found)]))
    folder = tmp_path / replays.REPLAY
    assert sorted(file.name for file in folder.iterdir()) == ["toy-claim.npz", "toy-claim.py"]
    with np.load(folder / "toy-claim.npz") as arrays:
        np.testing.assert_array_equal(arrays["x"], found.counterexample.smaller.values["x"])
    replays.write_replays(tmp_path, Report(RUN, [(item, replace(found, counterexample=None))]))
    assert not list(folder.iterdir())


def test_a_counterexample_is_remembered(refuted, tmp_path):
    item, found = refuted
    assert replays.recall(tmp_path, item, DATA) == (None, "")
    replays.remember(tmp_path, found)
    again, ignored = replays.recall(tmp_path, item, DATA)
    smaller = found.counterexample.smaller
    assert ignored == "" and (again.case, again.enumerated) == (smaller.case, False)
    np.testing.assert_array_equal(again.raw.x, smaller.values["x"])
    assert tuple(again.key) == smaller.key


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda arrays: arrays | {"_case": np.asarray("gone")}, "the claim has no case 'gone'"),
        (lambda arrays: arrays | {"x": np.ones((2, 2))}, "x of case 'vector' has another shape or dtype"),
        (lambda arrays: arrays | {"z": np.ones(2)}, "instances of case 'vector' have other fields"),
        (lambda arrays: None, "is ignored"),
    ],
)
def test_what_no_longer_matches_is_ignored_with_a_sentence(change, reason, refuted, tmp_path):
    item, found = refuted
    replays.remember(tmp_path, found)
    path = tmp_path / replays.COUNTEREXAMPLES / "toy-claim.npz"
    with np.load(path) as arrays:
        changed = change(dict(arrays))
    path.write_bytes(b"no arrays") if changed is None else np.savez(path, **changed)
    remembered, ignored = replays.recall(tmp_path, item, DATA)
    assert remembered is None and reason in ignored and str(path) in ignored


def false_beyond_ten(v, _):
    """True of all instances of the case."""
    return Sides(v.x[0], jnp.asarray(10.0))


def test_what_refuted_a_claim_once_refutes_it_again():
    claim = toy(Bound(), false_beyond_ten)
    assert verdict(claim).verdict == SUPPORTED

    def remembered(first):
        raw = claim.cases[0].make(np.random.default_rng(0), DATA).replace(x=np.array([first, 1.0, 1.0]))
        return Remembered(raw, np.zeros(2, np.uint32), "vector", False)

    found = verify(claim, tier=TINY, data=DATA, remembered=remembered(11.0))
    assert found.verdict == found.cases["vector"].verdict == REFUTED
    assert found.counterexample.found_by == "memory" and found.counterexample.measured == 11
    assert verify(claim, tier=TINY, data=DATA, remembered=remembered(9.0)) == verdict(claim)


MINE = """
import jax.numpy as jnp
from flax import struct
from theory import Bound, Case, Claim, Sides, Source

class Point(struct.PyTreeNode):
    x: jnp.ndarray

CLAIM = Claim(id="my/claim", title="x is at most 1", statement="x\\\\le 1", sources=(Source("A draft"),), kind=Bound(),
    cases=(Case("points", lambda rng, data: Point(rng.uniform(0, 2, 1))),), free=("x",),
    trial=lambda point, _: {"claim": Sides(point.x, jnp.ones(1))})
"""


@pytest.mark.usefixtures("jax_settings")
def test_the_command_shows_the_smaller_counterexample_and_tries_it_next_time(tmp_path, capsys):
    mine, out = tmp_path / "mine.py", tmp_path / "report"
    mine.write_text(MINE)
    command = ["verify", str(mine), "--tier", "quick", "--out", str(out)]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert "made smaller" in said and "x = [2.]" in said and "CERTIFIED, the statement fails by at least 0.5" in said
    page = (out / "index.html").read_text()
    assert "Made smaller" in page and "<b>CERTIFIED</b>" in page and 'href="replay/my-claim.py"' in page
    mine.write_text(MINE.replace("rng.uniform(0, 2, 1)", "rng.uniform(0, 1, 1)"))
    assert main(command) == 1
    assert "found by memory" in capsys.readouterr().out
    mine.write_text(MINE.replace("rng.uniform(0, 2, 1)", "rng.uniform(0, 1, (1, 1))"))
    assert main(command) == 0
    said = capsys.readouterr()
    assert "SUPPORTED" in said.out and "is ignored: x of case 'points' has another shape" in said.err
