"""Calls that cannot be: what they say, whose line they name, and that they do no harm."""

import inspect
import re

import numpy as np
import pytest

import tandem as td
from tandem import data, nn, optim

X, W = td.ones((2, 3)), td.ones(2, requires_grad=True)



def declared():
    g = td.graph.Graph()
    return g.compile(g.variable("x", (2,)) * 2)


# A call, and what stands behind "[name] ": the rule; what was given; what would have fit.
REFUSED = [
    ("full", lambda: td.full(2, 3, 4), "shape is one argument; got 2, 3, 4; expected (2, 3, 4)"),
    ("zeros", lambda: td.zeros(2, 3, 1.5), "shape does not fit; got 2, 3, 1.5; expected whole num"),
    ("zeros", lambda: td.zeros(2, 3.0), "shape does not fit; got 2, 3.0; expected whole numbers"),
    ("zeros", lambda: td.zeros(2, 3, dtype="foo"), "dtype does not fit; got 'foo'; expected tandem"),
    ("rand", lambda: td.rand(2, 3, generator=5), "generator does not fit; got 5; expected Generator"),
    ("zeros", lambda: td.zeros(2, 3, td.float64),
     "beside shape one by one the rest goes by name; got 2, 3, dtype; expected (2, 3, …=…)"),
    ("zeros", lambda: td.zeros(2, "f"), "dtype does not fit; got 'f'; expected tandem.float32"),
    ("zeros", lambda: td.zeros(2, 3, typo=1), "there is no argument 'typo'; got typo=1; expected"),
    ("reshape", lambda: td.reshape(X, 2, -1), "takes fewer arguments; got 3; expected at most 2: "),
    ("reshape", lambda: X.reshape(2, 1.5), "shape does not fit; got 2, 1.5; expected whole number"),
    ("permute", lambda: X.permute("ab"), "axes does not fit; got 'ab'; expected a number or a tup"),
    ("sum", lambda: X.sum(dim=1), "there is no argument 'dim'; got dim=1; expected axis, keepdims"),
    ("sum", lambda: td.sum(), "an argument is missing; got none; expected x"),
    ("relu", lambda: td.relu(np.ones(2)),
     "x does not fit; got numpy.ndarray; expected a tensor: tandem.asarray(…)"),
    ("relu", lambda: td.relu(X, X), "takes fewer arguments; got 2; expected at most 1: x"),
    ("forward", lambda: nn.Linear(3, 1)(np.ones((2, 3), "f")),
     "x does not fit; got numpy.ndarray; expected a tensor: tandem.asarray(…)"),
    ("ones", lambda: td.ones(2, dtype="float31"),
     "dtype does not fit; got 'float31'; expected tandem.float32, 'float32', …"),
    ("ones", lambda: td.ones("ab"), "shape does not fit; got 'ab'; expected a number or a tuple"),
    ("softmax", lambda: td.softmax(X, "last"), "axis does not fit; got 'last'; expected int"),
    ("linear", lambda: nn.Linear(2, None), "out_features does not fit; got None; expected int"),
    ("conv2d", lambda: nn.Conv2d(1, 1, 3, padding="same"),
     "padding does not fit; got 'same'; expected a number or two of them"),
    ("conv2d", lambda: nn.Conv2d(1, 1, (3, 3, 3)),
     "kernel_size does not fit; got tuple; expected a number or two of them"),
    ("conv2d", lambda: nn.Conv2d(1, 1, 1.5), "kernel_size does not fit; got 1.5; expected a"),
    ("Adam", lambda: optim.Adam(), "an argument is missing; got none; expected params"),
    ("DataLoader", lambda: data.DataLoader(3), "dataset does not fit; got 3; expected "),
    ("DataLoader", lambda: data.DataLoader([1], mean=None), "mean does not fit; got None; expecte"),
    ("DataLoader", lambda: data.DataLoader([1], std="a"), "std does not fit; got 'a'; expected a "),
    ("DataLoader", lambda: data.DataLoader([1], collate=3), "collate does not fit; got 3; expecte"),
    ("DataLoader", lambda: data.DataLoader([1], num_workers=1.5), "num_workers does not fit; got "),
    ("MaxPool2d", lambda: nn.MaxPool2d(1.5), "kernel_size does not fit; got 1.5; expected a numbe"),
    ("AvgPool2d", lambda: nn.AvgPool2d(2, "a"), "stride does not fit; got 'a'; expected a number"),
    ("Flatten", lambda: nn.Flatten("x"), "start_axis does not fit; got 'x'; expected a whole"),
    ("Softmax", lambda: nn.Softmax(1.5), "axis does not fit; got 1.5; expected a whole number"),
    ("LeakyReLU", lambda: nn.LeakyReLU("x"), "slope does not fit; got 'x'; expected a number"),
    ("AdaptiveAvgPool2d", lambda: nn.AdaptiveAvgPool2d("x"), "output_size does not fit; got 'x'"),
    ("CrossEntropyLoss", lambda: nn.CrossEntropyLoss("x"), "label_smoothing does not fit; got 'x'"),
    ("ModuleList", lambda: nn.ModuleList(3), "modules come as a list; got 3; expected [nn.Linear("),
    ("ModuleDict", lambda: nn.ModuleDict(3), "modules come with their names; got 3; expected {'re"),
    ("Sequential", lambda: nn.Sequential(nn.ReLU())[0:1.5], "a slice's stop does not fit; got 1.5"),
    ("Sequential", lambda: nn.Sequential().__delitem__(slice(None, "a")), "a slice's stop does no"),
    ("ModuleList", lambda: nn.ModuleList().insert("a", nn.ReLU()), "index does not fit; got 'a'; "),
    ("ModuleList", lambda: nn.ModuleList().__setitem__(slice(1), 3), "modules come as a list; got"),
    ("BatchNorm1d", lambda: nn.BatchNorm1d(2, momentum="a"), "momentum does not fit; got 'a'; exp"),
    ("LayerNorm", lambda: nn.LayerNorm(2, eps=None), "eps does not fit; got None; expected a numb"),
    ("metrics", lambda: td.Model(nn.ReLU(), None, metrics=3), "takes names, functions and Metrics"),
    ("graph", lambda: td.compile(td.graph.variable("A") * td.graph.variable("B"))(X, X),
     "variables are given by name; got 2 without; expected A=…, B=…"),
    ("graph", lambda: declared()(X), "variables are given by name; got 1 without; expected x=…"),
    ("compile", lambda: td.compile(td.relu, mode="max"),
     "there is no argument 'mode'; got mode='max'; expected without, fast, memory_plan, "),
    ("compile", lambda: td.compile(nn.ReLU(), max_signatures="a"), "max_signatures does not fit; "),
    ("manual_seed", lambda: td.manual_seed(td.graph.variable("A")), "this happens when it is call"),
    ("copy", lambda: td.ones(2).copy_(td.graph.variable("A")), "this happens when it is called, a"),
    ("graph", lambda: setattr(optim.SGD([W]), "lr", td.graph.variable("A")), "this happens when i"),
    ("fit", lambda: td.Model(nn.Linear(3, 2)).fit(X), "takes arrays x and y, a data set, or batch"),
    ("fit", lambda: td.Model(nn.Linear(3, 2)).fit({"x": X}), "takes arrays x and y, a data set, o"),
    ("fit", lambda: td.Model(nn.Linear(3, 2)).fit(X, X, verbose="auto"), "verbose does not fit; g"),
    ("fit", lambda: td.Model(nn.Linear(3, 2)).fit(X, X, callbacks="EarlyStopping"),
     "callbacks are Callbacks; got 'EarlyStopping'; expected an object"),
    ("predict", lambda: td.Model(nn.Linear(3, 2)).predict(3), "takes an array x, a data set, or b"),
    ("SGD", lambda: setattr(optim.SGD([W]), "lr", "x"), "the attribute cannot be this; got 'x'; e"),
    ("Tensor", lambda: setattr(X, "requires_grad", "x"), "the attribute cannot be this; got 'x'; "),
    ("Tensor", lambda: setattr(X, "grad", 3), "the attribute cannot be this; got 3; expected a te"),
    ("clamp", lambda: td.clamp(X, min="a"), "min does not fit; got 'a'; expected "),
    ("zeros", lambda: td.zeros(td.tensor([2.0, 3.0])), "shape does not fit; got Tensor; expected a"),
    ("manual_seed", lambda: td.manual_seed(-1), "seed is out of range; got -1; expected 0 or more"),
    ("set_num_threads", lambda: td.set_num_threads(2**40),
     "n is out of range; got 1099511627776; expected a smaller number"),
    ("mul", lambda: td.tensor(2) * "ab", "text is no operand; got a str; expected a tensor or a numb"),
    ("mul", lambda: b"ab" * td.tensor(2), "text is no operand; got a bytes; expected a tensor or a n"),
    ("eq", lambda: td.ones(2) == [1, 1], "lists are no operands; got a list; expected tandem.tensor"),
    ("ne", lambda: td.ones(2) != (1, 1), "lists are no operands; got a tuple; expected tandem.tensor"),
    ("lt", lambda: td.ones(2) < "a", "text is no operand; got a str; expected a tensor or a number"),
    ("tensor", lambda: td.asarray(None), "cannot be made into a tensor; got <class 'NoneType'>; expe"),
    ("tensor", lambda: td.asarray("a"), "cannot be made into a tensor; got <class 'str'>; expected nu"),
]


