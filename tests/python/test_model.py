"""Model: fit, evaluate, predict, and what they are made of."""

import copy
import gc
import os
import pickle
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

import tandem as td
from tandem import callbacks, data, metrics, nn, optim


def problem(n=96, seed=0):
    """Points on a line between two classes: easily learned."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4)).astype(np.float32)
    return x, (x @ np.array([1.0, -2.0, 0.5, 1.0]) > 0).astype(np.int64)


def network(seed=0, dropout=0.2):
    td.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 2))


def model(compile=True, seed=0, **options):
    net = network(seed)
    options.setdefault("optimizer", optim.Adam(net.parameters(), lr=0.05))
    return td.Model(net, metrics=["accuracy"], compile=compile, **options)


def test_modes_give_the_same_numbers():
    x, y = problem()
    seen = []
    for compile in (True, False):
        m = model(compile)
        td.manual_seed(3)
        h = m.fit(x, y, epochs=3, batch_size=20, validation_data=(x, y), verbose=0)
        state = {k: np.asarray(v).tobytes() for k, v in m.state_dict().items()}
        seen.append(({k: v for k, v in h.history.items() if k != "seconds"}, state,
                     m.predict(x).numpy().tobytes(), m.evaluate(x, y)))
    assert seen[0] == seen[1]
    history = seen[0][0]
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history["val_accuracy"][-1] > 0.8 and history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("kind", [td.bfloat16, "float16"])
def test_mixed_precision(kind, tmp_path):
    x, y = problem()
    seen = []
    for compile in (True, False):
        m = model(compile, autocast=kind)
        td.manual_seed(3)
        h = m.fit(x, y, epochs=3, batch_size=20, verbose=0)
        seen.append((h.history["loss"], m.predict(x).tolist()))
    assert seen[0] == seen[1]
    plain = model()
    td.manual_seed(3)
    losses = plain.fit(x, y, epochs=3, batch_size=20, verbose=0).history["loss"]
    assert losses != seen[0][0] and np.allclose(losses, seen[0][0], atol=0.1)
    assert all(p.dtype is td.float32 for p in m.net.parameters())
    assert m.predict(x).dtype in (td.bfloat16, td.float16)
    assert (m.scaler is not None) == (kind == "float16")
    # The scale is kept with the rest.
    m.save(tmp_path / "m.td")
    other = model(autocast=kind)
    if m.scaler is not None:
        other.scaler.load_state_dict({k: v * 0 + 3 for k, v in other.scaler.state_dict().items()})
    other.load(tmp_path / "m.td")
    if m.scaler is not None:
        assert other.scaler.factor() == m.scaler.factor() != 3
    with pytest.raises(td.RangeError, match=r"\[Model\] autocast does not fit; got 'float32'"):
        model(autocast="float32")


def test_compiled_model_replays():
    x, y = problem(96)
    m = model()
    m.fit(x, y, epochs=4, batch_size=20, verbose=0)
    # One program for full batches, one for the smaller last one.
    assert len(m._train) == 2


def test_history_and_evaluate_are_means_over_samples():
    x, y = problem(50)
    m = model(compile=False)
    whole = m.evaluate(x, y, batch_size=50)
    parts = m.evaluate(x, y, batch_size=7)
    assert parts["accuracy"] == whole["accuracy"]
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    m.net.eval()
    logits = m.net(td.tensor(x)).detach().numpy()
    assert whole["accuracy"] == np.mean(logits.argmax(1) == y)
    assert np.array_equal(m.predict(x, batch_size=7).numpy(), m.predict(x).numpy())


def test_epochs_count_on():
    x, y = problem()
    m = model()
    m.fit(x, y, epochs=2, verbose=0)
    h = m.fit(x, y, epochs=5, initial_epoch=2, verbose=0)
    assert h is m.history and h.epoch == [2, 3, 4] and len(h["loss"]) == 3 and "loss" in h
    # Epochs in one go are the same as epochs in two.
    n = model()
    n.fit(x, y, epochs=5, verbose=0)
    assert np.array_equal(m.predict(x).numpy(), n.predict(x).numpy())


def test_kinds_of_data():
    x, y = problem(60)
    train, _ = data.load_dataset("synthetic-digits")
    images, labels = train.get(list(range(64)))
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    m = td.Model(net, "sgd", metrics=["accuracy"])
    loader = data.DataLoader(data.byte_images("few", (images * 255).astype(td.uint8), labels, 10),
                             batch_size=16, seed=1)
    h = m.fit(loader, epochs=2, validation_data=loader, verbose=0)
    assert len(h["loss"]) == 2
    batches = []

    def endless():
        while True:
            batches.append(1)
            yield x[:10], y[:10]

    m = model()
    m.fit(endless(), epochs=3, steps_per_epoch=4, verbose=0)
    assert len(batches) == 12
    m.fit([(x[:10], y[:10])] * 5, steps_per_epoch=2, verbose=0)
    assert m.predict([(x[:10], y[:10]), (x[10:15], y[10:15])]).shape == (15, 2)
    with pytest.raises(td.RangeError, match="no batch"):
        m.fit(iter([(x[:10], y[:10])]), epochs=2, verbose=0)
    with pytest.raises(td.RangeError, match="no batch"):
        m.evaluate([])
    with pytest.raises(td.RangeError, match="no batch"):
        m.predict([])
    with pytest.raises(td.ShapeError, match="batch must be"):
        m.fit([x[:10]], verbose=0)
    with pytest.raises(td.ShapeError, match="length"):
        m.fit(x, y[:5], verbose=0)
    with pytest.raises(td.DTypeError, match="expected y as well, a Dataset, or a DataLoader"):
        m.fit(x, verbose=0)


class Points(data.Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


def trained(*args, **options):
    m = model()
    td.manual_seed(3)
    h = m.fit(*args, verbose=0, **options)
    return h.history["loss"], h.history.get("val_loss")


def test_samples_and_pairs():
    x, y = problem(60)
    want = trained(x, y, epochs=2, batch_size=16, validation_data=(x, y))
    samples = list(zip(x, y))
    for case in (lambda: trained(Points(x, y), epochs=2, batch_size=16, validation_data=[x, y]),
                 lambda: trained(samples, epochs=2, batch_size=16, validation_data=(x, y)),
                 lambda: trained([x, y], epochs=2, batch_size=16, validation_data=Points(x, y)),
                 lambda: trained((x, y), epochs=2, batch_size=16,
                                 validation_data=[x.tolist(), y.tolist()])):
        for got, wanted in zip(case(), want):
            assert got == pytest.approx(wanted, rel=1e-5)
    m = model()
    whole = m.evaluate(x, y)
    for given in ((x, y), [x, y], Points(x, y), [(x[:30], y[:30]), (x[30:], y[30:])],
                  [x.tolist(), y.tolist()]):
        assert m.evaluate(given) == pytest.approx(whole, rel=1e-5)
    guess = m.predict(x).numpy()
    for given in (Points(x, y), x.tolist(), [(x, y)], [x[:30], x[30:]]):
        assert np.allclose(m.predict(given).numpy(), guess, rtol=1e-5, atol=1e-6)
    # What gives batches has a batch size of its own.
    for wrong in (data.DataLoader(samples, batch_size=4), iter(samples)):
        with pytest.raises(td.RangeError, match=r"batch_size is for arrays .* got 8 with .*; expe"):
            m.fit(wrong, batch_size=8, verbose=0)
    for options in ({"validation_steps": 0}, {"verbose": 3}):
        with pytest.raises(td.RangeError, match=r"\[fit\]"):
            m.fit(x, y, **options)
    with pytest.raises(td.RangeError, match=r"\[evaluate\] steps is out of range"):
        m.evaluate(x, y, steps=0)


def test_dicts_of_arrays():
    class Named(Two):
        def forward(self, given):
            return super().forward(given["x"], given["z"])

    x, y = problem(40)
    given = {"x": x, "z": np.ones((40, 3))}
    m = td.Model(Named(), "sgd", metrics=["accuracy"])
    h = m.fit(given, y, epochs=3, batch_size=16, validation_data=(given, y), verbose=0)
    assert h["loss"][-1] < h["loss"][0] and len(h["val_loss"]) == 3
    assert m.predict(given).shape == (40, 2)
    s = m.summary()
    assert s.input_shape == {"x": (1, 4), "z": (1, 3)} and "x: [1, 4], z: [1, 3]" in str(s)
    with pytest.raises(td.ShapeError, match="same length"):
        m.fit({"x": x, "z": x[:3]}, y, verbose=0)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(3, 2)

    def forward(self, x, z):
        return self.a(x) + self.b(z)


def test_several_inputs_and_a_loss_of_ones_own():
    x, y = problem(40)
    z = np.ones((40, 3))  # float64, as NumPy makes it
    target = np.stack([y, 1 - y], 1).astype(np.float64)
    m = td.Model(Two(), "sgd", loss=lambda pred, t: ((pred - t) ** 2).mean(), metrics=["mse"])
    h = m.fit((x, z), target, epochs=3, verbose=0)
    assert h["loss"] == pytest.approx(h["mse"], rel=1e-6)
    assert m.predict((x, z)).shape == (40, 2)
    assert h["loss"][-1] < h["loss"][0]


def test_names_and_choices():
    net = network()
    assert isinstance(td.Model(net).optimizer, optim.Adam)
    m = td.Model(net, lambda p: optim.SGD(p, lr=0.5), "mse")
    assert m.optimizer.lr == 0.5 and m.loss is td.mse_loss and "compiled" in repr(m)
    for wrong in ({"optimizer": "no"}, {"loss": "no"}, {"metrics": ["no"]},
                  {"metrics": ["accuracy", "accuracy"]}):
        with pytest.raises(td.RangeError):
            td.Model(net, **wrong)
    with pytest.raises(td.DTypeError):
        td.Model(net, metrics=[3])
    with pytest.raises(td.Error):
        td.Model(net, compile={"without": ["no such pass"]})
    with pytest.raises(AttributeError):
        m.optimizer = None
    x, y = problem(8)
    only = td.Model(net, optimizer=None)
    assert set(only.evaluate(x, y)) == {"loss"}
    with pytest.raises(td.AutogradError, match="optimizer"):
        only.fit(x, y, verbose=0)


@pytest.mark.parametrize("options, text", [
    ({"epochs": -1}, r"\[fit\] epochs is out of range; got -1; expected 0 or more"),
    ({"initial_epoch": -2}, "initial_epoch is out of range; got -2"),
    ({"steps_per_epoch": 0}, "steps_per_epoch is out of range; got 0; expected 1 or more"),
    ({"callbacks": [print]}, r"\[fit\] callbacks are Callbacks; got <built-in function print>"),
])
def test_options_of_fit_that_make_no_sense(options, text):
    x, y = problem(8)
    with pytest.raises(td.Error, match=text):
        model().fit(x, y, verbose=0, **options)


@pytest.mark.parametrize("thing", [3, "f", [1]])
def test_what_cannot_be_called_is_not_compiled(thing):
    with pytest.raises(TypeError, match=r"\[compile\] what is compiled can be called; got"):
        td.compile(thing)


def test_modes_of_the_network_are_kept():
    x, y = problem(20)
    m = model()
    m.net.eval()
    modes = []
    m.fit(x, y, verbose=0, validation_data=(x, y),
          callbacks=[callbacks.LambdaCallback(
              on_batch_end=lambda *_: modes.append(m.net.training))])
    assert modes == [True] and not m.net.training
    m.net.train()
    m.predict(x)
    m.evaluate(x, y)
    assert m.net.training


def test_save_and_load(tmp_path):
    x, y = problem()
    a, b = model(seed=1), model(seed=2)
    a.fit(x, y, epochs=2, verbose=0)
    a.save(tmp_path / "m.td")
    b.fit(x, y, epochs=1, verbose=0)  # already compiled: its programs see the new values
    b.load(tmp_path / "m.td")
    assert np.array_equal(a.predict(x).numpy(), b.predict(x).numpy())
    # The optimiser goes on where it was, too.
    for m in (a, b):
        td.manual_seed(9)
        m.fit(x, y, epochs=1, verbose=0)
    assert np.array_equal(a.predict(x).numpy(), b.predict(x).numpy())
    assert [p.name for p in tmp_path.iterdir()] == ["m.td"]
    with pytest.raises(OSError):
        a.load(tmp_path / "nothing")


def test_models_are_freed():
    x, y = problem(32)
    for compile in (True, False):
        m = model(compile)
        m.fit(x, y, epochs=1, verbose=0, validation_data=(x, y))
        m.predict(x)
        gone = weakref.ref(m.net)
        del m
        gc.collect()
        assert gone() is None, compile


def test_threads_train_models_of_their_own():
    x, y = problem(200)

    def run(seed, out):
        # No dropout: the default generator is everybody's.
        m = td.Model(nets[seed], optim.SGD(nets[seed].parameters(), lr=0.1))
        m.fit(x, y, epochs=5, batch_size=20, verbose=0)
        out[seed] = m.predict(x).numpy()

    alone, together = {}, {}
    nets = [network(seed, dropout=0.0) for seed in range(3)]
    for seed in range(3):
        run(seed, alone)
    nets = [network(seed, dropout=0.0) for seed in range(3)]
    threads = [threading.Thread(target=run, args=(seed, together)) for seed in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for seed in range(3):
        assert np.array_equal(alone[seed], together[seed])


def test_array_loader():
    x = np.arange(10)
    loader = data.ArrayLoader(x, td.tensor(x * 2), batch_size=4, seed=1)
    epochs = [[(a.tolist(), b.tolist()) for a, b in loader] for _ in range(2)]
    assert len(loader) == 3 and [len(a) for a, _ in epochs[0]] == [4, 4, 2]
    for epoch in epochs:
        assert sorted(sum((a for a, _ in epoch), [])) == list(range(10))
        assert all(b == [2 * v for v in a] for a, b in epoch)
    assert epochs[0] != epochs[1]
    loader.set_epoch(0)
    assert [(a.tolist(), b.tolist()) for a, b in loader] == epochs[0]
    plain = data.ArrayLoader((x, x + 1), batch_size=4, shuffle=False, drop_last=True)
    assert len(plain) == 2 and [b[0][1].tolist() for b in plain][0] == [1, 2, 3, 4]
    with pytest.raises(td.ShapeError):
        data.ArrayLoader(x, x[:3])
    with pytest.raises(td.ShapeError):
        data.ArrayLoader(np.float32(1))
    with pytest.raises(td.RangeError):
        data.ArrayLoader(x, batch_size=0)


# ----------------------------------------------------------------------------------- metrics


def test_classification_metrics_against_numpy():
    rng = np.random.default_rng(0)
    scores, labels = rng.standard_normal((30, 6)).astype(np.float32), rng.integers(0, 6, 30)
    every = [metrics.Accuracy(), metrics.TopKAccuracy(3), metrics.ConfusionMatrix(6),
             metrics.Precision(6), metrics.Recall(6)]
    assert np.isnan(every[0].compute())
    for _ in range(2):  # the second time after a reset
        for m in every:
            for at in (slice(0, 13), slice(13, 30)):
                m.update(td.tensor(scores[at]), td.tensor(labels[at]))
        accuracy, top3, confusion, precision, recall = (m.compute() for m in every)
        best = scores.argmax(1)
        table = np.zeros((6, 6), int)
        np.add.at(table, (labels, best), 1)
        assert accuracy == np.mean(best == labels)
        ranks = (-scores).argsort(1)[:, :3]
        assert top3 == np.mean([label in r for label, r in zip(labels, ranks)])
        assert np.array_equal(confusion.numpy(), table)
        right = np.diag(table)
        assert precision == pytest.approx(np.mean(right / np.maximum(table.sum(0), 1)))
        assert recall == pytest.approx(np.mean(right / np.maximum(table.sum(1), 1)))
        for m in every:
            m.reset()
    with pytest.raises(td.ShapeError):
        every[0].update(td.tensor(scores), td.tensor(labels[:5]))
    with pytest.raises(td.ShapeError):
        every[1].update(td.tensor(scores[:, :2]), td.tensor(labels))


def test_binary_and_dense_labels():
    accuracy = metrics.Accuracy()
    accuracy.update(td.tensor([[0.3], [-2.0], [1.0]]), td.tensor([1, 0, 0]))
    assert accuracy.compute() == 2 / 3
    accuracy.reset()
    accuracy.update(td.tensor([0.3, -2.0]), td.tensor([True, True]))
    assert accuracy.compute() == 0.5
    accuracy.reset()
    images = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    accuracy.update(td.tensor(images), td.tensor(images.argmax(1)))
    assert accuracy.compute() == 1
    p = metrics.Precision()
    p.update(td.tensor([1.0, 1.0, -1.0]), td.tensor([1, 0, 1]))
    assert p.compute() == 0.5


def test_means_and_functions():
    mean = metrics.Mean()
    mean.update(1.0)
    mean.update(td.tensor(4.0), weight=2)
    assert mean.compute() == 3
    # Not summed in float32: 2^24 + 1 is not one.
    mean.reset()
    mean.update(float(2**24))
    mean.update(td.tensor(1.0))
    assert mean.compute() == (2**24 + 1) / 2
    a, b = td.tensor([[1.0, 2.0], [3.0, 4.0]]), td.tensor([[1.0, 0.0], [0.0, 0.0]])
    for name, want in (("mse", (4 + 9 + 16) / 4), ("mae", 9 / 4)):
        m = metrics.get(name)
        m.update(a, b)
        assert m.compute() == pytest.approx(want)
    own = metrics.get(lambda pred, target: (pred > 0).any(1))
    own.update(td.tensor([[1.0, 0.0], [-1.0, 0.0]]), td.tensor([0, 1]))
    assert own.compute() == 0.5
    for method in ("update", "compute", "reset"):
        with pytest.raises(NotImplementedError):
            getattr(metrics.Metric(), method)(*([a, b] if method == "update" else []))


def test_a_metric_that_reads_values():
    """Metrics run outside of compiled steps, so they may do what they like."""

    class Largest(metrics.Metric):
        name = "largest"

        def reset(self):
            self.value = -np.inf

        def update(self, pred, target):
            self.value = max(self.value, float(pred.max()))

        def compute(self):
            return self.value

    x, y = problem(30)
    m = td.Model(network(), metrics=[Largest()])
    assert m.fit(x, y, verbose=0)["largest"][0] > -np.inf


def test_what_trains_is_neither_copied_nor_pickled():
    net = nn.Linear(2, 2)
    opt = optim.Adam(net.parameters())
    things = [opt, optim.StepLR(opt, 1), optim.GradScaler(), td.Model(net, opt)]
    for thing in things:
        for way in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=r"neither copied nor pickled; got .*; expected "):
                way(thing)


def test_what_a_model_cannot_be_made_of():
    net = nn.Linear(4, 2)
    for make, text in [(lambda: td.Model(None), "net is a Module; got None"),
                       (lambda: td.Model(net, optimizer=3), "optimizer does not fit; got 3"),
                       (lambda: td.Model(net, loss=3), "loss does not fit; got 3"),
                       (lambda: td.Model(net).fit(*problem(), epochs="3"), "epochs does not fit")]:
        with pytest.raises(TypeError, match=text):
            make()
    seen = []
    m = td.Model(net, metrics="accuracy")
    m.fit(*problem(), verbose=0,
          callbacks=callbacks.LambdaCallback(on_epoch_end=lambda e, logs: seen.append(logs["accuracy"])))
    assert len(seen) == 1


def test_what_fit_takes_for_samples_and_what_it_refuses():
    x, y = np.eye(4, 3, dtype=np.float32), np.array([0, 1, 0, 1])
    model = td.Model(nn.Linear(3, 2), loss="cross_entropy", optimizer="sgd")
    for n in (2, 3):  # two samples are no pair of arrays
        model.fit([(x[i], y[i]) for i in range(n)], batch_size=n, epochs=1, verbose=0)

    class Samples(td.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return x[i], y[i]

    for both in (Samples(), td.data.DataLoader(Samples(), batch_size=2)):
        with pytest.raises(td.DTypeError, match=r"\[fit\] .*; got y beside .*; expected"):
            model.fit(both, y, verbose=0)
    for size in (-5, "a", 2):
        with pytest.raises(td.RangeError, match=r"\[predict\] batch_size is for arrays"):
            model.predict(iter([x]), batch_size=size)
    for name in ("verbose", "epochs", "initial_epoch"):
        with pytest.raises(TypeError, match=rf"\[fit\] {name} does not fit; got None"):
            model.fit(x, y, **{"verbose": 0, name: None})
    with pytest.raises(td.DTypeError, match=r"\[Model\] compile does not fit"):
        td.Model(nn.Linear(3, 2), compile="yes")


def test_files_are_written_where_a_link_leads(tmp_path):
    from tandem._console import check_writable, write_json

    real, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(real)
    model = td.Model(nn.Linear(3, 2))
    model.save(link)
    model.load(real)
    check_writable(str(link))
    write_json(str(link), [1])
    assert link.is_symlink() and real.read_text() == "[\n 1\n]\n"
    assert len(list(tmp_path.iterdir())) == 2
    null = tmp_path / "null"
    null.symlink_to(os.devnull)
    check_writable(str(null))
    write_json(str(null), [1])
    assert not Path(os.devnull).is_file() and len(list(tmp_path.iterdir())) == 3
    with pytest.raises(td.DataError, match="directory"):
        check_writable(str(tmp_path))
