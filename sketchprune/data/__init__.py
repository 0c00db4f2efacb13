"""Data: the embedded digits, files of one's own with their test sets, synthetic samples, and their preparation."""

from sketchprune._names import own_names
from sketchprune.data.arrays import MAX_CLASSES as MAX_CLASSES
from sketchprune.data.arrays import from_table as from_table
from sketchprune.data.dataset import Dataset as Dataset
from sketchprune.data.loading import TEST_FRACTION as TEST_FRACTION
from sketchprune.data.loading import has_test_set as has_test_set
from sketchprune.data.loading import hold_out as hold_out
from sketchprune.data.loading import load as load
from sketchprune.data.loading import subset as subset
from sketchprune.data.preparation import gaussian as gaussian
from sketchprune.data.preparation import one_hot as one_hot
from sketchprune.data.preparation import one_vs_rest as one_vs_rest
from sketchprune.data.preparation import standardise as standardise

__dir__ = own_names(__name__)