# The same for other errors, which say in addition where.
TOLD = [
    (OverflowError, lambda: td.zeros(2**63), "[shape] an integer must fit 64 bits; got 9223372036"),
    (OverflowError, lambda: td.zeros((2, 2**63)), "[shape] an integer must fit 64 bits; got 92233720"),
    (OverflowError, lambda: X + 2**64, "[scalar] an integer must fit 64 bits; got 18446744073709551616"),
    (td.ShapeError, lambda: td.zeros((1,) * 12), "[shape] a tensor has at most 8 axes; got 12"),
    (td.ShapeError, lambda: td.asarray(np.ones((1,) * 12)), "[shape] a tensor has at most 8 axes; got "),
    (td.ShapeError, lambda: td.empty(2, -3), "[empty] sizes must not be negative; got [2, -3]"),
    (td.ShapeError, lambda: bool(td.ones(3)),
     "[bool] the truth of a tensor is that of its one element; got f32[3]; expected .all() or .any()"),
    (td.AutogradError, lambda: td.ones(2).backward(),
     "[backward] the output does not depend on anything that requires a gradient; got f32[2]"),
    (td.RangeError, lambda: optim.SGD([]), "[SGD] a group has parameters; got none; expected at least"),
    (td.ShapeError, lambda: td.summary(nn.Linear(3, 1), (1, 4)),
     "[summary] the network takes no samples of this shape; got (1, 4), in batches of 1; expected "),
    (td.RangeError, lambda: td.callbacks.EarlyStopping(patience=-1),
     "[EarlyStopping] patience is out of range; got -1; expected 0 or more"),
    (td.RangeError, lambda: td.callbacks.ReduceLROnPlateau(factor=1),
     "[ReduceLROnPlateau] factor must make the rate smaller; got 1; expected a number between 0 and 1"),
    (td.RangeError, lambda: td.callbacks.ReduceLROnPlateau(min_lr=-1),
     "[ReduceLROnPlateau] min_lr is out of range; got -1; expected 0 or more"),
    (td.AutogradError, lambda: np.mean(td.ones(2, requires_grad=True)), "[numpy] the tape does not f"),
    (td.RangeError, lambda: nn.utils.clip_grad_norm_([X], -1), "[clip_grad_norm] max_norm is out of"),
]


