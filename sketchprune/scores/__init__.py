"""Pruning scores: how much each weight matters before training; higher is kept."""

from sketchprune._names import own_names
from sketchprune.scores.contract import Pruned as Pruned
from sketchprune.scores.contract import Score as Score
from sketchprune.scores.contract import score as score
from sketchprune.scores.flow import path_trace as path_trace
from sketchprune.scores.flow import synflow as synflow
from sketchprune.scores.flow import synflow_l2 as synflow_l2
from sketchprune.scores.flow import trace_drop as trace_drop
from sketchprune.scores.gradient import grasp as grasp
from sketchprune.scores.gradient import snip as snip
from sketchprune.scores.kernel import ntk_sap as ntk_sap
from sketchprune.scores.kernel import ntk_trace as ntk_trace
from sketchprune.scores.simple import magnitude as magnitude
from sketchprune.scores.simple import random as random
from sketchprune.scores.table import SCORES as SCORES

__dir__ = own_names(__name__)
