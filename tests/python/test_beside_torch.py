"""benchmarks/beside_torch.py and what is rendered from its figures, with the sides made up."""

import json
import os
import sys
import threading
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import beside_torch

    return beside_torch


class Sides:
    """Answers for bench_step and torch_step.py, and what they were asked."""

    def __init__(self, program, monkeypatch):
        self.asked, self.blocks = [], 5
        monkeypatch.setattr(program, "run", self.run)

    def run(self, command, path):
        self.asked.append(command)
        if command[0] == sys.executable:
            return {"torch": "2.0", "threads": 2, "ms": {"median": 10.0}}
        ms = 4.0 if "compiled" in command[1] else 5.0
        rows = [{"run_type": "iteration", "real_time": ms + k - 2} for k in range(self.blocks)]
        rows.append({"run_type": "aggregate", "real_time": 1e9})
        return {"context": {"tandem": "a machine"}, "benchmarks": rows}


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "0", "x", "1e999"])
def test_numbers_are_above_0(program, capsys, text):
    for option in ("--rounds", "--blocks"):
        with pytest.raises(SystemExit):
            program.main(["--bench", "b", "--json", "r.json", f"{option}={text}"])
        assert f"{text} is not a finite number above 0" in capsys.readouterr().err
    with pytest.raises(program.argparse.ArgumentTypeError):
        program.measure.positive(float)(text)


def test_both_sides_are_timed_alike_and_in_turn(program, monkeypatch, tmp_path):
    sides = Sides(program, monkeypatch)
    out = tmp_path / "r.json"
    program.main(["--bench", "b", "--models", "lenet", "--rounds", "2", "--blocks", "5", "--json",
                  str(out)])
    assert len(sides.asked) == 12 and sides.asked[:6] == sides.asked[6:][::-1]
    tandem, torch = sides.asked[0], sides.asked[2]
    assert {"--benchmark_repetitions=5", "--benchmark_min_time=0.05"} <= set(tandem)
    assert torch[torch.index("--blocks") + 1] == "5"
    assert torch[torch.index("--batches") + 1] == "4"  # of tradeoff::WorkloadOptions
    m = json.loads(out.read_text())["models"]["lenet"]
    assert m["ms"]["tandem compiled nchw"]["rounds"] == [4.0, 4.0]
    assert m["over_torch"]["tandem eager nchw"]["median"] == 0.5
    assert m["command"] == ("benchmarks/beside_torch.py --bench build/benchmarks/bench_step "
                            "--json beside-torch.json --models lenet --rounds 2 --blocks 5")
    assert m["tandem"] == "a machine" and m["torch"] == "2.0"


def test_each_net_keeps_the_command_that_measured_it(program, monkeypatch, tmp_path):
    Sides(program, monkeypatch)
    out = tmp_path / "r.json"
    common = ["--bench", "b", "--blocks", "5", "--json", str(out)]
    program.main([*common, "--models", "lenet", "vgg-cifar", "--rounds", "3"])
    program.main([*common, "--models", "vgg-cifar", "--rounds", "2"])
    models = json.loads(out.read_text())["models"]
    for name, rounds in (("lenet", 3), ("vgg-cifar", 2)):
        assert models[name]["command"].endswith(f"--models {name} --rounds {rounds} --blocks 5")
        assert len(models[name]["ms"]["torch eager nchw"]["rounds"]) == rounds


def test_rounds_of_earlier_runs_count(program, monkeypatch, tmp_path):
    sides = Sides(program, monkeypatch)
    first, out = tmp_path / "first.json", tmp_path / "r.json"
    common = ["--bench", "b", "--blocks", "5", "--models", "lenet"]
    program.main([*common, "--rounds", "3", "--json", str(first)])
    program.main([*common, "--rounds", "2", "--json", str(out), "--add", str(first)])
    m = json.loads(out.read_text())["models"]["lenet"]
    assert m["runs"] == [3, 2] and len(m["ms"]["torch eager nchw"]["rounds"]) == 5
    asked = len(sides.asked)
    program.main([*common, "--added-only", "--json", str(out), "--add", str(first), str(first)])
    m = json.loads(out.read_text())["models"]["lenet"]
    assert m["runs"] == [3, 3] and len(sides.asked) == asked
    assert m["over_torch"]["tandem eager nchw"]["samples"] == 6

    other = json.loads(first.read_text())
    other["models"]["lenet"]["torch"] = "1.0"
    first.write_text(json.dumps(other))
    with pytest.raises(SystemExit, match="different torch"):
        program.main([*common, "--rounds", "1", "--json", str(out), "--add", str(first)])
    with pytest.raises(SystemExit, match="no file has rounds of vgg-cifar"):
        program.main(["--bench", "b", "--models", "vgg-cifar", "--added-only", "--json", str(out),
                      "--add", str(first)])


def test_missing_blocks_are_an_error(program, monkeypatch, tmp_path):
    Sides(program, monkeypatch).blocks = 4
    with pytest.raises(SystemExit, match="4 blocks"):
        program.main(["--bench", "b", "--models", "lenet", "--rounds", "1", "--blocks", "5",
                      "--json", str(tmp_path / "r.json")])


def test_rendered(program, monkeypatch, tmp_path):
    Sides(program, monkeypatch)
    import render_results

    program.main(["--bench", "b", "--models", "lenet", "--rounds", "2", "--blocks", "5", "--json",
                  str(tmp_path / "beside-torch.json")])
    text = render_results.torch(str(tmp_path))
    assert "lenet: PyTorch 2.0, 2 rounds in turn, `benchmarks/beside_torch.py --bench build/" in text
    assert "| lenet | tandem compiled nchw | 4.00 [4.00, 4.00] | 0.400 [0.400, 0.400] |" in text
    assert "E1 compiled, target 0.55: met (0.40 [0.40, 0.40])" in text


def test_only_whole_intervals_decide(tmp_path):
    import render_results

    def verdict(times):
        def side(rounds):
            return {"median": sorted(rounds)[len(rounds) // 2], "low": min(rounds),
                    "high": max(rounds), "rounds": rounds}

        ms = {f"{who} {layout}": side(times if who == "tandem compiled" else [100.0] * 7)
              for who in ("tandem eager", "tandem compiled", "torch eager")
              for layout in ("nchw", "channels_last")}
        model = {"ms": ms, "over_torch": ms, "torch_best": "torch eager nchw", "torch": "2.0",
                 "command": "c"}
        (tmp_path / "beside-torch.json").write_text(json.dumps({"models": {"lenet": model}}))
        line = render_results.torch(str(tmp_path)).splitlines()[-1]
        assert line.startswith("E1 compiled, target 0.55: ")
        return line.split()[4]

    assert verdict([50.0, 51, 52, 53, 54, 50, 51]) == "met"
    assert verdict([50.0, 51, 52, 53, 60, 62, 61]) == "open"
    assert verdict([60.0, 61, 62, 63, 60, 62, 61]) == "missed"


def test_records_go_where_a_link_leads(program, tmp_path):
    write = program.measure.write
    (tmp_path / "link.json").symlink_to(tmp_path / "there.json")
    for n in (1, 2):
        write(str(tmp_path / "link.json"), {"n": n})
        assert json.loads((tmp_path / "there.json").read_text()) == {"n": n}
    assert (tmp_path / "link.json").is_symlink() and len(list(tmp_path.iterdir())) == 2
    os.mkfifo(tmp_path / "pipe")  # as /dev/stdout may be
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    write(str(tmp_path / "pipe"), {"n": 3})
    reader.join()
    assert json.loads(read[0]) == {"n": 3}
