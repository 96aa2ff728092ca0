"""What is done with parameters between the backward pass and the optimiser's step."""

from .._core import clip_grad_norm_, clip_grad_value_

__all__ = ["clip_grad_norm_", "clip_grad_value_"]
