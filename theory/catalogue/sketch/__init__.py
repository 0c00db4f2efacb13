"""The ``sketch/`` family: masks of linear models are matrix sketches (bar2023sketching, drineas2006matmul).

Loss is ½‖Xw − y‖², a sum; a_i = ‖x_i‖|w_i|, Z = Σa_i, p*_i = a_i/Z, and a mask m acts as m∘w.
"""

from theory.catalogue.effects import (
    RANDOMISED_BEATS_TOP,
    RANDOMISED_BEATS_TOP_ITERATIVE,
    RANDOMISED_HELPS_DATA_FREE_MORE,
    REWEIGHTED_BEATS_TOP,
)
from theory.catalogue.sketch.data_free import DATA_FREE_CLAIMS
from theory.catalogue.sketch.existence import EXISTENCE
from theory.catalogue.sketch.groups import GROUP_CLAIMS
from theory.catalogue.sketch.inclusion import SUCCESSIVE_INCLUSION
from theory.catalogue.sketch.moments import MOMENTS
from theory.catalogue.sketch.tails import TAILS
from theory.catalogue.sketch.trained_means import TRAINED_MEANS
from theory.catalogue.sketch.training import TRAINING

SKETCH = (
    *MOMENTS,
    *GROUP_CLAIMS,
    SUCCESSIVE_INCLUSION,
    *TAILS,
    *TRAINING,
    *TRAINED_MEANS,
    *DATA_FREE_CLAIMS,
    EXISTENCE,
    RANDOMISED_BEATS_TOP,
    RANDOMISED_BEATS_TOP_ITERATIVE,
    RANDOMISED_HELPS_DATA_FREE_MORE,
    REWEIGHTED_BEATS_TOP,
)
