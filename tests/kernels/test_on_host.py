"""Kernels in blocks on many devices, in memory or in a file, are the kernel of one program."""

import errno
import functools
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from sketchprune import kernels
from sketchprune.kernels import _npy
from tests.support import kernel_process, normal, search_process, without_type_checks
from tests.support.networks import assert_same, instance, random_mask


def over(count):
    return Mesh(np.array(jax.devices()[:count]), ("any",))


def grouped(params, x):
    """A convolution, scales that are no layer's, and a dense layer."""
    convolve = functools.partial(jax.lax.conv_general_dilated, window_strides=(2, 1), padding="VALID")
    hidden = convolve(x, params["kernel"], dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2)
    return jnp.tanh(params["scale"] * hidden).mean((1, 2)) @ params["dense"]


PARAMS = {"kernel": normal(0, 3, 2, 2, 6), "scale": normal(1, 6), "dense": normal(2, 6, 3)}
X = normal(7, 7, 9, 4, 4)


@pytest.mark.parametrize(
    ("mask", "second", "trace_outputs"),
    [(None, None, False), ("sketch", None, True), ("few", X[:5], False), ("sketch", X[2:], True)],
)
def test_is_the_kernel_in_every_form(mask, second, trace_outputs):
    """Of 7 samples in blocks of two, the last of which overlaps, on three devices."""
    mask = {None: None, "few": random_mask(PARAMS, 1, density=0.2), "sketch": random_mask(PARAMS, 2)}[mask]
    options = {"mask": mask, "trace_outputs": trace_outputs}
    found = kernels.ntk_on_host(grouped, PARAMS, X, second, block_size=2, mesh=over(3), **options)
    plain = jax.jit(functools.partial(kernels.ntk_reference, grouped, trace_outputs=trace_outputs))
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    assert isinstance(found, np.ndarray)
    assert_same(found, plain(PARAMS, X, second, mask=ones if mask is None else jax.tree.map(jnp.float64, mask)))


def mlp(samples):
    apply, params, _ = instance("mlp")
    return apply, params, normal(5, samples, 4)


@pytest.mark.parametrize(
    ("samples", "block_size", "devices", "blocks"),
    [
        (3, 1, 8, 6),  # fewer samples, and fewer blocks, than devices
        (5, 100, 8, 1),
        (1, None, 8, 1),
        (9, 2, 1, 15),
        (9, 2, 8, 15),
        (9, None, 8, 45),  # no fewer than four for each device, as far as there are samples
        (9, None, 1, 6),
    ],
)
def test_samples_blocks_and_devices_in_any_number(samples, block_size, devices, blocks):
    """Half of the blocks are computed, with those on the diagonal."""
    apply, params, x = mlp(samples)
    reported = []
    found = kernels.ntk_on_host(
        apply, params, x, block_size=block_size, mesh=over(devices), progress=lambda *now: reported.append(now)
    )
    assert reported == [(done, blocks) for done in range(1, blocks + 1)]
    assert_same(found, kernels.ntk(apply, params, x), 1e-14)


def test_blocks_fit():
    """By their number of entries, whatever the number of samples."""
    size = kernels.on_host._block_size((10**6, 10**6, 10, 10), 1, symmetric=True)
    assert 0.9 * 2**26 < size**2 * 100 <= 2**26
    assert kernels.on_host._block_size((10**6, 1, 10**5, 10**5), 1, symmetric=False) == 1
    assert kernels.on_host._block_size((10**4, 10), 8, symmetric=False) == 256


def test_a_file_is_the_array_and_takes_the_place_of_an_old_one(tmp_path):
    apply, params, x = mlp(5)
    path = tmp_path / "kernel.npy"
    path.write_text("old")
    asked = []
    call = functools.partial(kernels.ntk_on_host, apply, params, x, block_size=2)
    found = call(out=path, progress=lambda done, total: asked.append(path.read_text()))
    assert asked == ["old"] * 6
    np.testing.assert_array_equal(found, call())
    np.testing.assert_array_equal(found, np.load(path))
    assert isinstance(found, np.memmap) and not found.flags.writeable
    assert [each.name for each in tmp_path.iterdir()] == ["kernel.npy"]
    half = kernels.ntk_on_host(apply, jax.tree.map(jnp.float16, params), x.astype(jnp.float16), out=str(path))
    assert half.dtype == np.float16


def test_an_interrupted_call_leaves_what_was_there(tmp_path, monkeypatch):
    apply, params, x = mlp(5)
    path = tmp_path / "kernel.npy"
    path.write_text("old")

    def interrupt(done, total):
        raise KeyboardInterrupt

    call = functools.partial(kernels.ntk_on_host, apply, params, x, block_size=2, out=path)
    with pytest.raises(KeyboardInterrupt):
        call(progress=interrupt)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_npy, "_write", full)
    with pytest.raises(OSError, match=r"kernel.npy, which cannot be written \(No space left on device\)"):
        call()
    assert [each.name for each in tmp_path.iterdir()] == ["kernel.npy"] and path.read_text() == "old"


def test_errors_of_the_caller_are_not_those_of_the_file(tmp_path):
    apply, params, x = mlp(5)

    def report(done, total):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError, match="Broken pipe"):
        kernels.ntk_on_host(apply, params, x, block_size=2, out=tmp_path / "kernel.npy", progress=report)
    assert not list(tmp_path.iterdir())


