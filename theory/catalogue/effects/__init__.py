"""Effects on trained networks: observations, paired over seeds, which no theorem promises. One arm, one claim."""

from theory.catalogue.effects.claims import EFFICIENCY_PREDICTOR_SAMPLED as EFFICIENCY_PREDICTOR_SAMPLED
from theory.catalogue.effects.claims import EFFICIENCY_PREDICTOR_TOP as EFFICIENCY_PREDICTOR_TOP
from theory.catalogue.effects.claims import PREDICTS_EARLY_TRAINING as PREDICTS_EARLY_TRAINING
from theory.catalogue.effects.claims import PREDICTS_TEST_ERROR as PREDICTS_TEST_ERROR
from theory.catalogue.effects.claims import RANDOMISED_BEATS_TOP as RANDOMISED_BEATS_TOP
from theory.catalogue.effects.claims import REWEIGHTED_BEATS_TOP as REWEIGHTED_BEATS_TOP
