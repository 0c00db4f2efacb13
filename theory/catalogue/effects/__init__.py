"""Effects on trained networks: observations, paired over seeds, which no theorem promises. One arm, one claim."""

from theory.catalogue.effects.drawing import RANDOMISED_BEATS_TOP as RANDOMISED_BEATS_TOP
from theory.catalogue.effects.drawing import RANDOMISED_BEATS_TOP_ITERATIVE as RANDOMISED_BEATS_TOP_ITERATIVE
from theory.catalogue.effects.drawing import RANDOMISED_HELPS_DATA_FREE_MORE as RANDOMISED_HELPS_DATA_FREE_MORE
from theory.catalogue.effects.drawing import REWEIGHTED_BEATS_TOP as REWEIGHTED_BEATS_TOP
from theory.catalogue.effects.efficiency import EFFICIENCY_PREDICTOR_SAMPLED as EFFICIENCY_PREDICTOR_SAMPLED
from theory.catalogue.effects.efficiency import EFFICIENCY_PREDICTOR_TOP as EFFICIENCY_PREDICTOR_TOP
from theory.catalogue.effects.least_bound import LEAST_BOUND_SNIP as LEAST_BOUND_SNIP
from theory.catalogue.effects.least_bound import LEAST_BOUND_SYNFLOW as LEAST_BOUND_SYNFLOW
from theory.catalogue.effects.path_traces import PREDICTS_EARLY_TRAINING as PREDICTS_EARLY_TRAINING
from theory.catalogue.effects.path_traces import PREDICTS_TEST_ERROR as PREDICTS_TEST_ERROR
from theory.catalogue.effects.path_traces import TRACE_MOVES as TRACE_MOVES
from theory.catalogue.effects.ratios import RATIOS_BALANCED as RATIOS_BALANCED
from theory.catalogue.effects.ratios import RATIOS_PYRAMIDAL as RATIOS_PYRAMIDAL
from theory.catalogue.effects.tickets import EDGE_POPUP as EDGE_POPUP
from theory.catalogue.effects.tickets import SPARSE_TO_SPARSE_GRADUAL as SPARSE_TO_SPARSE_GRADUAL
from theory.catalogue.effects.tickets import SPARSE_TO_SPARSE_IMP as SPARSE_TO_SPARSE_IMP
from theory.catalogue.effects.tickets import SPARSE_TO_SPARSE_RIGL as SPARSE_TO_SPARSE_RIGL
