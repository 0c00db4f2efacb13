"""All defects, by subject. A new one is an entry in one of the tables."""

from benchmarks.defects.tables import decisions, kernels, laws, reporting, searches, training

TABLES = {
    "laws of masks, sketches, least squares": laws.DEFECTS,
    "scores, pruning, training": training.DEFECTS,
    "tangent kernels, path kernels": kernels.DEFECTS,
    "lottery tickets, searches, data": searches.DEFECTS,
    "the verifier: how claims are measured and decided": decisions.DEFECTS,
    "the verifier: counterexamples, journals, exit status": reporting.DEFECTS,
}
"""Subject -> its defects."""

DEFECTS = tuple(defect for defects in TABLES.values() for defect in defects)
"""All of them."""
