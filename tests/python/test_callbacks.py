"""Callbacks of Model.fit."""

import csv
import subprocess
import sys
import threading

import numpy as np
import pytest

import tandem as td
from tandem import callbacks, nn, optim
from test_model import model, problem


class Values(callbacks.Callback):
    """Puts numbers of its own into what is logged as the validation loss."""

    def __init__(self, values):
        self.values = values

    def on_epoch_end(self, epoch, logs):
        logs["val_loss"] = self.values[epoch]


def test_moments_in_order():
    seen = []

    class Note(callbacks.Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                return lambda *a: seen.append((name[3:], *(i for i in a if isinstance(i, int))))
            return object.__getattribute__(self, name)

    x, y = problem(20)
    m = model()
    note = Note()
    m.fit(x, y, epochs=2, batch_size=10, verbose=0, callbacks=[note])
    batches = [("batch_begin", 0), ("batch_end", 0), ("batch_begin", 1), ("batch_end", 1)]
    assert seen == [("train_begin",), ("epoch_begin", 0), *batches, ("epoch_end", 0),
                    ("epoch_begin", 1), *batches, ("epoch_end", 1), ("train_end",)]
    assert note.model is m and note.params == {"epochs": 2, "steps": 2}


def test_logs_of_batches_are_means_so_far():
    x, y = problem(30)
    seen = []
    m = model()
    m.fit(x, y, batch_size=10, verbose=0, callbacks=[
        callbacks.LambdaCallback(on_batch_end=lambda b, logs: seen.append(dict(logs)))])
    assert len(seen) == 3 and set(seen[0]) == {"loss", "accuracy"}
    assert seen[-1] == {k: m.history[k][0] for k in seen[-1]}
    with pytest.raises(td.RangeError, match="moment"):
        callbacks.LambdaCallback(on_nothing=print)


@pytest.mark.parametrize("values, options, stopped, best", [
    ([3, 2, 2.5, 2.4, 1], {"patience": 1}, 2, 1),
    ([3, 2, 2.5, 2.4, 1], {"patience": 2}, 3, 1),
    ([3, 2, 2.5, 2.4, 1], {"patience": 3}, None, 4),
    ([3, 2, 1.95, 1.9, 1.8], {"min_delta": 0.5, "patience": 2}, 3, 1),
    ([1, 2, 1.5, 3, 4], {"mode": "max", "patience": 0}, 2, 1),
    ([2, float("nan"), 1, 1, 1], {"patience": 0}, 1, 0),
])
def test_early_stopping(values, options, stopped, best):
    x, y = problem(20)
    states = []
    stop = callbacks.EarlyStopping(**options)
    m = model()
    m.fit(x, y, epochs=5, batch_size=10, verbose=0, callbacks=[
        Values(values), stop,
        callbacks.LambdaCallback(on_epoch_end=lambda e, logs: states.append(
            [np.asarray(p.detach()).copy() for p in m.net.parameters()]))])
    assert (stop.stopped_epoch, stop.best_epoch) == (stopped, best)
    assert len(states) == (5 if stopped is None else stopped + 1)
    for now, then in zip(m.net.parameters(), states[best]):
        assert np.array_equal(now.detach().numpy(), then)


def test_early_stopping_without_restoring():
    x, y = problem(20)
    m, last = model(), []
    m.fit(x, y, epochs=5, verbose=0, callbacks=[
        Values([1, 2, 3, 4, 5]), callbacks.EarlyStopping(restore_best=False),
        callbacks.LambdaCallback(on_epoch_end=lambda e, logs: last.append(m.predict(x).numpy()))])
    assert len(last) == 2 and np.array_equal(m.predict(x).numpy(), last[-1])
    with pytest.raises(td.RangeError, match="nothing of this name.*'loss'"):
        m.fit(x, y, verbose=0, callbacks=[callbacks.EarlyStopping("val_los")])
    with pytest.raises(td.RangeError, match="mode"):
        callbacks.EarlyStopping(mode="up")
    assert callbacks.EarlyStopping("val_accuracy")._sign == 1


@pytest.mark.parametrize("values, options, rates", [
    ([3, 2, 2.5, 2.4, 2.3], {"patience": 2}, [1, 1, 1, .5, .5]),
    ([3, 2, 2.5, 2.4, 2.3], {"patience": 0}, [1, 1, .5, .25, .125]),
    ([3, 2, 2.5, 2.4, 2.3], {"patience": 1, "min_lr": .3}, [1, 1, .5, .3, .3]),
    ([3, 3, 3, 3, 3], {"patience": 1, "cooldown": 2}, [1, .5, .5, .5, .25]),
    ([3, 4, 2, 3, 3], {"patience": 2, "cooldown": 1}, [1, 1, 1, 1, .5]),
    ([1, 2, 2.05, 3, 2], {"patience": 1, "mode": "max", "min_delta": .1}, [1, 1, .5, .5, .25]),
    ([float("nan"), 2, 1, 1, float("nan")], {"patience": 2}, [1, 1, 1, 1, .5]),
])
def test_rates_on_a_plateau(values, options, rates):
    x, y = problem(20)
    m, seen = model(), []
    m.optimizer.lr = 1.0
    plateau = callbacks.ReduceLROnPlateau(factor=0.5, **options)
    log = callbacks.LambdaCallback(on_epoch_end=lambda e, logs: seen.append(m.optimizer.lr))
    for _ in range(2):  # the next training begins anew
        m.fit(x, y, epochs=5, verbose=0, callbacks=[Values(values), plateau, log])
        m.optimizer.lr = 1.0
    assert seen == pytest.approx(2 * rates)


def test_checkpoints(tmp_path):
    x, y = problem(20)
    m = model()
    each = callbacks.ModelCheckpoint(tmp_path / "all" / "{epoch:02}-{val_loss:.1f}.td")
    best = callbacks.ModelCheckpoint(tmp_path / "best.td", save_best_only=True)
    outputs = []
    m.fit(x, y, epochs=3, verbose=0, callbacks=[
        Values([3, 1, 2]), each, best,
        callbacks.LambdaCallback(on_epoch_end=lambda e, logs: outputs.append(m.predict(x)))])
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == [
        "01-3.0.td", "02-1.0.td", "03-2.0.td"]
    assert each.last_path.endswith("03-2.0.td")
    other = model(seed=5)
    other.load(tmp_path / "best.td")
    assert np.array_equal(other.predict(x).numpy(), outputs[1].numpy())
    other.load(tmp_path / "all" / "01-3.0.td")
    assert np.array_equal(other.predict(x).numpy(), outputs[0].numpy())
    with pytest.raises(td.RangeError, match="path"):
        m.fit(x, y, verbose=0, callbacks=[callbacks.ModelCheckpoint("{nothing}.td")])


def test_learning_rates():
    x, y = problem(20)

    def rates(make, every="epoch", **fit):
        m = model(optimizer=None)
        net = m.net
        m = td.Model(net, optim.SGD(net.parameters(), lr=1.0))
        seen = []
        note = {"epoch": {"on_epoch_begin": lambda e: seen.append(m.optimizer.lr)},
                "batch": {"on_batch_begin": lambda b: seen.append(m.optimizer.lr)}}[every]
        m.fit(x, y, batch_size=10, verbose=0, callbacks=[
            callbacks.LearningRateScheduler(make(m.optimizer), every),
            callbacks.LambdaCallback(**note)], **fit)
        return seen

    assert np.allclose(rates(lambda o: lambda e, lr: lr / 2, epochs=3), [0.5, 0.25, 0.125])
    assert np.allclose(rates(lambda o: optim.StepLR(o, 1, 0.1), epochs=3), [1, 0.1, 0.01])
    assert np.allclose(rates(lambda o: optim.StepLR(o, 1, 0.1), "batch", epochs=2),
                       [1, 0.1, 0.01, 0.001])
    with pytest.raises(td.RangeError):
        callbacks.LearningRateScheduler(lambda e, lr: lr, every="year")
    with pytest.raises(td.DTypeError):
        callbacks.LearningRateScheduler(lambda e, lr: lr, every="batch")


def test_a_rate_of_zero_changes_nothing_in_a_compiled_step():
    x, y = problem(20)
    m = model()
    m.fit(x, y, epochs=1, verbose=0)
    before = [p.detach().numpy().copy() for p in m.net.parameters()]
    m.fit(x, y, verbose=0, callbacks=[callbacks.LearningRateScheduler(lambda e, lr: 0.0)])
    assert len(m._train) == 1
    assert all(np.array_equal(a, p.detach().numpy()) for a, p in zip(before, m.net.parameters()))


def test_csv(tmp_path):
    x, y = problem(20)
    m = model()
    path = tmp_path / "log.csv"
    h = m.fit(x, y, epochs=2, verbose=0, callbacks=[callbacks.CSVLogger(path)])
    m.fit(x, y, epochs=3, initial_epoch=2, verbose=0,
          callbacks=[callbacks.CSVLogger(path, append=True)])
    with open(path, newline="") as f:
        rows = list(csv.DictReader(f))
    assert [r["epoch"] for r in rows] == ["0", "1", "2"]
    assert [float(r["loss"]) for r in rows[:2]] == h["loss"]
    m.fit(x, y, epochs=1, verbose=0, callbacks=[callbacks.CSVLogger(path)])
    assert len(path.read_text().splitlines()) == 2


def test_stopping_from_a_batch_and_errors_of_callbacks():
    x, y = problem(40)
    m, ended = model(), []

    def stop(batch, logs):
        m.stop_training = batch == 1

    m.fit(x, y, epochs=3, batch_size=10, verbose=0, callbacks=[
        callbacks.LambdaCallback(on_batch_end=stop)])
    assert m.history.epoch == [0]

    def fail(epoch, logs):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        m.fit(x, y, verbose=0, callbacks=[
            callbacks.LambdaCallback(on_epoch_end=fail,
                                     on_train_end=lambda: ended.append(1) or 1 / 0),
            callbacks.LambdaCallback(on_train_end=lambda: ended.append(2))])
    assert ended == [1, 2] and m.history.epoch == [0]
    assert m.fit(x, y, verbose=0).epoch == [0]


def test_lines_and_bars(capsys, monkeypatch):
    x, y = problem(20)
    m = model()
    m.fit(x, y, epochs=2, verbose=2)
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2 and out[0].startswith("epoch 1/2") and "accuracy" in out[0]
    m.fit(x, y, verbose=0)
    assert capsys.readouterr() == ("", "")
    # Without tqdm.
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    m.fit(x, y, verbose=1)
    assert capsys.readouterr().out.startswith("epoch 1/1")
    with pytest.raises(ImportError, match=r"pip install tqdm \(or tandem\[train\]\)"):
        callbacks.ProgressBar()


def test_progress_bar(capsys):
    pytest.importorskip("tqdm")
    x, y = problem(40)
    model().fit(x, y, epochs=2, batch_size=10, validation_data=(x, y))
    err = capsys.readouterr().err
    assert "epoch 2/2: 100%" in err and "4/4" in err and "val_accuracy" in err
    # Of an iterator nobody knows the length.
    model().fit((b for b in [(x, y)] * 3), verbose=1)
    assert "3step" in capsys.readouterr().err


def test_nothing_but_numpy_is_imported():
    code = ("import sys, tandem; "
            "print(sorted(m for m in ('tqdm', 'tensorboard', 'matplotlib', 'PIL', 'scipy') "
            "if m in sys.modules))")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# ------------------------------------------------------------------------------- TensorBoard


def events(folder):
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = module.EventAccumulator(str(folder), size_guidance={
        module.IMAGES: 0, module.TENSORS: 0, module.SCALARS: 0})
    found.Reload()
    return found


def number(event):
    from tensorboard.util import tensor_util

    return float(tensor_util.make_ndarray(event.tensor_proto))


def test_tensorboard_of_a_training(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.util import tensor_util

    x, y = problem(40)
    m = model()
    board = callbacks.TensorBoard(tmp_path, graph=x[:2], every="batch")
    h = m.fit(x, y, epochs=2, batch_size=10, validation_data=(x, y), verbose=0, callbacks=[board])
    board.writer.close()
    found = events(tmp_path)
    tags = found.Tags()["tensors"]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        series = found.Tensors(f"epoch/{name}")
        assert [e.step for e in series] == [0, 1]
        assert [number(e) for e in series] == [np.float32(v) for v in h[name]]
    assert [number(e) for e in found.Tensors("epoch/learning_rate")] == [np.float32(0.05)] * 2
    assert [e.step for e in found.Tensors("batch/loss")] == list(range(8))
    for name, p in m.net.named_parameters():
        assert f"gradients/{name}" in tags
        last = tensor_util.make_ndarray(found.Tensors(f"weights/{name}")[-1].tensor_proto)
        values = p.detach().numpy()
        assert last[:, 2].sum() == values.size  # rows of (left, right, count)
        assert last[0, 0] == pytest.approx(values.min(), rel=1e-6)
        assert last[-1, 1] == pytest.approx(values.max(), rel=1e-6)
    graph = graph_of(found)
    nodes = {n.name: n for n in graph.node}
    assert {"input", "0/weight", "3/bias", "output_0"} <= set(nodes)
    for n in graph.node:
        assert all(i.split(":")[0] in nodes for i in n.input), n
    linear = [n for n in graph.node if n.op == "linear"]
    assert [n.name.split("/")[0] for n in linear] == ["0", "3"]
    assert list(linear[0].input) == ["input", "0/weight", "0/bias"]
    assert [d.size for d in linear[1].attr["_output_shapes"].list.shape[0].dim] == [2, 2]


def graph_of(found):
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    graph = found.Graph()
    return graph if isinstance(graph, GraphDef) else GraphDef.FromString(graph)


def test_the_graph_of_a_net_of_ones_own(tmp_path):
    pytest.importorskip("tensorboard")
    x, y = problem(20)
    board = callbacks.TensorBoard(tmp_path, graph=True)
    model().fit(x, y, epochs=2, batch_size=10, verbose=0, callbacks=[board])
    board.writer.close()
    nodes = {n.name: n for n in graph_of(events(tmp_path)).node}
    assert [d.size for d in nodes["input"].attr["_output_shapes"].list.shape[0].dim] == [1, 4]


def test_moments_there_are_not():
    for name in ("on_train_batch_end", "on_test_begin", "on_step_end"):
        with pytest.raises(td.RangeError, match=f"such moment; got '{name}'; expected on_train_"):
            type("Mine", (callbacks.Callback,), {name: lambda self, *args: None})
        with pytest.raises(td.RangeError, match=f"no such moment; got '{name}'"):
            callbacks.LambdaCallback(**{name: print})
    type("Mine", (callbacks.Callback,), {"on_signal": print, "on_epoch_end": print})


def test_summary_writer(tmp_path):
    pytest.importorskip("tensorboard")
    image_module = pytest.importorskip("PIL.Image")
    import io

    rng = np.random.default_rng(0)
    gray = rng.random((5, 7)).astype(np.float32)
    color = rng.integers(0, 256, (3, 4, 6)).astype(np.uint8)
    with td.tensorboard.SummaryWriter(tmp_path) as w:
        w.add_scalars({"a": td.tensor(1.5), "b": 2}, 3)
        w.add_image("gray", td.tensor(gray), 0)
        w.add_image("color", color, 1)
        w.add_images("sheet", np.stack([color] * 3), 0, columns=2)
        w.add_histogram("h", [1.0, 2.0, float("nan"), float("inf")], 0)
        w.add_text("t", "**hello**")
        with pytest.raises(td.ShapeError):
            w.add_scalar("c", [1, 2], 0)
        with pytest.raises(td.ShapeError):
            w.add_image("c", np.zeros((2, 4, 4)), 0)
        with pytest.raises(td.ShapeError):
            w.add_images("c", color, 0)
        with pytest.raises(td.ShapeError, match="input_shape"):
            w.add_graph(nn.Linear(2, 2))
        w.add_graph(nn.make_model("lenet"))
    found = events(tmp_path)
    assert number(found.Tensors("a")[0]) == 1.5 and found.Tensors("b")[0].step == 3

    def pixels(tag):
        return np.asarray(image_module.open(io.BytesIO(found.Images(tag)[0].encoded_image_string)))

    assert np.array_equal(pixels("gray"), np.floor(gray.astype(np.float64) * 255 + 0.5))
    assert np.array_equal(pixels("color"), color.transpose(1, 2, 0))
    sheet = pixels("sheet")
    assert sheet.shape == (8, 12, 3) and np.array_equal(sheet[:4, 6:], color.transpose(1, 2, 0))
    assert not sheet[4:, 6:].any()
    ops = [n.op for n in graph_of(found).node]
    assert ops.count("conv2d") == 2 and ops.count("linear") == 2


def test_a_writer_ends_with_the_training(tmp_path):
    pytest.importorskip("tensorboard")
    x, y = problem(20)
    m, threads = model(), threading.active_count()
    for i in range(3):
        board = callbacks.TensorBoard(tmp_path / str(i))
        m.fit(x, y, epochs=1, verbose=0, callbacks=[board])
    m.fit(x, y, epochs=2, verbose=0, callbacks=[board])
    assert threading.active_count() == threads
    board.writer.add_text("after", "it")
    board.writer.close()
    board.writer.close()
    assert threading.active_count() == threads
    assert len(list((tmp_path / "2").iterdir())) == 3


def test_a_writer_in_a_compiled_function(tmp_path):
    pytest.importorskip("tensorboard")
    with td.tensorboard.SummaryWriter(tmp_path) as w:
        def f(x):
            w.add_scalar("rate", 0.5, 1)
            return x * 2

        with pytest.warns(td.graph.CaptureWarning, match=r"prints or writes .*test_callbacks\.py:\d"):
            td.compile(f)(td.ones(2))


def test_without_tensorboard(monkeypatch):
    for name in list(sys.modules):
        if name.split(".")[0] == "tensorboard":
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        callbacks.TensorBoard("/nonexistent")
