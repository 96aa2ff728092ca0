"""Every public name says what it is; every operation also its shapes and its errors."""

import importlib
import inspect
import pkgutil
import re

import pytest

import tandem as td


def modules():
    """Every public module of the package."""
    yield "tandem"
    for m in pkgutil.walk_packages(td.__path__, "tandem."):
        if not any(part.startswith("_") for part in m.name.split(".")):
            yield m.name


def text_of(obj):
    """The docstring without the signatures that pybind11 puts before it."""
    doc = inspect.getdoc(obj) or ""
    lines = [x for x in doc.splitlines() if not re.match(r"(\d+\. )?\w+\(.*\)( -> .*)?$", x)]
    return "\n".join(x for x in lines if x != "Overloaded function.").strip()


def of_tandem(obj):
    module = getattr(obj, "__module__", None) or ""
    return module == "builtins" or module.split(".")[0] == "tandem"


def public(module):
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    for name in names:
        obj = getattr(module, name)
        if inspect.ismodule(obj) or name == "annotations":
            continue
        if callable(obj) and of_tandem(obj):
            yield name, obj


def members(cls):
    """Methods and properties that the class has of its own or from a private base."""
    for base in cls.__mro__:
        if hasattr(base, "__members__"):
            continue  # an enum has nothing of its own
        own = base is cls or base.__name__.startswith("_")
        if not own or not of_tandem(base) or base is object:
            continue
        for name, obj in vars(base).items():
            if name.startswith("_"):
                continue
            obj = obj.__func__ if isinstance(obj, (staticmethod, classmethod)) else obj
            if callable(obj) or isinstance(obj, property) or inspect.isdatadescriptor(obj):
                yield name, obj


def everything():
    seen = set()
    for module_name in modules():
        module = importlib.import_module(module_name)
        yield module_name, module
        for name, obj in public(module):
            path = f"{module_name}.{name}"
            if id(obj) in seen:
                continue
            seen.add(id(obj))
            yield path, obj
            if inspect.isclass(obj):
                for member, m in members(obj):
                    # What overrides a documented method does what that says.
                    above = [getattr(b, member, None) for b in obj.__mro__[1:]]
                    if not text_of(m) and any(a is not None and text_of(a) for a in above):
                        continue
                    if isinstance(obj.__dict__.get(member), type(td.float32)):
                        continue
                    yield f"{path}.{member}", m


def test_every_public_name_is_documented():
    bad = [path for path, obj in everything() if len(text_of(obj)) < 12]
    assert not bad, "no docstring, or one that says nothing:\n" + "\n".join(sorted(bad))


def test_operations_say_their_shapes_and_errors():
    bad = []
    for name in td._core._documented_operations():
        for owner in (td, td.Tensor, td.nn.functional):
            f = getattr(owner, name, None)
            if f is None:
                continue
            text = text_of(f)
            lacks = [k for k in ("Shapes:", "Errors:", "Source:") if k not in text]
            bad += [f"{owner.__name__}.{name}: {k}" for k in lacks]
    assert not bad, "\n".join(bad)


def test_every_operation_is_among_those_checked():
    """A function of tensors that is bound later cannot be forgotten."""
    known = set(td._core._documented_operations())
    no_operations = {
        "backward", "checkpoint", "clip_grad_norm_", "grad", "gradcheck", "gradgradcheck", "register_hook",
        "from_dlpack", "byte_images", "load_dataset", "read_idx",
    }
    forgotten = []
    for name, f in public(td):
        signature = (inspect.getdoc(f) or "").split("\n")[0]
        if signature.startswith(name + "(") and signature.endswith("-> Tensor"):
            if name not in known | no_operations:
                forgotten.append(name)
    assert not forgotten, forgotten


def test_every_op_of_the_list_says_what_it_does():
    for info in td._core._op_info():
        assert len(info["doc"]) >= 2, info["name"]


@pytest.mark.parametrize("module", [td.nn, td.optim])
def test_what_comes_from_the_literature_says_from_where(module):
    own = {"Identity", "Model", "Module", "ModuleDict", "ModuleList", "Sequential", "Optimizer",
           "Schedule", "ScheduleRule"}
    bad = [name for name, c in public(module) if inspect.isclass(c) and name not in own
           and not re.search(r"(19|20)\d\d|source\s+as|PyTorch|Source:", text_of(c))]
    assert not bad, bad
