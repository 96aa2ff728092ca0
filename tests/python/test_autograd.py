"""Gradients from Python."""

import gc
import threading
import weakref

import numpy as np
import pytest

import tandem as td


def test_backward_and_grad():
    x = td.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = (x**3).sum()
    (g,) = td.autograd.grad(y, [x], create_graph=True)
    assert g.tolist() == [3, 12, 27]
    assert td.autograd.grad(g.sum(), x).tolist() == [6, 12, 18]
    y.backward()
    assert x.grad.tolist() == [3, 12, 27]
    x.grad = None
    assert x.grad is None


def test_no_grad_and_detach():
    x = td.ones(2).requires_grad_()
    with td.no_grad():
        assert not (x * 2).requires_grad
        with td.enable_grad():
            assert (x * 2).requires_grad

    @td.no_grad()
    def f(t):
        return t * 2

    assert not f(x).requires_grad and not x.detach().requires_grad
    assert td.is_grad_enabled()


def test_hooks():
    x = td.ones(2).requires_grad_()
    seen = []
    y = x * 3
    y.register_hook(lambda g: seen.append(g.tolist()))
    x.register_hook(lambda g: g * 10)
    y.sum().backward()
    assert seen == [[1, 1]] and x.grad.tolist() == [30, 30]


class Cube(td.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x)
        ctx.scale = scale
        return x * x * x * scale

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x * x * g * ctx.scale, None


def test_custom_function():
    x = td.tensor([1.0, 2.0], dtype=td.float64).requires_grad_()
    y = Cube.apply(x, 2.0)
    assert y.tolist() == [2, 16]
    y.sum().backward()
    assert x.grad.tolist() == [6, 24]
    for inputs in ([x], (x,), x):
        assert td.autograd.gradcheck(lambda t: Cube.apply(t, 2.0), inputs) is True
        assert td.autograd.gradgradcheck(lambda t: Cube.apply(t, 2.0), inputs) is True


def test_gradcheck_finds_a_wrong_gradient():
    class Wrong(Cube):
        @staticmethod
        def backward(ctx, g):
            return Cube.backward(ctx, g)[0] * 1.01, None

    x = td.tensor([1.0, 2.0], dtype=td.float64).requires_grad_()

    class WrongTwice(Cube):
        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * x * x.detach() * g * ctx.scale, None

    for check, kind in (("gradcheck", Wrong), ("gradgradcheck", WrongTwice)):
        f = getattr(td.autograd, check)
        with pytest.raises(td.AutogradError, match=rf"\[{check}\].*input 0, element 0"):
            f(lambda t: kind.apply(t, 2.0), [x])
        assert f(lambda t: kind.apply(t, 2.0), [x], raise_exception=False) is False


def test_gradcheck_finds_a_wrong_element_of_one_tensor():
    class Wrong(Cube):
        @staticmethod
        def backward(ctx, g):
            return Cube.backward(ctx, g)[0] * td.tensor([1.0, 1.5]), None

    x = td.tensor([1.0, 2.0], dtype=td.float64).requires_grad_()
    with pytest.raises(td.AutogradError, match="input 0, element 1"):
        td.autograd.gradcheck(lambda t: Wrong.apply(t, 2.0), x)


def test_errors_inside_of_callbacks_arrive():
    class Broken(td.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            raise KeyError("mine")

    x = td.ones(2).requires_grad_()
    with pytest.raises(KeyError, match="mine"):
        Broken.apply(x).sum().backward()
    with pytest.raises(ZeroDivisionError):
        td.autograd.checkpoint(lambda t: t * (1 / 0), x)
    with pytest.raises(td.AutogradError, match="input"):
        td.autograd.checkpoint(lambda t: t * x, td.ones(2))


def test_a_checkpoint_notices_writes_to_what_it_reads():
    w = td.tensor([2.0, 2.0], requires_grad=True)
    x = td.ones(2).requires_grad_()
    y = td.autograd.checkpoint(lambda t: t * w * w, x)
    with td.no_grad():
        w *= 3
    with pytest.raises(td.AutogradError, match="written over by 'mul'"):
        y.sum().backward()


def test_a_checkpoint_updates_running_statistics_once():
    x = td.randn((8, 3)).requires_grad_()
    norms = [td.nn.BatchNorm1d(3) for _ in range(2)]
    td.autograd.checkpoint(norms[0], x).sum().backward()
    norms[1](x).sum().backward()
    once, wanted = (dict(n.named_buffers())["running_mean"].tolist() for n in norms)
    assert once == wanted


def test_hooks_can_be_taken_away():
    x = td.ones(1).requires_grad_()
    handle = x.register_hook(lambda g: g * 10)
    handle.remove()
    handle.remove()
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3]


