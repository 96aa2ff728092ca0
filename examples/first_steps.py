"""First steps: tensors, gradients, and a network that learns to read digits.

    python examples/first_steps.py

The digits are generated, so the accuracy at the end means nothing but that it works.
"""

from __future__ import annotations

import numpy as np

import tandem as td
from tandem import data, nn, optim


def tensors() -> None:
    a = td.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    print("a * 2 + 1 =", (a * 2 + 1).tolist())
    print("a.T has shape", a.T.shape, "and sums over rows to", a.sum(axis=0).tolist())
    print("the second column is", a[:, 1].tolist())
    # The same memory as NumPy's: nothing is copied.
    array = a.numpy()
    array[0, 0] = 100
    print("NumPy wrote", a[0, 0].item())


def gradients() -> None:
    x = td.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (x * x * x).sum().backward()
    assert x.grad is not None
    print("d/dx sum(x^3) = 3 x^2 =", x.grad.tolist())


def training(steps: int = 120) -> float:
    td.manual_seed(0)
    train, test = data.load_dataset("synthetic-digits")
    net = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(4),
        nn.Flatten(), nn.Linear(8 * 7 * 7, train.classes),
    )
    opt = optim.Adam(net.parameters(), lr=3e-3)
    loader = data.DataLoader(train, batch_size=32, seed=1)
    for i, (x, y) in enumerate(loader):
        opt.zero_grad()
        loss = nn.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        if i % 40 == 0:
            print(f"step {i:3}: loss {loss.item():.3f}")
        if i + 1 == steps:
            break

    net.eval()
    images, labels = test.get(list(range(500)))
    with td.no_grad():
        guesses = net(images).argmax(1)
    return float(np.mean(guesses.numpy() == labels.numpy()))


if __name__ == "__main__":
    tensors()
    gradients()
    print(f"accuracy on generated digits: {training():.2f}")
