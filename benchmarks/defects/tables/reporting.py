"""Defects of what is made of a verdict: counterexamples, certificates, journals, reports, exit statuses."""

from benchmarks.defects.defect import Defect

DEFECTS = (
    Defect(
        "shrinking takes instances that contradict nothing",
        file="theory/counterexamples/shrink.py",
        text="return np.where((found := self.excesses(raws, start.key)) >= required, found, -np.inf)",
        replacement="return np.where((found := self.excesses(raws, start.key)) > -np.inf, 1.0, found)",
        tests=("tests/theory/counterexamples/test_shrink.py::test_the_smallest_counterexample_of_a_bound",),
    ),
    Defect(
        "shrinking takes instances that miss a hypothesis",
        file="theory/counterexamples/shrink.py",
        text="return np.where(admissible, np.max(excess, axis=1, initial=-np.inf), -np.inf)",
        replacement="return np.max(excess, axis=1, initial=-np.inf)",
        tests=("tests/theory/counterexamples/test_shrink.py::test_hypotheses_are_met",),
    ),
    Defect(
        "shrinking takes rounding for a contradiction",
        file="theory/counterexamples/shrink.py",
        text="excess = np.where(self._is_rounding(filled, keys, sides), -np.inf, excess)",
        replacement="pass",
        tests=("tests/theory/counterexamples/test_shrink.py::test_what_rounding_leaves_is_no_counterexample",),
    ),
    Defect(
        "a remembered counterexample refutes whatever it gives now",
        file="theory/counterexamples/shrink.py",
        text="    if not search.excesses([start.raw], start.key)[0] > ROUNDING:\n        return None\n",
        replacement="",
        tests=(
            "tests/theory/counterexamples/test_replay_files.py::test_what_refuted_a_claim_once_refutes_it_again",
            "tests/theory/counterexamples/test_replay_files.py::test_what_no_longer_matches_is_ignored_with_a_sentence",
        ),
    ),
    Defect(
        "CERTIFIED where the upper end of the excess is above 0",
        file="theory/counterexamples/certify.py",
        text="        if found.lowest > 0:\n",
        replacement="        if found.highest > 0:\n",
        tests=(
            "tests/theory/counterexamples/test_certify.py::test_a_smaller_excess_takes_more_bits",
            "tests/theory/counterexamples/test_certify.py::test_what_is_true_is_never_certified",
        ),
    ),
    Defect(
        "a certificate does not look at the hypotheses",
        file="theory/counterexamples/certify.py",
        text="        if not found.admissible:\n",
        replacement="        if False:\n",
        tests=("tests/theory/counterexamples/test_certify.py::test_hypotheses_hold_when_nothing_is_rounded",),
    ),
    Defect(
        "balls compare by their centres",
        file="theory/counterexamples/balls/elementwise.py",
        text="        if a >= b:\n            return False\n        raise Undecided(name)\n",
        replacement="        return bool(a.mid() < b.mid())\n",
        tests=("tests/theory/counterexamples/test_balls.py::test_an_undecided_comparison_is_named",),
    ),
    Defect(
        "the checksum of a journal's line is ignored",
        file="theory/report/journal.py",
        text="    if crc32 != zlib.crc32(_text(entry).encode()):\n",
        replacement="    if False and crc32:\n",
        tests=("tests/theory/report/test_journal.py::test_a_line_that_changed_is_refused",),
    ),
    Defect(
        "a run goes on with verdicts of other settings",
        file="theory/report/journal.py",
        text="    if differences := setting_differences(run, header):\n",
        replacement="    if differences := setting_differences(run, asdict(run)):\n",
        tests=("tests/theory/report/test_journal.py::test_another_run_is_refused_and_its_journal_left_alone",),
    ),
    Defect(
        "data of other values have the same checksum",
        file="sketchprune/_checksums.py",
        text="crc32 = zlib.crc32(array.tobytes(), crc32)",
        replacement="pass",
        tests=("tests/test_checksums.py::test_checksums_see_values_shapes_and_types",),
    ),
    Defect(
        "infinity in a report becomes 0",
        file="sketchprune/_files.py",
        text="return None if isinstance(value, float) and not math.isfinite(value) else value",
        replacement="return 0.0 if isinstance(value, float) and not math.isfinite(value) else value",
        tests=("tests/theory/report/test_journal.py::test_strict_json_of_any_verdict",),
    ),
    Defect(
        "unexpected verdicts end with status 0",
        file="theory/cli/exit_status.py",
        text="return ExitStatus.UNEXPECTED if wrong else ExitStatus.OK",
        replacement="return ExitStatus.OK",
        tests=("tests/theory/cli/test_exit_status.py",),
    ),
    Defect(
        "a refuted claim with an undecided mutant counts as undecided",
        file="theory/cli/exit_status.py",
        text="return verdict.undecided and claim_may_hold and mutants_may_fall",
        replacement="return verdict.undecided",
        tests=("tests/theory/cli/test_exit_status.py",),
    ),
    Defect(
        "a claim that fails with an error does not change the exit status",
        file="theory/cli/exit_status.py",
        text="    if failed:\n        return ExitStatus.UNEXPECTED\n",
        replacement="",
        tests=("tests/theory/cli/test_cli.py::test_a_claim_that_fails_keeps_what_is_finished",),
    ),
    Defect(
        "two runs may write into one folder",
        file="theory/cli/folder.py",
        text="fcntl.LOCK_EX | fcntl.LOCK_NB",
        replacement="fcntl.LOCK_SH | fcntl.LOCK_NB",
        tests=("tests/theory/cli/test_faults.py::test_a_folder_takes_one_run_at_a_time",),
    ),
)
