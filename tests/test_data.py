"""Data: digits, small files written here in every supported form, a clear message for each broken one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import data
from tests.support.data_files import cifar_records, idx, mnist_folder


def test_digits_are_whole_and_on_the_host():
    digits = data.load()
    assert digits.x.shape == (1797, 64) and digits.x.dtype == np.float64
    assert (digits.x.min(), digits.x.max()) == (0, 16)
    assert digits.images.shape == (1797, 8, 8, 1)
    assert np.bincount(digits.y).shape == (10,) and digits.num_classes == 10
    assert isinstance(digits.x, np.ndarray)
    moved = jax.tree.map(jnp.asarray, digits)  # a pytree of its arrays
    assert moved.name == "digits" and isinstance(moved.y, jax.Array)


@pytest.mark.parametrize(
    ("x", "image_shape"),
    [
        (np.ones((3, 2), np.float32), ()),
        (np.ones((3, 2), np.int16), ()),
        (np.ones((3, 2, 4)), (2, 4, 1)),
        (np.ones((3, 2, 4, 5), bool), (2, 4, 5)),
    ],
)
def test_npz(tmp_path, x, image_shape):
    np.savez(tmp_path / "mine.npz", x=x, y=np.array([0, 2, 1]), other=np.ones(7))
    loaded = data.load(tmp_path / "mine.npz")
    assert loaded.x.shape == (3, x[0].size) and loaded.image_shape == image_shape
    assert loaded.x.dtype == (x.dtype if x.dtype == np.float32 else np.float64)
    assert (loaded.name, loaded.num_classes, loaded.y.dtype) == ("mine", 3, np.int64)
    if image_shape:
        np.testing.assert_array_equal(loaded.images.reshape(x.shape), x)
    else:
        with pytest.raises(ValueError, match="mine holds plain features"):
            _ = loaded.images
    np.savez_compressed(tmp_path / "floats.npz", x=x, y=np.array([0.0, 1.0, 1.0]))
    assert data.load(str(tmp_path / "floats.npz")).y.tolist() == [0, 1, 1]


good_x, good_y = np.ones((3, 2)), np.array([0, 1, 2])
ragged = np.array([[1.0, 2.0], [3.0]], dtype=object)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": good_x}, "has no array 'y'; it takes arrays x and y"),
        ({"X": good_x, "y": good_y}, "has no array 'x'"),
        (
            {"x": ragged, "y": good_y[:2]},
            "x of .* cannot be read .*; it takes a rectangular array of numbers",
        ),
        ({"x": good_x, "y": np.array([None, 1, 2])}, "y of .* cannot be read"),
        ({"x": np.where(np.eye(3, 2), np.nan, 1), "y": good_y}, "has 2 NaN or infinite entries"),
        ({"x": np.full((3, 2), np.inf), "y": good_y}, "has 6 NaN or infinite entries"),
        ({"x": np.ones(3), "y": good_y}, r"x of .* has shape \(3,\); it takes \[n, d\]"),
        ({"x": np.ones((3, 1, 1, 1, 1)), "y": good_y}, "x of .* has shape"),
        ({"x": good_x, "y": np.eye(3)}, r"y of .* has shape \(3, 3\); it takes one label for each sample"),
        ({"x": good_x, "y": good_y[:2]}, "has 3 samples and y has 2 labels"),
        ({"x": np.ones((0, 2)), "y": np.zeros(0, int)}, "is empty"),
        ({"x": np.ones((3, 0)), "y": good_y}, "is empty"),
        ({"x": np.array([["a"], ["b"], ["c"]]), "y": good_y}, "x of .* has dtype <U1; it takes real numbers"),
        ({"x": good_x + 1j, "y": good_y}, "has dtype complex128"),
        ({"x": good_x, "y": np.array([0, -1, 1])}, "y of .* has the entry -1; it takes the labels"),
        ({"x": good_x, "y": np.array([0, 10**9, 1])}, "y of .* has the entry 1000000000; it takes the labels .* below"),
        ({"x": good_x, "y": np.array([0, 0.5, 1])}, "takes the labels 0, 1, …"),
        ({"x": good_x, "y": np.array([0, np.nan, 1])}, "takes the labels 0, 1, …"),
        ({"x": good_x, "y": np.array(["0", "1", "2"])}, "takes the labels 0, 1, …"),
    ],
)
def test_malformed_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path / "bad.npz")


def test_unreadable_files(tmp_path):
    path = tmp_path / "bad.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=(100, 3)), y=np.arange(100))
    whole = path.read_bytes()
    broken = bytearray(whole)
    broken[500:520] = bytes(20)
    np.save(tmp_path / "single.npy", np.ones(3))
    contents = [b"", b"no archive", whole[:-30], (tmp_path / "single.npy").read_bytes(), bytes(broken)]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="bad.npz (is no .npz archive or )?cannot be read"):
            data.load(path)
    for missing in ("nowhere.npz", "Digits"):
        with pytest.raises(ValueError, match="source is .*; it takes 'digits', an .npz file or a folder"):
            data.load(missing)


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 3))
LABELS = np.array([3, 1, 4, 1, 5])


@pytest.mark.parametrize("suffix", ["-ubyte", "-ubyte.gz"])
def test_mnist_folder(tmp_path, suffix):
    loaded = data.load(mnist_folder(tmp_path, idx(PIXELS), idx(LABELS), suffix))
    np.testing.assert_array_equal(loaded.images[..., 0], PIXELS)
    np.testing.assert_array_equal(loaded.y, LABELS)
    assert (loaded.x.dtype, loaded.num_classes, loaded.name) == (np.float32, 6, tmp_path.name)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (idx(PIXELS), None, "has train-images-idx3-ubyte and no train-labels"),
        (idx(PIXELS), idx(LABELS[:4]), "has 5 images, .* 4 labels"),
        (idx(PIXELS)[:-1], idx(LABELS), r"has 75 bytes for the shape \(5, 4, 3\)"),
        (idx(PIXELS)[:9], idx(LABELS), "takes a whole IDX file"),
        (idx(LABELS), idx(LABELS), r"starts with \[0, 0, 8, 1\]; it takes an IDX file of bytes with 3 axes"),
        (b"", idx(LABELS), r"starts with \[\]"),
        (idx(PIXELS[:0]), idx(LABELS[:0]), "takes a whole IDX file"),
    ],
)
def test_malformed_mnist_folder(tmp_path, images, labels, message):
    with pytest.raises(ValueError, match=message):
        data.load(mnist_folder(tmp_path, images, labels))


def test_broken_gzip(tmp_path):
    folder = mnist_folder(tmp_path, idx(PIXELS), idx(LABELS), "-ubyte.gz")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz cannot be read"):
        data.load(folder)


@pytest.mark.parametrize(("label_bytes", "classes"), [(1, 10), (2, 100)])
def test_cifar_folders(tmp_path, label_bytes, classes):
    rng = np.random.default_rng(1)
    names = [f"data_batch_{part}.bin" for part in range(1, 6)] if label_bytes == 1 else ["train.bin"]
    images = rng.integers(0, 256, (2 * len(names), 32, 32, 3))
    labels = rng.integers(0, classes, len(images))
    for part, name in enumerate(names):
        chosen = slice(2 * part, 2 * part + 2)
        (tmp_path / name).write_bytes(cifar_records(images[chosen], labels[chosen], label_bytes))
    loaded = data.load(tmp_path)
    np.testing.assert_array_equal(loaded.images, images)
    np.testing.assert_array_equal(loaded.y, labels)
    assert loaded.num_classes == classes and loaded.x.dtype == np.float32
    (tmp_path / names[-1]).write_bytes(bytes(100))
    with pytest.raises(ValueError, match=f"{names[-1]} has 100 bytes; it takes a positive multiple of"):
        data.load(tmp_path)
    (tmp_path / names[-1]).write_bytes(bytes([255]) * (label_bytes + 3072))
    with pytest.raises(ValueError, match=f"has the label 255; it takes 0 to {classes - 1}"):
        data.load(tmp_path)
    (tmp_path / names[-1]).unlink()
    with pytest.raises(ValueError, match="cannot be read" if label_bytes == 1 else "holds no data set"):
        data.load(tmp_path)


def test_standardise():
    x = jnp.asarray(np.random.default_rng(0).normal(3, 5, (40, 4))).at[:, 1].set(0.1).at[:, 2].set(1e8)
    z = data.standardise(x)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-14)
    np.testing.assert_allclose(jnp.linalg.norm(z, axis=0) ** 2, [40, 0, 0, 40], rtol=1e-12)
    np.testing.assert_allclose(jax.jit(data.standardise)(x), z, atol=1e-14)
    digits = data.standardise(data.load().x)
    assert jnp.isfinite(digits).all() and int((digits == 0).all(0).sum()) == 3
    assert data.standardise(x.astype(jnp.float32)).dtype == jnp.float32
    for size in (1e-160, 1e160):  # whose squares are no numbers
        np.testing.assert_allclose(data.standardise(size * x), z, atol=1e-12)


def test_targets_and_gaussian():
    y = data.load().y
    hot = data.one_hot(y, 10)
    assert hot.shape == (1797, 10) and (hot.argmax(1) == y).all() and (hot.sum(1) == 1).all()
    signs = jax.vmap(data.one_vs_rest, (None, 0))(y, jnp.arange(10))
    np.testing.assert_array_equal(signs, 2 * hot.T - 1)
    x = data.gaussian(jax.random.key(0), 2_000, 3)
    assert (jnp.abs(x.mean(0)) < 5 / 2_000**0.5).all() and (jnp.abs(x.std(0) - 1) < 0.1).all()