@pytest.mark.parametrize("kind, call, text", TOLD, ids=[t[2].partition(";")[0] for t in TOLD])
def test_what_is_wrong_is_told(kind, call, text):
    with pytest.raises(kind) as e:
        call()
    assert str(e.value).startswith(text)


@pytest.mark.parametrize("call", [
    lambda: memoryview(td.ones(2)[0]), lambda: nn.Linear(3, 1).weight.item(),
    lambda: td.Device("gpu"), lambda: optim.StepLR(optim.SGD([td.ones(1, requires_grad=True)]), 0),
    lambda: td.graph.compile(lambda x: x, max_signatures=0),
])
def test_errors_of_what_is_no_operation_name_the_line(call):
    try:
        call()
    except td.Error as e:
        assert "(at test_call_errors.py:" in str(e)


@pytest.mark.parametrize("name, call, text", REFUSED, ids=[f"{i}-{r[0]}" for i, r in
                                                           enumerate(REFUSED)])
def test_an_argument_that_does_not_fit_is_named(name, call, text):
    with pytest.raises(TypeError) as e:
        call()
    assert str(e.value).startswith(f"[{name}] {text}")
    assert "Invoked with" not in str(e.value)


def test_errors_of_functions_that_are_called_in_between_are_left():
    def f(x):
        raise TypeError("relu(): incompatible function arguments. Mine.")

    with pytest.raises(TypeError, match="Mine"):
        td.autograd.checkpoint(f, td.ones(2).requires_grad_())


