"""Training and test parts: no sample in common, the same classes, and the test sets that files bring."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchprune import data
from sketchprune.data import Dataset
from tests.support import few, without_type_checks
from tests.support.data_files import cifar_records, idx, mnist_folder


def numbered(labels, name="numbered"):
    """Samples whose only feature is their number, so that each is recognised wherever it goes."""
    labels = np.asarray(labels)
    return Dataset(np.arange(len(labels), dtype=float)[:, None], labels, name, int(labels.max()) + 1)


@few(40)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.floats(0.01, 0.99), st.integers(0, 3))
def test_a_hold_out_is_stratified_and_disjoint(labels, fraction, seed):
    whole = numbered(labels)
    count = round(fraction * len(labels))
    if not 0 < count < len(labels):
        with pytest.raises(ValueError, match="fraction is .* it takes a number in"):
            data.hold_out(whole, fraction, seed=seed)
        return
    train, test = data.hold_out(whole, fraction, seed=seed)
    numbers = [part.x[:, 0].astype(int) for part in (train, test)]
    assert sorted([*numbers[0], *numbers[1]]) == list(range(len(labels)))  # so none is in both
    for part, chosen in zip((train, test), numbers, strict=True):
        assert (np.diff(chosen) > 0).all()  # in their order
        np.testing.assert_array_equal(part.y, whole.y[chosen])
        assert (part.num_classes, part.name) == (whole.num_classes, whole.name)
    assert len(test.y) == count
    of_all, held_out = (np.bincount(each, minlength=5) for each in (whole.y, test.y))
    assert (abs(held_out - count * of_all / len(labels)) < 1).all()


def test_a_hold_out_depends_on_its_seed_alone():
    whole = numbered(np.arange(200) % 3)
    one, again, other = (data.hold_out(whole, 0.3, seed=seed)[1].x for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    means = [data.hold_out(whole, 0.5, seed=seed)[1].x.mean() for seed in range(40)]
    assert abs(np.mean(means) - 99.5) < 5  # not the first ones of each class


@pytest.mark.parametrize("count", [1, 7, 60, 199, 200])
def test_a_subset_has_its_size_and_the_classes_of_all(count):
    whole = numbered(np.repeat([0, 1, 2], [100, 60, 40]))
    found = data.subset(whole, count)
    assert len(np.unique(found.x)) == len(found.x) == count
    assert (abs(np.bincount(found.y, minlength=3) - count * np.array([0.5, 0.3, 0.2])) < 1).all()


def test_the_digits_are_divided_and_whole():
    train, test, whole = data.load("digits", "train"), data.load(split="test"), data.load()
    assert (len(train.x), len(test.x), len(whole.x)) == (1438, 359, 1797)
    assert train.image_shape == test.image_shape == (8, 8, 1)
    np.testing.assert_array_equal(data.hold_out(whole)[0].x, train.x)
    assert (abs(np.bincount(test.y) - 0.2 * np.bincount(whole.y)) < 1).all()


def test_an_npz_file_without_a_test_set_is_divided(tmp_path):
    whole = numbered(np.arange(50) % 5)
    np.savez(tmp_path / "mine.npz", x=whole.x, y=whole.y)
    train, test = (data.load(tmp_path / "mine.npz", part) for part in ("train", "test"))
    assert not data.has_test_set(tmp_path / "mine.npz")
    assert (len(train.x), len(test.x)) == (40, 10)
    assert not {*train.x[:, 0]} & {*test.x[:, 0]}


def test_an_npz_file_brings_its_test_set(tmp_path):
    x, x_test = np.ones((6, 2, 3), np.float32), np.zeros((2, 2, 3), int)
    np.savez(tmp_path / "mine.npz", x=x, y=np.arange(6) % 3, x_test=x_test, y_test=np.array([1, 0]))
    path = str(tmp_path / "mine.npz")
    train, test, whole = data.load(path, "train"), data.load(path, "test"), data.load(path)
    assert data.has_test_set(path)
    assert len(train.x) == len(whole.x) == 6 and (train.x == 1).all()
    assert test.x.shape == (2, 6) and (test.x == 0).all() and test.x.dtype == np.float32
    assert test.y.tolist() == [1, 0] and test.num_classes == 3 and test.image_shape == (2, 3, 1)


GOOD = {"x": np.ones((6, 2)), "y": np.arange(6) % 3, "x_test": np.ones((2, 2)), "y_test": np.array([0, 1])}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y_test": None}, "bad.npz has no array 'y_test'; it takes arrays x_test and y_test"),
        ({"x_test": None}, "bad.npz has no array 'x_test'"),
        ({"x_test": np.ones((2, 3))}, r"x_test of .*bad.npz has samples of shape \(3,\); it takes \(2,\)"),
        (
            {"y_test": np.array([0, 3])},
            "y_test of .*bad.npz has the label 3; it takes 0 to 2, the classes of the train",
        ),
        ({"y_test": np.array([0])}, "x_test of .*bad.npz has 2 samples and y_test has 1 labels"),
        ({"y_test": np.array([0, -1])}, "y_test of .*bad.npz has the entry -1"),
        ({"x_test": np.full((2, 2), np.nan)}, "x_test of .*bad.npz has 4 NaN or infinite entries"),
    ],
)
def test_a_malformed_test_set_in_an_npz_file(tmp_path, arrays, message):
    arrays = {name: value for name, value in (GOOD | arrays).items() if value is not None}
    np.savez(tmp_path / "bad.npz", **arrays)
    assert len(data.load(tmp_path / "bad.npz", "train").x) == 6  # whatever is wrong with the test set
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path / "bad.npz", "test")


def test_an_mnist_folder_brings_its_test_set(tmp_path):
    rng = np.random.default_rng(0)
    images, tests = rng.integers(0, 256, (5, 4, 3)), rng.integers(0, 256, (2, 4, 3))
    mnist_folder(tmp_path, idx(images), idx(np.array([3, 1, 4, 1, 5])))
    assert not data.has_test_set(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path} has no t10k-images-idx3-ubyte; it takes a folder"):
        data.load(tmp_path, "test")
    mnist_folder(tmp_path, idx(tests), None, part="t10k")
    with pytest.raises(ValueError, match="has t10k-images-idx3-ubyte and no t10k-labels"):
        data.load(tmp_path, "test")
    mnist_folder(tmp_path, idx(tests), idx(np.array([2, 0])), part="t10k")
    train, test = data.load(tmp_path, "train"), data.load(tmp_path, "test")
    np.testing.assert_array_equal(train.images[..., 0], images)
    np.testing.assert_array_equal(test.images[..., 0], tests)
    assert test.y.tolist() == [2, 0] and test.num_classes == train.num_classes == 6 and data.has_test_set(tmp_path)
    mnist_folder(tmp_path, idx(tests), idx(np.array([2, 6])), part="t10k")
    with pytest.raises(ValueError, match=f"the test set of {tmp_path} has the label 6; it takes 0 to 5"):
        data.load(tmp_path, "test")
    mnist_folder(tmp_path, idx(tests[:, :3]), idx(np.array([2, 0])), part="t10k")
    with pytest.raises(ValueError, match=r"has samples of shape \(3, 3, 1\); it takes \(4, 3, 1\)"):
        data.load(tmp_path, "test")


@pytest.mark.parametrize(("label_bytes", "classes", "name"), [(1, 10, "test_batch.bin"), (2, 100, "test.bin")])
def test_cifar_folders_bring_their_test_sets(tmp_path, label_bytes, classes, name):
    rng = np.random.default_rng(1)
    images, labels = rng.integers(0, 256, (6, 32, 32, 3)), rng.integers(0, classes, 6)
    names = [f"data_batch_{part}.bin" for part in range(1, 6)] if label_bytes == 1 else ["train.bin"]
    for each in names:
        (tmp_path / each).write_bytes(cifar_records(images[:2], labels[:2], label_bytes))
    assert not data.has_test_set(tmp_path)
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        data.load(tmp_path, "test")
    (tmp_path / name).write_bytes(cifar_records(images[2:], labels[2:], label_bytes))
    assert data.has_test_set(tmp_path)
    test = data.load(tmp_path, "test")
    np.testing.assert_array_equal(test.images, images[2:])
    np.testing.assert_array_equal(test.y, labels[2:])
    assert len(data.load(tmp_path, "train").x) == 2 * len(names) and test.num_classes == classes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda whole: data.hold_out(whole, 0.0), r"fraction is 0 of 10 samples; it takes a number in \(0, 1\)"),
        (lambda whole: data.hold_out(whole, 1.0), "fraction is 1 of 10 samples"),
        (lambda whole: data.hold_out(whole, 0.01), "fraction is 0.01 of 10 samples"),
        (lambda whole: data.hold_out(whole, float("nan")), "fraction is nan of 10 samples"),
        (lambda whole: data.subset(whole, 0), "count is 0; it takes a whole number >= 1"),
        (lambda whole: data.subset(whole, 11), "count is 11; it takes at most 10, the number of samples of numbered"),
        (lambda whole: data.load("digits", "validation"), "split is 'validation'; it takes 'train', 'test' or None"),
    ],
)
def test_bad_input(call, message):
    with without_type_checks(), pytest.raises(ValueError, match=message):
        call(numbered(np.arange(10) % 2))


def test_parts_are_on_the_host():
    part = data.subset(numbered([0, 1, 1]), 2)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(part))
