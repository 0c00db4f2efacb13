"""Data sets made of arrays that have names, as those of an .npz file or of a scikit-learn Bunch, and of tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sketchprune._boundary import checked
from sketchprune.data.dataset import Dataset

MAX_CLASSES = 2**15
"""The most classes of a data set: one-hot targets have a column for each."""
NAMES = (("x", "y"), ("x_train", "y_train"), ("images", "target"), ("data", "target"))
"""What samples and labels are called: plainly, by Keras, and by scikit-learn, whose images are its data in shape."""
TEST_NAMES = ("x_test", "y_test")
"""What samples and labels of a test set are called, everywhere."""


def training_names(found: Any) -> tuple[str, str]:
    """The names of samples and labels among those found; of the first that are there in part, where none are whole.

    Args:
        found: names of arrays; what ``in`` works on.

    Returns:
        The names of the samples and of the labels, a pair of ``NAMES``.

    >>> training_names({"x_test", "y_test", "x_train", "y_train"})
    ('x_train', 'y_train')
    """
    whole = [names for names in NAMES if set(names) <= set(found)]
    partly = [names for names in NAMES if set(names) & set(found) and "images" not in names]
    return (*whole, *partly, NAMES[0])[0]


def from_arrays(source: str, names: Sequence[str], arrays: Mapping[str, Any], name: str) -> Dataset:
    """A data set from arrays of samples and of labels.

    Args:
        source: what messages call where the arrays are.
        names: of the samples and of the labels.
        arrays: by name; what NumPy makes arrays of.
        name: of the data set.

    Returns:
        The data set, with samples [n, d] and labels [n] in int64.

    Raises:
        ValueError: An array is missing or malformed; the message names it.
    """
    for each in names:
        if each not in arrays:
            raise ValueError(f"{source} has no array {each!r}; it takes arrays {' and '.join(names)}")
    x, y = (_array(f"{each} of {source}", arrays[each]) for each in names)
    x = _checked_samples(f"{names[0]} of {source}", x)
    if y.ndim != 1:
        raise ValueError(f"{names[1]} of {source} has shape {y.shape}; it takes one label for each sample, [n]")
    if len(x) != len(y):
        raise ValueError(
            f"{names[0]} of {source} has {len(x)} samples and {names[1]} has {len(y)} labels; it takes as many of each"
        )
    labels = _checked_labels(f"{names[1]} of {source}", y)
    image_shape = () if x.ndim == 2 else (*x.shape[1:], 1)[:3]
    return Dataset(x.reshape(len(x), -1), labels, name, int(labels.max()) + 1, image_shape)


def like_training(found: Dataset, training: Dataset, source: str, names: Sequence[str]) -> Dataset:
    """A test set with the dtype, the name and the classes of its training set.

    Args:
        found: the test set.
        training: the training set.
        source: what messages call where they are.
        names: what messages call the samples and the labels.

    Returns:
        The test set.

    Raises:
        ValueError: Samples of another shape, and labels that are not among the classes of the training set.
    """
    if found.x.shape[1:] != training.x.shape[1:] or found.image_shape != training.image_shape:
        shapes = [tuple(each.image_shape or each.x.shape[1:]) for each in (found, training)]
        raise ValueError(
            f"{names[0]} of {source} has samples of shape {shapes[0]}; it takes {shapes[1]}, as the training set has"
        )
    if (largest := int(found.y.max())) >= training.num_classes:
        raise ValueError(
            f"{names[1]} of {source} has the label {largest}; "
            f"it takes 0 to {training.num_classes - 1}, the classes of the training set"
        )
    x = np.asarray(found.x, training.x.dtype)
    return Dataset(x, found.y, training.name, training.num_classes, training.image_shape)


@checked
def from_table(table: Any, labels: str, *, name: str = "table", training: Dataset | None = None) -> Dataset:
    """A data set from a table with a column of labels: a pandas or Arrow table, or columns by name.

    The other columns are the features, in their order. Everything goes through NumPy, so that neither library is
    needed. :func:`hold_out` divides a table without a test set.

    Args:
        table: what has column names and gives a column for each: pandas.DataFrame, pyarrow.Table, a mapping.
        labels: the column with the labels 0, 1, ….
        name: of the data set.
        training: the training set, where the table is its test set, which then has its name, dtype and classes.

    Returns:
        The data set, of plain features, in the dtype that holds all columns; those that are not floating are float64.

    Raises:
        ValueError: No such column, no other column, columns that are no finite numbers, labels that are no whole
            numbers >= 0 or not among those of the training set; the message names the column.

    Example:
        >>> flowers = {"width": np.array([0.5, 1.5]), "length": np.array([2, 3]), "kind": np.array([0, 1])}
        >>> found = from_table(flowers, "kind")
        >>> found.x.tolist(), found.y.tolist()
        ([[0.5, 2.0], [1.5, 3.0]], [0, 1])
    """
    known = table if isinstance(table, Mapping) else getattr(table, "column_names", getattr(table, "columns", None))
    if known is None:
        raise ValueError(f"table is of {type(table)}; it takes a pandas or Arrow table, or columns by name")
    columns = list(known)
    features = [column for column in columns if column != labels]
    if labels not in columns or not features:
        raise ValueError(f"labels is {labels!r} of the columns {columns}; it takes one of them, beside the features")
    parts = [_checked_column(f"column {column!r} of {name}", np.asarray(table[column])) for column in features]
    arrays = {"x": np.stack(parts, axis=1), f"column {labels!r}": np.asarray(table[labels])}
    found = from_arrays(name, tuple(arrays), arrays, name)
    return found if training is None else like_training(found, training, name, tuple(arrays))


def _array(name: str, values: Any) -> np.ndarray:
    """The values as NumPy has them."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read ({error}); it takes a rectangular array of numbers") from error


