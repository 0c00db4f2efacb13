"""Effects on trained networks: observations, paired over seeds, which no theorem promises."""

from theory.catalogue.effects.claims import CONVERGENCE_PREDICTOR as CONVERGENCE_PREDICTOR
from theory.catalogue.effects.claims import EFFICIENCY_PREDICTOR as EFFICIENCY_PREDICTOR
from theory.catalogue.effects.claims import RANDOMISED_BEATS_TOP as RANDOMISED_BEATS_TOP
