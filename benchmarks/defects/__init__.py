"""Mistakes planted in the library and in the verifier, one at a time, with the claim or the test that catches each.

A defect is planted in a copy of the project. The claims that should see it are verified there, and the tests that
should fail run where no claim does. Before that, the same claims and tests have to pass without a defect. What caught a
defect is written to ``benchmarks/results/defects.json`` at once; a run that was interrupted goes on from there, and a
defect runs again when its text, its file or its tests have changed.

A defect that nothing catches asks for a new claim, case or test. A new defect is an entry of one of the tables.
"""

from benchmarks.defects.measurement import Found as Found
from benchmarks.defects.measurement import main as main
from benchmarks.defects.measurement import measured as measured
from benchmarks.defects.tables import DEFECTS as DEFECTS
