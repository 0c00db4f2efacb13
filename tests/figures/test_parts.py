"""Pieces of work that are done once, and what a change of their source, settings or data does to them."""

import functools
import itertools
import sys
import textwrap
import types

import jax
import numpy as np
import optax
import pytest

from figures import _parts, rates, sketch_error, tightness
from figures._config import BySize, Config
from figures._parts import Parts, fingerprint
from figures._style import Look
from figures._verdicts import verified
from sketchprune import models, scores, sweep

SOURCE = """
    import functools
    import jax
    import numpy as np

    STEPS = {"tiny": 2}
    COLOUR = "red"

    class Work:
        def rate(self):
            return 1.0

    def helper(x):
        '''What it does.'''
        return x + STEPS["tiny"]

    @functools.partial(jax.jit, static_argnames="size")
    def compiled(x, *, size):
        return helper(x) * size

    def data(config, key):
        # A comment.
        return {"x": np.asarray(compiled(1.0, size=2)) * Work().rate()}

    def draw(arrays):
        return COLOUR
"""


@pytest.fixture
def version(monkeypatch):
    """A source -> the fingerprint of ``data`` in the module ``figures.example`` of that source."""

    def imported(source=SOURCE):
        module = types.ModuleType("figures.example")
        monkeypatch.setitem(sys.modules, "figures.example", module)
        exec(compile(textwrap.dedent(source), "example.py", "exec"), vars(module))
        return fingerprint(functools.partial(module.data, Config(), None))

    return imported


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x + STEPS", "x - STEPS"),
        ('"tiny": 2', '"tiny": 3'),
        ("size=2", "size=3"),
        ("return 1.0", "return 2.0"),
        ("helper(x) * size", "helper(x) / size"),
        ('static_argnames="size"', 'static_argnames="size", donate_argnums=()'),
    ],
)
def test_a_change_of_what_the_numbers_are_made_from_counts(version, old, new):
    assert SOURCE.count(old) == 1
    changed = version(SOURCE.replace(old, new)) != version()
    assert changed is ("donate" not in new)  # how a function is compiled does not change its numbers


@pytest.mark.parametrize(
    ("old", "new"),
    [('COLOUR = "red"', 'COLOUR = "blue"'), ("# A comment.", "# Another."), ("What it does.", "What it says.")],
)
def test_drawing_comments_and_docstrings_do_not_count(version, old, new):
    assert SOURCE.count(old) == 1
    assert version(SOURCE.replace(old, new)) == version()


def test_the_library_counts_and_the_theory_only_where_it_is_used(monkeypatch):
    """A figure that draws verdicts, and a verdict itself, depend on the theory."""
    pieces = [sketch_error.data, tightness.data, rates.data, functools.partial(verified, "sketch/top-k", 0, None)]
    code_of = _parts._code_of
    before = [fingerprint(piece) for piece in pieces]
    monkeypatch.setattr(_parts, "_code_of", lambda package: code_of(package) + ("!" if package == "theory" else ""))
    after = [fingerprint(piece) for piece in pieces]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False, False]
    monkeypatch.setattr(_parts, "_code_of", lambda package: code_of(package) + "!")
    assert fingerprint(sketch_error.data) != before[0]


def differ(one, other):
    return fingerprint(functools.partial(print, one)) != fingerprint(functools.partial(print, other))


def test_values_count_wherever_they_stand():
    training, apply = sweep.Training(10), functools.partial
    assert differ(BySize(1, 2), BySize(2, 1)) and differ((0.05, 0.1), (0.1, 0.05)) and differ([1, 1, 2], [1, 2, 2])
    assert differ(training, sweep.Training(20)) and differ(np.float32(1), np.float32(2)) and differ(range(3), range(4))
    assert differ(jax.numpy.arange(3), jax.numpy.arange(1, 4)) and differ(jax.random.key(0), jax.random.key(1))
    assert differ(optax.adam(0.1), optax.adam(0.2)) and not differ(optax.adam(0.1), optax.adam(0.1))
    assert differ(models.mlp(8, 10), models.mlp(9, 10)) and not differ(models.mlp(8, 10), models.mlp(8, 10))
    assert differ(sweep.scored("a", scores.snip), sweep.scored("a", scores.grasp))
    assert differ(apply(scores.synflow_l2, form="authors"), apply(scores.synflow_l2, form="later"))


