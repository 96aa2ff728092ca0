"""The stubs say what the module is, and type checkers accept what people write."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tandem as td

ROOT = Path(__file__).parents[2]
PACKAGE = Path(td.__file__).parent


def mypy(*args):
    pytest.importorskip("mypy")
    env = {**os.environ, "MYPYPATH": str(PACKAGE.parent)}
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", "--ignore-missing-imports",
         "--no-error-summary", "--cache-dir", os.devnull, "--strict", *map(str, args)],
        capture_output=True, text=True, check=False, env=env)


def test_the_stubs_are_those_of_this_module(tmp_path):
    path = ROOT / "python" / "src" / "generate_stubs.py"
    r = subprocess.run([sys.executable, str(path), str(tmp_path)], capture_output=True, text=True,
                       check=False, env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)})
    assert r.returncode == 0, r.stderr
    made = sorted(p.name for p in tmp_path.glob("*.pyi"))
    assert made == sorted(p.name for p in (PACKAGE / "_core").glob("*.pyi"))
    for name in made:
        assert (tmp_path / name).read_text() == (PACKAGE / "_core" / name).read_text(), (
            "stubs are out of date: PYTHONPATH=build/python python python/src/generate_stubs.py")
    assert (PACKAGE / "py.typed").exists()


def test_every_function_is_in_the_stubs():
    stub = (PACKAGE / "_core" / "__init__.pyi").read_text()
    for name in dir(td._core):
        if callable(getattr(td._core, name)) and not name.startswith("__"):
            assert f"\ndef {name}(" in stub or f"\nclass {name}" in stub, name
    for name in dir(td.Tensor):
        if not name.startswith("_"):
            assert f"    def {name}(" in stub, name


def test_examples():
    r = mypy(*sorted((ROOT / "examples").glob("*.py")))
    assert r.returncode == 0, r.stdout + r.stderr


GOOD = """
from typing import assert_type
import tandem as td
from tandem import nn, optim

x = td.randn((2, 3), dtype="float32", device="cpu")
assert_type(x, td.Tensor)
assert_type(x + 1, td.Tensor)
assert_type(1 - x @ x.T, td.Tensor)
assert_type(x == x, td.Tensor)
assert_type(x[0, ..., None], td.Tensor)
assert_type(x.shape, tuple[int, ...])
assert_type(x.grad, td.Tensor | None)
assert_type(x.sum(axis=(0, 1), keepdims=True), td.Tensor)
assert_type(td.sort(x), tuple[td.Tensor, td.Tensor])
assert_type(td.split(x, 1), list[td.Tensor])
assert_type(x.requires_grad_(), td.Tensor)
assert_type(x.dtype, td.dtype)
assert_type(td.int64, td.dtype)
assert_type(td.conv2d(x, x, stride=(1, 2), padding=1), td.Tensor)
assert_type(td.array_api.linspace(0, 1, 3, endpoint=False), td.Tensor)
opt = optim.Adam(nn.Linear(2, 3).parameters(), lr=1e-3, betas=(0.9, 0.99))
opt.lr = 0.1
with td.no_grad(), td.device("cpu"):
    pass
@td.no_grad
def bare(n: int) -> int:
    return n
@td.no_grad()
def called(n: int) -> int:
    return n
assert_type(bare(1), int)
assert_type(called(1), int)
loader = td.data.DataLoader([1, 2])
assert_type(len(loader), int)
@td.compile
def step(x: td.Tensor, n: int = 1) -> tuple[td.Tensor, int]:
    return x, n
assert_type(step(x, n=2), tuple[td.Tensor, int])
assert_type(step.explain(), str)
@td.compile(fast=True)
def other(x: td.Tensor) -> td.Tensor:
    return x
assert_type(other(x), td.Tensor)
class Net(nn.Module):
    @td.compile
    def loss(self, x: td.Tensor) -> td.Tensor:
        return x.sum()
net = td.compile(Net())
assert_type(net, Net)
assert_type(net.loss(x), td.Tensor)
assert_type(td.compile(nn.ReLU(), verify=True), nn.ReLU)
assert_type(nn.Sequential(nn.Linear(1, 1), nn.GELU()).parameters(), list[td.Tensor])
compiled: td.graph.Compiled = step
A = td.graph.variable("A")
assert_type(td.compile(A * 2)(A=x), td.Tensor)
assert_type(td.compile([A, 2 - A.exp()])(A=x), list[td.Tensor])
"""

# Each line is wrong, and is found.
BAD = """
td.no_such_function(x)
td.zeros((2, 3), dtype=7)
td.softmax(x, axis="last")
td.conv2d(x)
x.no_such_method()
td.relu(x, x)
optim.Adam(5)
x.shape = (1, 2)
td.cross_entropy(x, x, reduction=3)
step("a")
other()
net.loss(3)
td.compile(3)
nn.ReLU(True)
td.compile(A)(x)
"""


def test_what_people_write(tmp_path):
    path = tmp_path / "good.py"
    path.write_text(GOOD)
    r = mypy(path)
    assert r.returncode == 0, r.stdout + r.stderr


def test_what_is_wrong_is_found(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(GOOD + BAD)
    r = mypy(path)
    first = GOOD.count("\n") + 2
    found = {int(line.split(":")[1]) for line in r.stdout.splitlines() if ": error:" in line}
    assert found == set(range(first, first + BAD.strip().count("\n") + 1)), r.stdout + r.stderr
