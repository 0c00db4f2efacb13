"""Data as people have it: Keras's and scikit-learn's names, tables, and pickles that are not read."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris

from sketchprune import data

rng = np.random.default_rng(0)
KERAS = {
    "x_train": rng.integers(0, 256, (20, 4, 3), np.uint8),
    "y_train": np.arange(20, dtype=np.uint8) % 4,
    "x_test": rng.integers(0, 256, (6, 4, 3), np.uint8),
    "y_test": np.arange(6, dtype=np.uint8) % 3,
}


@pytest.mark.parametrize("form", ["file", "mapping"])
def test_the_names_of_keras(tmp_path, form):
    source = KERAS
    if form == "file":
        source = tmp_path / "mnist.npz"
        np.savez(source, **KERAS)
    train, test, whole = data.load(source, "train"), data.load(source, "test"), data.load(source)
    assert data.has_test_set(source)
    np.testing.assert_array_equal(train.images[..., 0], KERAS["x_train"])
    np.testing.assert_array_equal(test.images[..., 0], KERAS["x_test"])
    np.testing.assert_array_equal(whole.x, train.x)
    assert train.num_classes == test.num_classes == 4 and test.y.tolist() == KERAS["y_test"].tolist()
    assert train.x.dtype == test.x.dtype == np.float64 and train.y.dtype == np.int64
    assert train.name == test.name == ("mnist" if form == "file" else "arrays")


@pytest.mark.parametrize("as_frame", [False, True])
def test_a_bunch_of_scikit_learn(as_frame):
    if as_frame:
        pytest.importorskip("pandas")
    found = data.load(load_iris(as_frame=as_frame))
    assert found.x.shape == (150, 4) and found.num_classes == 3 and not found.image_shape
    np.testing.assert_array_equal(found.x, load_iris().data)
    train, test = (data.load(load_iris(as_frame=as_frame), part) for part in ("train", "test"))
    assert (len(train.x), len(test.x)) == (120, 30) and not data.has_test_set(load_iris())


def test_a_bunch_of_images_keeps_their_shape(tmp_path):
    digits = load_digits()
    for found in (data.load(digits), data.load({"images": digits.images, "target": digits.target})):
        np.testing.assert_array_equal(found.x, data.load().x)
        assert found.image_shape == (8, 8, 1)
    np.savez(tmp_path / "digits.npz", **{name: digits[name] for name in ("data", "target", "images")})
    np.testing.assert_array_equal(data.load(tmp_path / "digits.npz").images, data.load().images)


COLUMNS = {"a": np.array([0.5, 1.5, 2.5]), "kind": np.array([0, 2, 1]), "b": np.array([1, 2, 3])}


def tables(library):
    """The columns as a table of a library."""
    if library == "mapping":
        return COLUMNS
    if library == "pandas":
        return pytest.importorskip("pandas").DataFrame(COLUMNS)
    return pytest.importorskip("pyarrow").table(COLUMNS)


@pytest.mark.parametrize("library", ["mapping", "pandas", "pyarrow"])
def test_a_table_is_its_columns(library):
    train = data.from_table(tables(library), "kind", name="flowers")
    assert train.x.tolist() == [[0.5, 1.0], [1.5, 2.0], [2.5, 3.0]] and train.y.tolist() == [0, 2, 1]
    assert (train.name, train.num_classes, train.image_shape) == ("flowers", 3, ())
    test = data.from_table(tables(library), "kind", training=train.replace(num_classes=5))
    assert test.num_classes == 5 and test.name == "flowers"
    with pytest.raises(ValueError, match="column 'kind' of table has the label 2; it takes 0 to 1, the classes of the"):
        data.from_table(tables(library), "kind", training=train.replace(num_classes=2))
    with pytest.raises(ValueError, match=r"labels is 'c' of the columns \['a', 'kind', 'b'\]; it takes one of them"):
        data.from_table(tables(library), "c")


@pytest.mark.parametrize("library", ["pandas", "pyarrow"])
def test_what_is_missing_in_a_table_is_named(library):
    module = pytest.importorskip(library)
    make = module.DataFrame if library == "pandas" else module.table
    with pytest.raises(ValueError, match="column 'a' of table has 1 NaN or infinite entries; it takes finite numbers"):
        data.from_table(make({"a": [0.5, None], "kind": [0, 1]}), "kind")
    with pytest.raises(ValueError, match="column 'a' of table has dtype .*; it takes real numbers"):
        data.from_table(make({"a": ["red", "blue"], "kind": [0, 1]}), "kind")
    with pytest.raises(ValueError, match="column 'kind' of table has dtype .*; it takes the labels .* return_inverse"):
        data.from_table(make({"a": [0.5, 1.5], "kind": ["cat", "dog"]}), "kind")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"x_train": np.ones((3, 2)), "z": np.ones(3)}, "source has no array 'y_train'; it takes arrays x_train and y"),
        ({"data": np.ones((3, 2))}, "source has no array 'target'; it takes arrays data and target"),
        ({}, "source has no array 'x'; it takes arrays x and y"),
        ({"x": [[1.0, 2.0], [3.0]], "y": [0, 1]}, "x of source cannot be read .*; it takes a rectangular array"),
        ({"data": np.ones((2, 2)), "target": np.array(["a", "b"])}, "target of source has dtype <U1; it takes the lab"),
        (
            {"data": np.ones((2, 2)), "target": np.array([151.5, 75.0])},
            "target of source has the entry 151.5; it",
        ),
        ({**KERAS, "y_test": KERAS["y_test"] + 4}, "y_test of source has the label 6; it takes 0 to 3, the classes"),
        ({**KERAS, "x_test": KERAS["x_test"][:, :3]}, r"x_test of source has samples of shape \(3, 3, 1\); it takes"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(source, message):
    with pytest.raises(ValueError, match=message):
        data.load(source, "test" if "x_test" in source else None)


class Trap:
    """Whoever reads its pickle raises SystemExit."""

    def __reduce__(self):
        return SystemExit, ("a pickle was read",)


@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_pickles_are_not_read(tmp_path, protocol):
    (tmp_path / "mnist.pkl").write_bytes(pickle.dumps(Trap(), protocol))
    with pytest.raises(ValueError, match="mnist.pkl is a pickle; it takes an .npz file. Reading .* runs any code"):
        data.load(tmp_path / "mnist.pkl")
    if protocol:
        (tmp_path / "unnamed").write_bytes(pickle.dumps(Trap(), protocol))
        with pytest.raises(ValueError, match="unnamed is a pickle"):
            data.load(tmp_path / "unnamed")
    np.savez(tmp_path / "objects.npz", x=np.array([Trap(), Trap()], object), y=np.array([0, 1]))
    with pytest.raises(ValueError, match=r"x of .* cannot be read .*numpy.savez\('mine.npz', x=x, y=y\)"):
        data.load(tmp_path / "objects.npz")
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(Trap(), protocol))
    with pytest.raises(ValueError, match="holds pickles; it takes the binary version of CIFAR. Reading a pickle runs"):
        data.load(tmp_path)


def test_a_column_of_arrays_is_refused():
    with pytest.raises(
        ValueError, match=r"column 'a' of table has shape \(2, 2\); it takes one number for each sample"
    ):
        data.from_table({"a": np.ones((2, 2)), "kind": [0, 1]}, "kind")
