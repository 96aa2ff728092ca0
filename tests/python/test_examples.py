"""The programs in examples/ run, and do what they say."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tandem as td

EXAMPLES = Path(__file__).parents[2] / "examples"
# Where the program says it: a line of its output.
SAYS = {
    "first_steps.py": (["d/dx sum(x^3) = 3 x^2 = [3.0, 12.0, 27.0]", "NumPy wrote 100.0"], []),
    "eager_and_compiled.py": (["equal, bit for bit", "first call", "As it should be: [item]"], []),
    "own_op.py": (["slope  [-1.0, -0.5, 0.25, 1.0]", "gradgradcheck agree"], []),
    "read_a_tradeoff.py": (["2. Compiled takes", "4. The report:", "capture & replay"], ["0.5"]),
}


def test_all_examples_are_here():
    assert {p.name for p in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_example(name, tmp_path):
    says, args = SAYS[name]
    package = str(Path(td.__file__).parents[1])
    r = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *args], cwd=tmp_path, capture_output=True, text=True,
        timeout=300, check=False, env={**os.environ, "PYTHONPATH": package})
    assert r.returncode == 0, r.stderr
    for text in says:
        assert text in r.stdout, r.stdout


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_network_of_the_first_steps_learns():
    # Of ten digits, guessing gives 0.1.
    assert load("first_steps").training() > 0.4


def test_the_fit_of_the_own_operation():
    assert load("own_op").main() == pytest.approx(3, abs=0.1)


def test_the_own_operation_is_checked():
    own_op = load("own_op")
    right = own_op.Huber.backward
    # Wrong everywhere, and wrong in the last element only.
    for factor in (1.5, td.tensor([1.0, 1.0, 1.0, 1.5])):
        own_op.Huber.backward = staticmethod(
            lambda ctx, g, factor=factor: (right(ctx, g)[0] * factor, None))
        with pytest.raises(td.AutogradError, match=r"\[gradcheck\].*analytic"):
            own_op.main()
