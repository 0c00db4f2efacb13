"""All scores by name."""

from sketchprune.scores.contract import Score
from sketchprune.scores.flow import path_trace, synflow, synflow_l2, trace_drop
from sketchprune.scores.gradient import grasp, snip
from sketchprune.scores.kernel import ntk_sap, ntk_trace
from sketchprune.scores.simple import magnitude, random

SCORES: dict[str, Score] = {
    "random": random,
    "magnitude": magnitude,
    "snip": snip,
    "grasp": grasp,
    "synflow": synflow,
    "synflow_l2": synflow_l2,
    "path_trace": path_trace,
    "trace_drop": trace_drop,
    "ntk_trace": ntk_trace,
    "ntk_sap": ntk_sap,
}
"""Every score by name, with its default options."""
