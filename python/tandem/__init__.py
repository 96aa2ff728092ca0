"""Tandem: deep learning that runs one program eagerly or compiled, with the same numbers.

>>> import tandem as td
>>> x = td.tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad.tolist()
[2.0, 4.0, 6.0]
"""

import math as _math
import os as _os
import typing as _typing

# Kernels run on OpenMP threads. Spinning ones would keep the cores that Python's threads need.
_os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from ._core import *  # noqa: E402,F401,F403
from ._core import __version__  # noqa: E402,F401
# What is named twice is there for others, too, as type checkers see it.
from ._tensor import (  # noqa: E402
    asarray as asarray,
    cuda_is_available as cuda_is_available,
    tensor as tensor,
)
from ._composed import (  # noqa: E402
    allclose as allclose,
    isclose as isclose,
    logsumexp as logsumexp,
    norm as norm,
    outer as outer,
    rand_like as rand_like,
    randn_like as randn_like,
)
from ._elementwise import (  # noqa: E402
    acosh as acosh,
    asinh as asinh,
    atan2 as atan2,
    atanh as atanh,
    clip as clip,
    copysign as copysign,
    cosh as cosh,
    expm1 as expm1,
    hypot as hypot,
    isfinite as isfinite,
    isinf as isinf,
    log10 as log10,
    log2 as log2,
    logaddexp as logaddexp,
    logical_xor as logical_xor,
    signbit as signbit,
    sinh as sinh,
    tan as tan,
    trunc as trunc,
)
from ._scopes import (  # noqa: E402
    anomaly_mode as anomaly_mode,
    autocast as autocast,
    device as device,
    enable_grad as enable_grad,
    no_grad as no_grad,
    policy as policy,
)
from . import (  # noqa: E402
    autograd as autograd,
    data as data,
    graph as graph,
    nn as nn,
    optim as optim,
    profiler as profiler,
    callbacks as callbacks,
    metrics as metrics,
    tensorboard as tensorboard,
    tradeoff as tradeoff,
)
from ._summary import summary as summary  # noqa: E402
from .data import DataLoader as DataLoader, Dataset as Dataset  # noqa: E402
from .graph import compile as compile  # noqa: E402
from .model import Model as Model  # noqa: E402
from .serialization import load as load, save as save  # noqa: E402

e, inf, nan, pi = _math.e, _math.inf, _math.nan, _math.pi
newaxis = None
contiguous, channels_last = MemoryFormat.contiguous, MemoryFormat.channels_last  # noqa: F405

if _typing.TYPE_CHECKING:
    from . import array_api as array_api
    from .array_api import (
        broadcast_arrays as broadcast_arrays,
        can_cast as can_cast,
        empty_like as empty_like,
        finfo as finfo,
        iinfo as iinfo,
        isdtype as isdtype,
        matrix_transpose as matrix_transpose,
        meshgrid as meshgrid,
        moveaxis as moveaxis,
        repeat as repeat,
        result_type as result_type,
        tensordot as tensordot,
        tile as tile,
        tril as tril,
        triu as triu,
        unstack as unstack,
        vecdot as vecdot,
    )
else:

    def __getattr__(name: str) -> _typing.Any:
        # A namespace that few programs ask for, and what only it has of the standard's functions.
        if not name.startswith("_"):
            import importlib

            array_api = importlib.import_module("tandem.array_api")
            if name == "array_api":
                return array_api
            if name in array_api.supported:
                return globals().setdefault(name, getattr(array_api, name))
        raise AttributeError(f"module 'tandem' has no attribute {name!r}")
