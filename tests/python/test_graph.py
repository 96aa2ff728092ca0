"""Declared graphs with scopes, and what programs say of themselves."""

import pytest
import tandem as td
from tandem import nn, optim


def test_a_scope_takes_in_what_makes_tensors():
    g = td.graph.Graph()
    x = g.variable("x", (2, 2))
    with g.scope() as inside:
        assert inside is g
        y = x + td.ones((2, 2)) * 2
        counted = td.arange(4)
    assert (td.ones(2) + 1).tolist() == [2, 2]  # computed again
    f = g.compile([y, counted])
    a, b = f(x=[[1.0, 2.0], [3.0, 4.0]])
    assert a.tolist() == [[3, 4], [5, 6]] and b.tolist() == [0, 1, 2, 3]
    with pytest.raises(td.CaptureError, match="does not depend on anything declared here"):
        g.compile(td.ones(2))
    with pytest.raises(td.CaptureError, match="does not depend on anything declared here"):
        g.dump([td.ones(2)])


def test_a_training_step_that_is_declared():
    def made():
        td.manual_seed(1)
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        return net, optim.SGD(net.parameters(), lr=0.1)

    def step(net, opt, x, y):
        opt.zero_grad()
        loss = nn.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        return loss

    x, y = td.randn((5, 3)), td.randint(0, 2, (5,))
    eager = made()
    want = [step(*eager, x, y).item() for _ in range(3)]
    net, opt = made()
    g = td.graph.Graph()
    with g.scope():
        loss = step(net, opt, g.variable("x", (5, 3)), g.variable("y", (5,), td.int64))
    f = g.compile(loss)
    assert [f(x=x, y=y).item() for _ in range(3)] == want
    for p, q in zip(net.parameters(), eager[0].parameters()):
        assert p.tolist() == q.tolist()


def test_a_scope_ends_with_an_error():
    g = td.graph.Graph()
    with pytest.raises(td.ShapeError):
        with g.scope():
            g.variable("x", (2,)) + g.variable("y", (3,))
    assert (td.ones(2) + 1).tolist() == [2, 2]
    with g.scope(), g.scope():
        z = td.zeros(2)
        with pytest.raises(td.CaptureError):
            z[0].item()
    assert td.zeros(2)[0].item() == 0


def test_variables_have_layouts():
    g = td.graph.Graph()
    x = g.variable("x", (1, 2, 3, 4), layout=td.channels_last)
    assert x.is_channels_last() and not g.variable("y", (1, 2, 3, 4)).is_channels_last()
    f = g.compile(x * 2)
    a = td.randn((1, 2, 3, 4))
    with pytest.raises(td.ShapeError, match="layout"):
        f(x=a, y=a)
    assert f(x=a.to(td.channels_last), y=a).tolist() == (a * 2).tolist()
    with pytest.raises(td.ShapeError):
        g.variable("z", (2, 3), layout=td.channels_last)
    with pytest.raises(td.ShapeError):
        g.variable("z", (-1, 3))
    with pytest.raises(td.RangeError, match="unique"):
        g.variable("x", (2,))


def test_a_declared_program_as_text():
    g = td.graph.Graph()
    x = g.variable("x", (4,))
    y = td.exp(x) * td.exp(x)
    text = g.dump(y)
    assert text.count("= exp(") == 2 and text == g.dump([y])
    program = g.compile(y).program
    assert isinstance(program, td.graph.Function)
    # After the passes: computed once, fused.
    assert program.dump() != text and program.dump().count("= exp(") < 2
    assert g.compile(y, without=td.graph.pass_names()).program.dump().count("= exp(") == 2


def test_what_the_passes_did():
    def f(x):
        return td.exp(x) * td.exp(x) + 1

    fast = td.compile(f)
    for ask in (fast.passes, fast.captured_hash):
        with pytest.raises(td.RangeError):
            ask()
    fast(td.ones(4))
    g = td.graph.Graph()
    declared = g.compile(f(g.variable("x", (4,)))).program
    assert fast.captured_hash() == declared.hash
    names = [p["name"] for p in td.graph.all_passes() if p["exact"]]
    for reports in (fast.passes(), declared.passes()):
        assert [r["name"] for r in reports] == names and all(r["exact"] for r in reports)
        by_name = {r["name"]: r for r in reports}
        assert by_name["cse"]["changed"] >= 1
        assert by_name["dce"]["nodes_before"] >= by_name["dce"]["nodes_after"] > 0
        assert set(by_name["fuse"]) == {"name", "exact", "nodes_before", "nodes_after", "changed",
                                        "detail", "ms"}
        assert all(r["ms"] >= 0 and isinstance(r["detail"], str) for r in reports)
    without = td.compile(f, without=["fuse"])
    without(td.ones(4))
    assert [r["name"] for r in without.passes()] == [n for n in names if n != "fuse"]


def test_the_passes_there_are():
    passes = td.graph.all_passes()
    assert [p["name"] for p in passes] == td.graph.pass_names()
    assert {p["name"] for p in passes if not p["exact"]} == {"vendor_epilogue"}
    assert all(len(p["summary"]) > 10 for p in passes)


def test_captures_are_numbered():
    fast = td.compile(lambda x: x + 1)
    for n in (1, 2, 3):
        fast(td.ones(n))
    assert [e["number"] for e in fast.ledger()] == [0, 1, 2]
    first = fast.captured_hash()
    fast(td.ones(1))
    assert fast.captured_hash() != first
