"""Peers run where the library runs, in turns with it, and their rows say where."""

import types

import jax
import numpy as np
import pytest

from benchmarks import _peers, scores, search, training
from benchmarks._peers import Torch
from benchmarks._timing import in_turns


class FakeTorch:
    """As much of PyTorch as these tests call: it notes each tensor's device, and when a GPU is waited for."""

    def __init__(self, *, has_cuda):
        self.devices, self.waited = [], 0
        self.cuda = types.SimpleNamespace(is_available=lambda: has_cuda, synchronize=self.wait)

    def wait(self):
        self.waited += 1

    def tensor(self, values, *, device):
        self.devices.append(device)
        return values

    def topk(self, values, keep, *, sorted):
        return types.SimpleNamespace(indices=np.argpartition(-values, keep)[:keep])


@pytest.mark.parametrize("has_cuda", [False, True])
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_pytorch_is_on_a_gpu_where_jax_is(monkeypatch, has_cuda, backend):
    fake = FakeTorch(has_cuda=has_cuda)
    monkeypatch.setattr(_peers.importlib, "import_module", lambda name: fake)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    found = _peers.torch()
    assert found is not None and found.module is fake
    assert found.device == ("cuda" if has_cuda and backend == "gpu" else "cpu")
    found.tensor(np.zeros(3))
    assert fake.devices == [found.device]
    assert found.waiting(lambda: 5)() == 5
    assert fake.waited == (found.device == "cuda")


def test_no_pytorch_is_none(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(_peers.importlib, "import_module", missing)
    assert _peers.torch() is None


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_rows_of_pytorch_say_where_it_ran(monkeypatch, device):
    fake = FakeTorch(has_cuda=True)
    monkeypatch.setattr(scores, "torch", lambda: Torch(fake, device))
    monkeypatch.setattr(scores, "SCORES", 1000)
    monkeypatch.setattr(scores, "memory", scores.products)
    monkeypatch.setattr(scores, "in_turns", lambda runs, rounds: in_turns(runs, rounds=1))
    rows = list(scores.selection())
    assert [row.by for row in rows] == ["sketchprune", "jnp.argsort", f"torch.topk, {device}"]
    assert rows[-1].target is not None and rows[-1].ratio is not None
    assert fake.devices == [device]
    assert (fake.waited > 0) is (device == "cuda")


def test_loops_on_a_gpu_are_one_row():
    assert training.loops(Torch(None, "cuda")) == {"PyTorch loop, cuda": 1}
    assert list(training.loops(Torch(None, "cpu"))) == ["PyTorch loop, all cores, cpu", "PyTorch loop, one core, cpu"]


def test_networks_are_measured_in_turns_with_pytorch(monkeypatch):
    calls = []
    monkeypatch.setattr(search, "torch", lambda: Torch(None, "cpu"))
    monkeypatch.setattr(search, "torch_losses", lambda *arguments: lambda: calls.append("torch"))
    monkeypatch.setattr(search.search, "best", lambda *arguments, **options: calls.append("ours"))
    rows = list(search.networks())
    assert [row.by for row in rows] == ["sketchprune", "torch.func.vmap, cpu"] * 2
    assert all((row.ratio is None) is (row.by == "sketchprune") for row in rows)
    turns = [name for name, before in zip(calls, [None, *calls], strict=False) if name != before]
    assert turns == ["ours", "torch"] * (2 * (2 + search.ROUNDS))
