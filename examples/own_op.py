"""Write your own operation with its gradient, check it, and use it in both modes.

    python examples/own_op.py

The operation is the Huber loss of a residual: quadratic near 0, linear beyond `delta`. As autograd
would differentiate what forward does anyway, this shows how; it pays where a gradient is known in a
shorter or a stabler form, or where forward is something autograd cannot see through.
"""

from __future__ import annotations

from typing import Any

import tandem as td


class Huber(td.autograd.Function):
    """x^2 / 2 where |x| <= delta, else delta (|x| - delta / 2), elementwise."""

    @staticmethod
    def forward(ctx: Any, x: td.Tensor, delta: float) -> td.Tensor:
        ctx.save_for_backward(x)
        ctx.delta = delta
        size = td.abs(x)
        return td.where(size <= delta, td.square(x) / 2, delta * (size - delta / 2))

    @staticmethod
    def backward(ctx: Any, g: td.Tensor) -> tuple[td.Tensor, None]:
        (x,) = ctx.saved_tensors
        # One gradient for each argument of forward; None for what is no tensor.
        return g * td.clamp(x, -ctx.delta, ctx.delta), None


def huber(x: td.Tensor, delta: float = 1.0) -> td.Tensor:
    y: td.Tensor = Huber.apply(x, delta)
    return y


def main() -> float:
    x = td.tensor([-3.0, -0.5, 0.25, 2.0], requires_grad=True)
    y = huber(x)
    y.sum().backward()
    assert x.grad is not None
    print("huber ", y.tolist())
    print("slope ", x.grad.tolist())

    # Against differences of the function itself, in float64; and the gradient's own gradient.
    z = td.tensor([-3.0, -0.5, 0.25, 2.0], dtype=td.float64, requires_grad=True)
    assert td.autograd.gradcheck(huber, [z])
    assert td.autograd.gradgradcheck(huber, [z])
    print("gradcheck and gradgradcheck agree")

    # A line through points, one of which is far off: fitted eagerly and compiled.
    t = td.linspace(-1, 1, 41)
    target = 3 * t - 1
    target[7] = 40.0

    def fit(compiled: bool) -> tuple[float, float]:
        w = td.zeros(2).requires_grad_()
        opt = td.optim.SGD([w], lr=0.5)

        def step() -> td.Tensor:
            opt.zero_grad()
            loss = huber(w[0] * t + w[1] - target).mean()
            loss.backward()
            opt.step()
            return loss

        run = td.compile(step) if compiled else step
        for _ in range(200):
            run()
        return w[0].item(), w[1].item()

    slope, offset = fit(compiled=False)
    assert fit(compiled=True) == (slope, offset)
    print(f"slope {slope:.3f} and offset {offset:.3f}, in both modes, despite the outlier")
    return slope


if __name__ == "__main__":
    main()
