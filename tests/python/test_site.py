"""The documentation's examples run, and the site builds."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import tandem as td

SITE = Path(__file__).parents[2] / "docs" / "site"
PAGES = sorted(SITE.glob("*.md"))
OPTIONS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def modules():
    yield "tandem"
    for m in pkgutil.walk_packages(td.__path__, "tandem."):
        if "._core" not in m.name and not m.name.endswith("__main__"):
            yield m.name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_examples_of_a_page(page):
    text = "\n".join(re.findall(r"```\{doctest\}\n(.*?)```", page.read_text("utf-8"), re.S))
    scope = {"td": td, "np": np, "nn": td.nn, "optim": td.optim, "data": td.data}
    test = doctest.DocTestParser().get_doctest(text, scope, page.stem, str(page), 0)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    out = []
    runner.run(test, out=out.append)
    assert runner.failures == 0, "".join(out)


def test_pages_have_examples():
    assert sum(p.read_text("utf-8").count(">>>") for p in PAGES) > 50


@pytest.mark.parametrize("name", list(modules()))
def test_examples_of_docstrings(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=OPTIONS, extraglobs={"td": td})
    assert result.failed == 0


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem.startswith("from_")],
                         ids=lambda p: p.stem)
def test_the_same_net_twice(page, tmp_path, monkeypatch):
    """Both have as many lines, and Tandem's runs."""
    blocks = re.findall(r"```\{code-block\} python\n:linenos:\n(.*?)```", page.read_text("utf-8"),
                        re.S)
    theirs, ours = (textwrap.dedent(b) for b in blocks)
    assert len(theirs.splitlines()) == len(ours.splitlines())
    assert max(len(line) for b in blocks for line in b.splitlines()) <= 64
    compile(theirs, page.stem, "exec")
    monkeypatch.chdir(tmp_path)
    train, _ = td.data.load_dataset("synthetic-digits")
    loader = [train.get(list(range(i, i + 16))) for i in (0, 16)]
    # A file, so that errors inside of captured functions have lines to name.
    path = tmp_path / "net.py"
    path.write_text(ours, encoding="utf-8")
    scope = {"loader": loader, "__name__": "net"}
    exec(compile(ours, str(path), "exec"), scope)
    assert 0 <= float(scope["accuracy"]) <= 1 and np.isfinite(scope["loss"].item())


def test_site_builds(tmp_path):
    for package in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(package)
    r = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d",
         str(tmp_path / "cache"), str(SITE), str(tmp_path / "site")],
        capture_output=True, text=True, check=False)
    assert r.returncode == 0, r.stderr
    api = (tmp_path / "site" / "api.html").read_text("utf-8")
    for anchor in ("tandem.Tensor", "tandem.conv2d", "tandem.nn.Conv2d", "tandem.compile"):
        assert f'id="{anchor}"' in api
    assert "Shapes." in api and "conv2d_grad_weight" in (
        tmp_path / "site" / "ops.html").read_text("utf-8")