def test_how_a_line_looks_does_not_count():
    one, other = (Look("SNIP", colour, "o", "-") for colour in ("red", "blue"))
    assert not differ({"snip": one}, {"snip": other})


def test_images_and_features_are_different_data(tmp_path):
    data = Config().data
    configs = [Config(data=each) for each in (data, data.replace(image_shape=()), data.replace(num_classes=11))]
    assert len({config.identity for config in configs}) == 3


class Runs:
    """A record of runs, of which a fingerprint sees the class alone."""

    def __init__(self):
        self.values = []

    def __len__(self):
        return len(self.values)


@pytest.fixture
def counted():
    """A piece of work, and the record of its runs."""
    runs = Runs()

    def work(value=3.0):
        runs.values.append(value)
        return {"value": np.array([value])}

    return work, runs


def test_a_piece_is_done_once_for_each_label_seed_scale_and_data(counted, tmp_path):
    work, runs = counted
    data = Config().data
    smaller = data.replace(x=data.x[:100], y=data.y[:100])
    said = []
    settings = [{}, {"seed": 1}, {"scale": "tiny"}, {"data": smaller}]
    configs = [Config(parts=Parts(tmp_path, said.append), **setting) for setting in settings]
    for config, label in itertools.product([*configs, *configs], ("one", "two")):
        assert config.part(label, work)["value"] == [3]
    assert len(runs) == len(said) == 8
    assert said[0].startswith("one, ")


def test_labels_that_differ_in_marks_alone_are_kept_apart(counted, tmp_path):
    work, _ = counted
    config = Config(parts=Parts(tmp_path))
    found = [config.part(label, functools.partial(work, number)) for number, label in enumerate(("a/b", "a-b", "a b"))]
    again = [config.part(label, functools.partial(work, number)) for number, label in enumerate(("a/b", "a-b", "a b"))]
    assert [float(part["value"][0]) for part in [*found, *again]] == [0, 1, 2] * 2


def test_nothing_is_kept_without_a_folder(counted):
    work, runs = counted
    for _ in range(2):
        Config().part("one", work)
    assert len(runs) == 2


def test_a_killed_figure_goes_on_where_it_was(tmp_path):
    runs = Runs()

    def work(number):
        if number == 2 and len(runs) < 3:
            runs.values.append("killed")
            raise KeyboardInterrupt
        runs.values.append(number)
        return {"number": number}

    def data(config):
        return [config.part(f"piece {number}", functools.partial(work, number)) for number in range(4)]

    config = Config(parts=Parts(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        data(config)
    assert [int(part["number"]) for part in data(config)] == [0, 1, 2, 3]
    assert runs.values == [0, 1, "killed", 2, 3]


def test_an_older_source_leaves_no_file(tmp_path):
    config = Config(parts=Parts(tmp_path))
    for offset in (1, 2):

        def work(offset=offset):
            return {"number": offset}

        work.__module__ = "figures.example"
        assert config.part("one", work)["number"] == offset
    assert len(list(tmp_path.iterdir())) == 1


def test_numbers_come_back_as_they_were(tmp_path):
    arrays = {"words": np.array(["a", "β"]), "bits": jax.numpy.array([True, False]), "nan": np.array([np.nan, 1])}
    config = Config(parts=Parts(tmp_path))
    first, second = (config.part("one", lambda: arrays) for _ in range(2))
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values)
        assert second[name].dtype == values.dtype
