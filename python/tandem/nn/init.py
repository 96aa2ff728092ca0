"""Initial values, written into tensors in place."""

from .._core._init import (  # noqa: F401
    constant_,
    dirac_,
    fans,
    kaiming_normal_,
    kaiming_uniform_,
    normal_,
    ones_,
    orthogonal_,
    trunc_normal_,
    uniform_,
    xavier_normal_,
    xavier_uniform_,
    zeros_,
)