def test_an_error_when_the_file_is_closed_is_one_of_the_file(tmp_path, monkeypatch):
    """Network file systems may say only then that the disk is full."""

    class OverQuota(io.BytesIO):
        def close(self):
            if not self.closed:
                super().close()
                raise OSError(errno.EDQUOT, "Disk quota exceeded")

    def opened(path, mode):
        return OverQuota() if mode == "r+b" else open(path, mode)

    monkeypatch.setattr(_npy, "open", opened, raising=False)
    apply, params, x = mlp(5)
    with pytest.raises(OSError, match=r"kernel.npy, which cannot be written \(Disk quota exceeded\)"):
        kernels.ntk_on_host(apply, params, x, out=tmp_path / "kernel.npy")
    assert not list(tmp_path.iterdir())


def test_two_calls_that_write_one_file(tmp_path):
    """Each writes a file of its own, and that which ends last takes the place of the other."""
    apply, params, x = mlp(5)
    path = tmp_path / "kernel.npy"
    call = functools.partial(kernels.ntk_on_host, apply, params, block_size=2, out=path)
    first = []

    def other(done, total):
        if not first:
            first.append(np.array(call(x + 1)))

    found = call(x, progress=other)
    np.testing.assert_array_equal(found, kernels.ntk_on_host(apply, params, x, block_size=2))
    np.testing.assert_array_equal(first[0], kernels.ntk_on_host(apply, params, x + 1, block_size=2))
    assert [each.name for each in tmp_path.iterdir()] == ["kernel.npy"]


def test_files_that_cannot_be_made(tmp_path, monkeypatch):
    apply, params, x = mlp(5)
    call = functools.partial(kernels.ntk_on_host, apply, params, x)
    for folder in (".", "..", "/"):
        with pytest.raises(ValueError, match=f"out is {folder}: Is a directory; it takes a file that can be written"):
            call(out=folder)
    with pytest.raises(ValueError, match=f"out is {tmp_path}: Is a directory; it takes a file that can be written"):
        call(out=tmp_path)
    with pytest.raises(ValueError, match="none/k.npy: No such file or directory; it takes a file"):
        call(out=tmp_path / "none" / "k.npy")
    half = jax.tree.map(jnp.bfloat16, params), x.astype(jnp.bfloat16)
    with pytest.raises(ValueError, match="k.npy for a kernel in bfloat16, which no .npy file holds; it takes None"):
        kernels.ntk_on_host(apply, *half, out=tmp_path / "k.npy")
    monkeypatch.setattr(_npy.shutil, "disk_usage", lambda _: _npy.shutil._ntuple_diskusage(9, 9, 1799))
    with pytest.raises(ValueError, match="k.npy: the kernel takes 1,800 bytes, and 1,799 are free; it takes"):
        call(out=tmp_path / "k.npy")
    assert not list(tmp_path.iterdir())
    for name in (".k.npy.ab.part", ".other.npy.ab.part"):
        (tmp_path / name).touch()
    message = "1,799 are free beside .k.npy.ab.part, left by killed calls unless one still runs; it takes a file"
    with pytest.raises(ValueError, match=message):
        call(out=tmp_path / "k.npy")


def test_what_is_refused():
    apply, params, x = mlp(5)
    with pytest.raises(ValueError, match="params is traced; it takes known arrays, outside of jit, vmap and grad"):
        jax.eval_shape(lambda params: kernels.ntk_on_host(apply, params, x), params)
    with pytest.raises(ValueError, match="x1 is traced"):
        jax.eval_shape(lambda x: kernels.ntk_on_host(apply, params, x), x)
    with without_type_checks(), pytest.raises(ValueError, match="block_size is 0; it takes a whole number >= 1"):
        kernels.ntk_on_host(apply, params, x, block_size=0)
    with pytest.raises(ValueError, match="apply couples samples"):
        kernels.ntk_on_host(lambda params, x: apply(params, x - x.mean(0)), params, x)
    with pytest.raises(ValueError, match="mask is one leaf; it takes the structure of params"):
        kernels.ntk_on_host(apply, params, x, mask=x)


def test_two_processes_write_one_file(tmp_path):
    coordinator = f"127.0.0.1:{search_process.free_port()}"
    processes = [
        search_process.launch(kernel_process.SCRIPT, tmp_path, coordinator, 2, number, devices=2) for number in (0, 1)
    ]
    outputs = [process.communicate(timeout=300) for process in processes]
    (apply, params, x), mask = kernel_process.arguments()
    expected = kernels.ntk(apply, params, x, mask=mask)
    shares = []
    for number, (process, (out, errors)) in enumerate(zip(processes, outputs, strict=True)):
        assert process.returncode == 0, errors
        told, left, reported, of_one, total = json.loads(out.splitlines()[-1])
        different, without_file, no_folder, no_block, full, not_replaced, interrupted = told
        assert different.startswith("ValueError: the processes compute different kernels (x1: ")
        assert "; block_size: 2 in process 0, 3 in process 1); each takes the same arguments" in different
        assert without_file == "ValueError: out is None with 2 processes; it takes a file that all of them reach"
        assert "none/kernel.npy: No such file or directory; it takes a file that can be written" in no_folder
        where = " (in process 1)" if number == 0 else ""
        assert no_block == f"ValueError: block_size is 0; it takes a whole number >= 1{where}"
        assert full.startswith("OSError")
        assert full.endswith(f"kernel.npy, which cannot be written (No space left on device){where}")
        assert not_replaced.startswith("PermissionError" if number == 0 else "OSError")
        assert "Operation not permitted" in not_replaced
        assert interrupted.endswith(f"Broken pipe{where}") and left == []
        assert abs(total - expected.sum()) < 1e-10 * abs(expected).sum()
        shares.append((len(reported), reported[-1], of_one))
    # 6 blocks make 21 pairs, which are dealt out to four devices.
    assert shares == [(11, [11, 11], 21), (10, [10, 10], 0)]
    for name in ("kernel.npy", "second.npy"):
        assert_same(np.load(tmp_path / name), expected, 1e-14)
