"""Tandem: deep learning that runs one program eagerly or compiled, with the same numbers.

>>> import tandem as td
>>> x = td.tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad.tolist()
[2.0, 4.0, 6.0]
"""

import math as _math
import os as _os

# Kernels run on OpenMP threads. Spinning ones would keep the cores that Python's threads need.
_os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from ._core import *  # noqa: E402,F401,F403
from ._core import __version__  # noqa: E402,F401
from ._tensor import asarray, cuda_is_available, tensor  # noqa: E402,F401
from ._scopes import (  # noqa: E402,F401
    anomaly_mode,
    autocast,
    device,
    enable_grad,
    no_grad,
    policy,
)
from . import autograd, data, graph, nn, optim, profiler  # noqa: E402,F401
from .graph import compile  # noqa: E402,F401
from .serialization import load, save  # noqa: E402,F401

e, inf, nan, pi = _math.e, _math.inf, _math.nan, _math.pi
newaxis = None
contiguous, channels_last = MemoryFormat.contiguous, MemoryFormat.channels_last  # noqa: F405