def test_checkpoint():
    w = td.tensor([2.0, 3.0], requires_grad=True)
    y = td.autograd.checkpoint(lambda t, v: td.exp(t * v), td.ones(2), w)
    y.sum().backward()
    assert np.allclose(w.grad.numpy(), np.exp([2.0, 3.0]), rtol=1e-5)


def test_misuse_is_refused():
    x = td.ones(2).requires_grad_()
    y = (x * x).sum()
    y.backward()
    with pytest.raises(td.AutogradError):
        y.backward()
    with pytest.raises(td.AutogradError):
        x += 1
    with pytest.raises(td.AutogradError):
        (x * 1)[0] = 3.0
    with pytest.raises(td.Error):
        (x * 2).backward()


def test_anomaly_mode_names_the_line():
    x = td.tensor([-1.0], requires_grad=True)
    with td.anomaly_mode(), pytest.raises(td.Error, match=r"log.*test_autograd.py"):
        td.log(x).sum().backward()


def test_threads_run_independent_models():
    errors = []

    def work(seed):
        try:
            for _ in range(50):
                x = td.full((64, 64), float(seed)).requires_grad_()
                (x * x).sum().backward()
                assert x.grad[0, 0].item() == 2 * seed
        except BaseException as e:  # noqa: BLE001
            errors.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors


def test_no_leak_in_eager_training():
    x = td.randn((8, 16))
    w = td.randn((4, 16)).requires_grad_()

    def step():
        w.grad = None
        td.relu(td.linear(x, w)).sum().backward()

    for _ in range(100):
        step()
    gc.collect()
    before = td.memory_stats()["in_use"]
    for _ in range(10_000):
        step()
    gc.collect()
    assert td.memory_stats()["in_use"] == before


def test_functions_that_give_no_tensor_are_named():
    x = td.ones(2).requires_grad_()
    y = x * 2
    y.register_hook(lambda g: 5)
    with pytest.raises(TypeError, match=r"\[register_hook\].*int"):
        y.sum().backward()

    class Bad(td.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return 5

    with pytest.raises(TypeError, match=r"\[custom function\].*int"):
        Bad.apply(x).sum().backward()
    with pytest.raises(TypeError, match=r"\[checkpoint\].*int"):
        td.autograd.checkpoint(lambda x: x, 5)


def test_errors_of_the_tape_name_the_line():
    x = td.ones(2).requires_grad_()
    y = (x * x).sum()
    y.backward()
    with pytest.raises(td.AutogradError) as e:
        y.backward()
    assert "test_autograd.py:" in str(e.value) and ".cpp" not in str(e.value)
    with pytest.raises(td.AutogradError) as e:
        td.autograd.grad(td.ones(()), x)
    assert "test_autograd.py:" in str(e.value)


class Both(td.autograd.Function):
    @staticmethod
    def forward(ctx, x, k=2):
        ctx.k = k
        return x * k, x + 1

    @staticmethod
    def backward(ctx, a, b):
        return a * ctx.k + b, None, None


@pytest.mark.parametrize("compiled", [False, True])
def test_a_result_that_nobody_uses_has_a_gradient_of_zeros(compiled):
    x = td.ones(2, requires_grad=True)

    def f():
        x.grad = None
        Both.apply(x, 5)[0].sum().backward()
        return x.grad

    f = td.compile(f) if compiled else f
    for _ in range(3):
        assert f().tolist() == [5, 5]
    x.grad = None
    Both.apply(x)[1].sum().backward()  # surplus Nones are none's
    assert x.grad.tolist() == [1, 1]


def test_the_line_of_an_operation_whose_input_was_written_over():
    def broken():
        h = td.ones(2, requires_grad=True) * 2
        y = h * h
        h += 1
        y.sum().backward()

    line = broken.__code__.co_firstlineno
    with pytest.raises(td.AutogradError, match="called at a line that only anomaly mode notes"):
        broken()
    with td.anomaly_mode(), pytest.raises(td.AutogradError, match=rf"autograd.py:{line + 2}\)"):
        broken()


def test_advice_is_given_in_pythons_words():
    w = td.ones(2, requires_grad=True)
    with pytest.raises(td.AutogradError, match=r"tandem.no_grad\(\) around"):
        w += 1
    import random

    f = td.compile(lambda x: x * random.random())
    with pytest.raises(td.CaptureError) as e:
        f(td.ones(2))
    assert "Guarded" not in str(e.value) and "an argument of another kind" in str(e.value)


def test_a_function_keeps_what_it_saves_only():
    class Twice(td.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            return x * factor

        @staticmethod
        def backward(ctx, g):
            return g * 2, None

    w = td.ones(3, requires_grad=True)
    x = w + 1
    gone = weakref.ref(x)
    y = Twice.apply(x, 2)
    del x
    assert gone() is None
    y.sum().backward()
    assert w.grad.tolist() == [2, 2, 2]
