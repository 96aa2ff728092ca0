"""The experiment from Python, its report, and the programs python -m tandem.…"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser

import numpy as np
import pytest

import tandem as td
from tandem import _console, nn, optim, tradeoff


def make():
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    return td.Model(net, optim.Adam(net.parameters(), lr=0.01))


BATCHES = [(np.random.default_rng(i).standard_normal((5, 6)).astype(np.float32),
            np.arange(5) % 3) for i in range(2)]
FEW = {"steps": 8, "verify_steps": 2, "instrumented_steps": 1}


@pytest.fixture(scope="module")
def result():
    said = []
    r = tradeoff.run(make, BATCHES, name="a <small> net", on_forecast=lambda t: said.append(t),
                     on_progress=lambda what, part: said.append(part), **FEW)
    assert any(isinstance(s, str) and "Forecast" in s for s in said)
    parts = [s for s in said if isinstance(s, float)]
    assert all(0 <= p <= 1 for p in parts) and parts[-1] == 1
    return r


def test_a_step_of_ones_own(result):
    kinds = [a["kind"] for a in result.arms]
    assert kinds[:3] == ["eager", "control", "step"] and "leave_out" in kinds
    assert [f["name"] for f in result.factors][:2] == ["replay", "memory plan"]
    passes = td.graph.pass_names()
    assert set(result.all_on["passes"]) <= set(passes) and result.all_on["memory_plan"]
    assert result.arms[0]["launches"] > 0 and not result.arms[0]["compiled"]
    assert all(len(a["samples_ms"]) == result.json["rounds"] for a in result.arms
               if "same_program_as" not in a)
    median, low, high = result.ratio
    assert low <= median <= high and not result.stopped
    assert "a <small> net" in result.table and "In words" in str(result)
    assert "times eager" in repr(result)
    assert result.json["checked_steps"] > 0 and all(a["compared"] for a in result.arms)


def test_steps_and_states_may_be_given_by_themselves():
    def with_state():
        w = td.ones(3).requires_grad_()
        opt = optim.SGD([w], lr=0.1)

        def step(x):
            opt.zero_grad()
            loss = (w * x).sum()
            loss.backward()
            opt.step()
            return loss

        return step, {"w": w}

    r = tradeoff.run(with_state, [[np.ones(3, np.float32)]], leave_out=False, **FEW)
    assert r.json["workload"] == "with_state"
    assert "leave_out" not in {a["kind"] for a in r.arms}
    tradeoff.run(lambda: with_state()[0], [[np.ones(3, np.float32)]], leave_out=False, **FEW)


def test_how_many_rounds_there_are():
    def rounds(seconds):
        r = tradeoff.run(make, BATCHES, leave_out=False, seconds=seconds, least_rounds=2,
                         most_rounds=3, verify_steps=2, instrumented_steps=1)
        return r.json["rounds"]

    assert rounds(1e-6) == 2 and rounds(1e6) == 3


@pytest.mark.parametrize("batches, error", [
    (0, td.RangeError), ([[1]], td.RangeError), (1.5, td.DTypeError)])
def test_the_number_of_a_recipes_batches(batches, error):
    with pytest.raises(error):
        tradeoff.run("lenet", batches, batch_size=1, leave_out=False, steps=1)
    assert tradeoff.run("lenet", 2, batch_size=1, leave_out=False, steps=1, verify_steps=2,
                        instrumented_steps=1).json["rounds"] == 1


def test_statistics_of_times():
    samples = [5.0, 1.0, 2.0, 9.0, 4.0, 3.0, 8.0, 7.0, 6.0]
    median, low, high = tradeoff.median_interval(samples)
    # P(2 <= Binomial(9, 1/2) <= 7) is 0.96: the second and the last but one.
    assert (median, low, high) == (5, 2, 8)
    twice = [2 * x for x in samples]
    assert tradeoff.paired_ratio(twice, samples) == (2, 2, 2)
    assert tradeoff.paired_difference(twice, samples) == (5, 2, 8)
    assert tradeoff.paired_difference(a=samples, b=twice) == (-5, -8, -2)
    for f in (tradeoff.paired_ratio, tradeoff.paired_difference):
        with pytest.raises(td.RangeError):
            f([1.0], [1.0, 2.0])
    with pytest.raises(td.RangeError):
        tradeoff.median_interval([])


def test_arms_that_differ_are_found():
    made = []

    def different():
        made.append(1)
        w = td.full((2,), float(len(made)))
        return (lambda x: x * w), {"w": w}

    with pytest.raises(td.InternalError, match="bit for bit"):
        tradeoff.run(different, [[td.ones(2)]], leave_out=False, **FEW)


def test_wrong_arguments_and_errors_of_the_step():
    with pytest.raises(td.RangeError, match="no model"):
        tradeoff.run("alexnet")
    with pytest.raises(td.RangeError, match="batches"):
        tradeoff.run(make)
    with pytest.raises(td.RangeError, match="batches for a recipe; expected how many"):
        tradeoff.run("lenet", BATCHES)
    with pytest.raises(td.RangeError, match="sizes must be positive; got batch 0, -3 batches"):
        tradeoff.run("lenet", -3)
    with pytest.raises(td.DTypeError, match="batches does not fit; got 2.5; expected a whole"):
        tradeoff.run("lenet", 2.5)
    with pytest.raises(td.DTypeError, match="batches do not fit; got 2; expected tuples"):
        tradeoff.run(make, 2)
    with pytest.raises(td.DTypeError):
        tradeoff.run(3)
    with pytest.raises(td.DTypeError, match="make"):
        tradeoff.run(lambda: 3, BATCHES)
    with pytest.raises(td.RangeError, match="batch"):
        tradeoff.run(make, [])
    with pytest.raises(td.RangeError, match="verify_steps"):
        tradeoff.run(make, BATCHES, verify_steps=1)
    with pytest.raises(td.RangeError, match="got verify_steps 2, instrumented_steps 1, 5 to 4 rounds"):
        tradeoff.run(make, BATCHES, least_rounds=5, most_rounds=4, verify_steps=2,
                     instrumented_steps=1)

    def fails():
        def step(x, y):
            raise KeyError("mine")

        return step

    with pytest.raises(KeyError, match="mine"):
        tradeoff.run(fails, BATCHES)
    assert (td.ones(2) + 1).tolist() == [2, 2]


def test_stopping_and_interrupting():
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 3

    r = tradeoff.run(make, BATCHES, stop=stop, leave_out=False, verify_steps=2,
                     instrumented_steps=1, seconds=60)
    assert r.stopped and r.json["rounds"] == 3 and "stopped early" in r.table

    def progress(what, part):
        if what.startswith("timing"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        tradeoff.run(make, BATCHES, on_progress=progress, leave_out=False, seconds=60)


def test_save_and_load(result, tmp_path):
    result.save(tmp_path / "r.json")
    again = tradeoff.Result.load(tmp_path / "r.json")
    assert again.json == result.json and again.table == result.table
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(td.DataError):
        tradeoff.Result.load(tmp_path / "other.json")
    for text in (b"no JSON", b"\xff\xfe"):
        (tmp_path / "other.json").write_bytes(text)
        with pytest.raises(td.DataError, match="not a saved result; got .*other.json; expected"):
            tradeoff.Result.load(tmp_path / "other.json")


class Page(HTMLParser):
    """Text, tags and whether they nest."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.open, self.links = "", [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "line", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_page(result, tmp_path):
    text = result.to_html(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == text
    page = Page(text)
    assert page.open == [] and page.links == [] and "http" not in text
    assert "a <small> net" in page.text and "small" not in page.tags
    assert page.tags.count("svg") == 2
    dots = page.tags.count("circle")
    worth = sum(1 + ("lost_by_leaving_out_ms" in f) for f in result.factors
                if not f["found_nothing"])
    assert dots == len(result.arms) + worth
    for word in [a["name"] for a in result.arms] + [k["op"] for k in result.json["eager_kernels"]]:
        assert word in page.text
    data = re.search(r'<script type="application/json" id="result">(.*?)</script>', text, re.S)
    assert json.loads(data[1]) == result.json
    first = re.split(r"\n- |\n\n", result.table.partition("\nIn words\n- ")[2])[0]
    assert " ".join(first.split()) in page.text
    notebook = Page(result._repr_html_())
    assert notebook.open == [] and "html" not in notebook.tags and "script" not in notebook.tags


def test_page_says_what_noise_hides(result):
    def cells(beyond):
        j = json.loads(json.dumps(result.json))
        j["factors"] = [{**f, "found_nothing": False, "beyond_noise": beyond}
                        for f in j["factors"]]
        page = tradeoff.Result(j, result.table).to_html()
        return [row.split("</td><td>")[2] for row in page.split("<tr>")
                if "<td class=text>" in row]

    assert set(cells(True)) == {"yes"} and set(cells(False)) == {"no"}
    for f in result.factors:
        i = f["saved_by_adding_ms"]
        assert f["beyond_noise"] == (i["samples"] >= 6 and (i["low"] > 0 or i["high"] < 0)
                                     and abs(i["median"]) > result.json["noise"]["ms"])


def test_ticks():
    from tandem.tradeoff._html import _ticks

    assert _ticks(0, 8) == list(range(9))
    assert np.allclose(_ticks(0.12, 0.31), [0.15, 0.2, 0.25, 0.3])
    assert np.allclose(_ticks(-30, 45), [-30, -20, -10, 0, 10, 20, 30, 40])


def test_plot(result):
    pytest.importorskip("matplotlib")
    figure = result.plot()
    left, right = figure.axes
    assert [t.get_text() for t in left.get_yticklabels()] == [a["name"] for a in result.arms]
    assert [t.get_text() for t in right.get_yticklabels()] == [f["name"] for f in result.factors]
    points = [c[0].get_xdata()[0] for c in left.containers]
    assert points == [a["step_ms"]["median"] for a in result.arms]
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_plot_without_matplotlib(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install matplotlib \(or tandem\[plot\]\)"):
        result.plot()


# ------------------------------------------------------------------------------ the programs


def program(name, *args, **options):
    env = {**os.environ, "TANDEM_DATA": "", "PYTHONWARNINGS": "error"}
    return subprocess.run([sys.executable, "-m", f"tandem.{name}", *args], capture_output=True,
                          text=True, timeout=600, env=env, **options)


def test_train_program(tmp_path):
    out = program("train", "--quick", "--limit-batches", "3", "--batch-size", "8", "--seed", "4",
                  "--json", str(tmp_path / "t.json"))
    assert out.returncode == 0, out.stderr
    assert "equal bit for bit: all 3 losses" in out.stdout and "GENERATED" in out.stdout
    j = json.loads((tmp_path / "t.json").read_text())
    assert j["losses_equal"] and j["states_equal"] and j["synthetic"]
    assert j["steps"] == 3 and j["losses"]["eager"] == j["losses"]["compiled"]
    assert j["optimiser"] == {"name": "adam", "lr": 1e-3, "momentum": 0, "weight_decay": 0}
    assert set(j["epochs"][0]["test_accuracy"]) == {"eager", "compiled"}
    # One mode alone gives what both gave side by side: dropout draws the same.
    one = program("train", "--quick", "--limit-batches", "3", "--batch-size", "8", "--seed", "4",
                  "--mode", "compiled", "--json", str(tmp_path / "o.json"))
    assert one.returncode == 0, one.stderr
    assert json.loads((tmp_path / "o.json").read_text())["losses"] == {
        "compiled": j["losses"]["compiled"]}


def test_programs_take_precision(tmp_path):
    few = ["--quick", "--limit-batches", "3", "--batch-size", "8", "--json",
           str(tmp_path / "t.json")]
    losses = []
    for args, text in [([], "float32,"), (["--autocast", "bf16", "--tf32", "--search", "2"],
                                          "float32, autocast bfloat16, TF32"),
                       (["--autocast", "f16"], "float32, autocast float16")]:
        out = program("train", *few, *args)
        assert out.returncode == 0, out.stderr
        assert text in out.stdout and "equal bit for bit" in out.stdout
        losses.append(json.loads((tmp_path / "t.json").read_text())["losses"]["eager"])
    assert losses[0] != losses[1] != losses[2]
    out = program("tradeoff", "--quick", "--batch-size", "2", "--steps", "2", "--no-leave-outs",
                  "--autocast", "bf16")
    assert out.returncode == 0, out.stderr
    assert "autocast bf16" in out.stdout
    o = argparse.Namespace(threads=0, device=None, layout="nchw", dtype="f32", autocast=None,
                           tf32=True, search=3)
    before = td.get_policy()
    try:
        _console.apply_common_options(o)
        assert td.get_policy().tf32 and td.get_policy().search == 3
    finally:
        td.set_policy(before)
    assert "not allowed with" in program("train", "--autocast", "bf16", "--dtype", "bf16").stderr


@pytest.mark.parametrize("args, word", [
    (["--model", "alexnet"], "invalid choice"),
    (["--lr", "0"], "0 is not a number from 1e-12 to 1000000"),
    (["--lr", "nan"], "nan is not a number from"),
    (["--weight-decay", "inf"], "inf is not a number from"),
    (["--momentum", "nan"], "nan is not a number from"),
    (["--seed", "-1"], "-1 is not a number from"),
    (["--epochs", "x"], "x is not a number from"),
    (["--data-set", "mnist"], "needs files"),
    (["--data-set", "mnist", "--data", "/nowhere"], "nowhere"),
    (["--model", "vgg-cifar", "--data-set", "synthetic-digits"], "does not take the images"),
    (["--device", "toaster"], "toaster"),
    (["--json", "/nowhere/x.json"], "cannot be written"),
])
def test_usage_errors(args, word):
    out = program("train", *args)
    assert out.returncode == 2 and word in out.stderr and "Traceback" not in out.stderr
    assert "frozen" not in out.stderr  # no line of what runs the program


def test_tradeoff_program(tmp_path):
    page, figures = tmp_path / "p.html", tmp_path / "p.json"
    out = program("tradeoff", "--quick", "--batch-size", "2", "--steps", "2", "--no-leave-outs",
                  "--html", str(page), "--json", str(figures))
    assert out.returncode == 0, out.stderr
    assert "Forecast" in out.stdout and "In words" in out.stdout and out.stderr == ""
    assert "lenet, batch 2, f32" in page.read_text()
    j = json.loads(figures.read_text())
    assert j["command"].startswith("python -m tandem.tradeoff --quick") and len(j["arms"]) > 3
    assert program("tradeoff", "--model", "no").returncode == 2
    assert "nan is not a number from" in program("tradeoff", "--seconds", "nan").stderr
    assert program("tradeoff", "--html", "/nowhere/x").returncode == 2


def test_quick_does_not_override_what_is_named(tmp_path):
    def run(name, *args):
        out = program(name, "--quick", "--batch-size", "2", *args, "--json",
                      str(tmp_path / "q.json"))
        assert out.returncode == 0, out.stderr
        return json.loads((tmp_path / "q.json").read_text())

    few = ["--mode", "eager", "--limit-batches", "2"]
    assert len(run("train", *few, "--epochs", "3")["epochs"]) == 3
    assert len(run("train", *few)["epochs"]) == 1
    short = ["--no-leave-outs", "--steps", "2"]
    assert run("tradeoff", *short, "--seconds", "9")["seconds"] == 9
    assert run("tradeoff", *short)["seconds"] == 4


def test_recipes_are_models():
    names = [r["name"] for r in tradeoff.recipes()]
    assert "vgg-cifar" in names and set(names) <= set(nn.model_names())


def test_programs_stop_at_ctrl_c(tmp_path):
    path = tmp_path / "t.json"
    with subprocess.Popen(
            [sys.executable, "-m", "tandem.train", "--batch-size", "8", "--json", str(path)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "TANDEM_DATA": ""}) as p:
        for line in p.stdout:
            if not line.strip():  # what it says before it begins ends so
                break
        time.sleep(0.5)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=300)
    assert p.returncode == 130, err
    assert "Stopped after" in out and "Traceback" not in err
    assert json.loads(path.read_text())["epochs"] == []