@pytest.mark.parametrize("call", [
    lambda: td.ones(2, device="gpu"),
    lambda: X.to("gpu"),
    lambda: nn.Linear(2, 2).to("gpu"),
    lambda: nn.Sequential(nn.ReLU(), nn.Linear(2, 2)).to("gpu"),
    lambda: td.device("gpu"),
    lambda: td.set_default_device("gpu"),
])
def test_a_device_there_is_not(call):
    with pytest.raises(td.DeviceError, match="gpu.*cpu.*cuda"):
        call()


@pytest.mark.parametrize("call", [lambda: X.to(X), lambda: nn.Linear(2, 2).to(X)])
def test_what_nothing_is_converted_to(call):
    with pytest.raises(TypeError, match="takes a dtype, a device or a memory format.*x.dtype"):
        call()


# Each is one line, so that the line of the call is that of the function.
LINES = [
    lambda: nn.Linear(2, 2).to("cuda"),
    lambda: nn.Linear(2, 2).to(td.int32),
    lambda: nn.Linear(-2, 2),
    lambda: nn.Conv2d(3, 4, 3, groups=2),
    lambda: nn.BatchNorm2d(-1),
    lambda: nn.LayerNorm(-1),
    lambda: nn.Dropout(3.0),
    lambda: nn.Embedding(-1, 2),
    lambda: nn.make_model("no such"),
    lambda: nn.init.normal_(td.ones(2), std=-1),
    lambda: nn.init.uniform_(td.ones(2), 1, 0),
    lambda: nn.init.kaiming_normal_(td.ones(2)),
    lambda: nn.init.kaiming_uniform_(td.ones((2, 2)), mode="none"),
    lambda: nn.init.xavier_uniform_(td.ones(2)),
    lambda: nn.init.orthogonal_(td.ones(2)),
    lambda: ~td.ones(2),
    lambda: [1, 2][td.ones(())],
    lambda: td.ones(2)[5],
    lambda: td.ones((2, 3, 4)).T,
    lambda: td.ones(2).to("gpu"),
    lambda: optim.Adam([td.ones(2)]),
    lambda: optim.SGD([td.ones(2).requires_grad_()], lr=-1),
    lambda: data.DataLoader(data.load_dataset("synthetic-digits")[0], batch_size=0),
    lambda: td.grad(td.ones(2), td.ones(2)),
]


@pytest.mark.parametrize("call", LINES, ids=map(str, range(len(LINES))))
def test_the_line_that_is_named_is_the_callers(call):
    if not td.cuda_is_available() or call is not LINES[0]:
        with pytest.raises(td.Error) as e:
            call()
        line = inspect.getsourcelines(call)[1]
        assert re.findall(r"\(at ([^)]*)\)", str(e.value)) == [f"test_call_errors.py:{line}"]


def unmade():
    for module in (td, td._core):
        for kind in vars(module).values():
            if isinstance(kind, type) and "pybind11" in type(kind).__name__:
                yield kind


@pytest.mark.parametrize("kind", sorted(set(unmade()), key=lambda k: k.__name__))
def test_what_was_never_made_cannot_be_used(kind):
    x = kind.__new__(kind)
    used = 0
    for name, member in inspect.getmembers(kind):
        wants = (member.__doc__ or "").partition("\n")[0] if callable(member) else ""
        if isinstance(member, property):
            with pytest.raises((TypeError, RuntimeError)):
                member.fget(x)
            used += 1
        elif wants.startswith(f"{name}(self: ") and name not in ("__init__", "__setstate__"):
            # As many arguments as it takes, of whatever sort.
            for n in range(4):
                with pytest.raises((TypeError, RuntimeError)):
                    member(x, *[1] * n)
            used += 1
    assert used or kind.__name__ == "Function"
    with pytest.raises((TypeError, RuntimeError)):
        optim.StepLR(x, 1)


def test_lists_that_hold_themselves():
    own = []
    own.append(own)
    with pytest.raises(TypeError, match="concat"):
        td.concat(own)