def _checked_samples(name: str, x: np.ndarray) -> np.ndarray:
    """The samples as floating numbers. Raises ValueError for what is no array of finite numbers."""
    if x.ndim not in (2, 3, 4):
        raise ValueError(f"{name} has shape {x.shape}; it takes [n, d], [n, h, w] or [n, h, w, c]")
    if not x.size:
        raise ValueError(f"{name} has shape {x.shape} and is empty; it takes at least one number")
    return _checked_numbers(name, x)


def _checked_column(name: str, values: np.ndarray) -> np.ndarray:
    """The numbers of a column. Raises ValueError for several columns of one name, and for columns of arrays."""
    if values.ndim != 1:
        raise ValueError(f"{name} has shape {values.shape}; it takes one number for each sample, [n]")
    return _checked_numbers(name, values)


def _checked_numbers(name: str, values: np.ndarray) -> np.ndarray:
    """Finite floating numbers."""
    if not np.issubdtype(values.dtype, np.floating):
        if not (np.issubdtype(values.dtype, np.integer) or values.dtype == bool):
            raise ValueError(f"{name} has dtype {values.dtype}; it takes real numbers")
        values = values.astype(np.float64)
    if wrong := int((~np.isfinite(values)).sum()):
        raise ValueError(f"{name} has {wrong} NaN or infinite entries; it takes finite numbers")
    return values


def _checked_labels(name: str, y: np.ndarray) -> np.ndarray:
    """The labels as int64. Raises ValueError for what are no whole numbers >= 0."""
    takes = "it takes the labels 0, 1, …"
    if not (np.issubdtype(y.dtype, np.integer) or np.issubdtype(y.dtype, np.floating)):
        numbers = "; np.unique(y, return_inverse=True)[1] numbers names, of training and test labels together"
        raise ValueError(f"{name} has dtype {y.dtype}; {takes}{numbers}")
    wrong = y[~((y >= 0) & (y < MAX_CLASSES) & (y == np.floor(y)))]
    if wrong.size:
        raise ValueError(f"{name} has the entry {wrong[0]}; {takes}, below {MAX_CLASSES}")
    return y.astype(np.int64)
