"""Pruning scores: how much a weight matters before training; higher is kept."""

from sketchprune.scores.named import SCORES as SCORES
from sketchprune.scores.named import grasp as grasp
from sketchprune.scores.named import magnitude as magnitude
from sketchprune.scores.named import ntk_sap as ntk_sap
from sketchprune.scores.named import ntk_trace as ntk_trace
from sketchprune.scores.named import path_trace as path_trace
from sketchprune.scores.named import random as random
from sketchprune.scores.named import snip as snip
from sketchprune.scores.named import synflow as synflow
from sketchprune.scores.named import synflow_l2 as synflow_l2
from sketchprune.scores.named import trace_drop as trace_drop
