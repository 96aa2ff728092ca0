"""The networks of the experiments, in PyTorch, with the optimiser each is trained with."""

import torch
from torch import nn


def lenet():
    """E1: two 5x5 convolutions and two linear layers; 3,274,634 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 1024), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(1024, 10))


def vgg():
    """E2: the VGG-style net of the CIFAR-10 comparison; 3,441,592 parameters."""
    def group(cin, cout):
        return [nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU(),
                nn.Conv2d(cout, cout, 3, padding=1), nn.ReLU(),
                nn.MaxPool2d(2), nn.Dropout(0.25)]
    return nn.Sequential(
        *group(3, 50), *group(50, 100),
        nn.Flatten(), nn.Linear(100 * 8 * 8, 512), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(512, 10))


class Residual(nn.Module):
    """A basic (two 3x3) or bottleneck (1x1, 3x3, 1x1) block; the stride sits on a 3x3."""

    def __init__(self, cin, width, stride, bottleneck):
        super().__init__()
        cout = width * 4 if bottleneck else width
        if bottleneck:
            shape = [(cin, width, 1, 1), (width, width, 3, stride), (width, cout, 1, 1)]
        else:
            shape = [(cin, width, 3, stride), (width, width, 3, 1)]
        layers = []
        for a, b, k, s in shape:
            layers += [nn.Conv2d(a, b, k, stride=s, padding=k // 2, bias=False),
                       nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
        self.main = nn.Sequential(*layers[:-1])
        self.skip = nn.Identity()
        if stride != 1 or cin != cout:
            self.skip = nn.Sequential(
                nn.Conv2d(cin, cout, 1, stride=stride, bias=False), nn.BatchNorm2d(cout))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.main(x) + self.skip(x))


def resnet(counts, bottleneck, classes, small):
    """`small`: the stem for 32x32 images (3x3 convolution, no pooling)."""
    if small:
        stem = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64),
                nn.ReLU(inplace=True)]
    else:
        stem = [nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64),
                nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1)]
    blocks, cin = [], 64
    for i, n in enumerate(counts):
        for j in range(n):
            width = 64 << i
            blocks.append(Residual(cin, width, 2 if i > 0 and j == 0 else 1, bottleneck))
            cin = width * 4 if bottleneck else width
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(cin, classes))


# name, as Tandem's: (channels, image size, classes, batch)
SHAPES = {
    "lenet": (1, 28, 10, 64),
    "vgg-cifar": (3, 32, 10, 64),
    "resnet18-cifar": (3, 32, 10, 32),
    "resnet50": (3, 224, 1000, 256),
}


def build(name, image):
    if name == "lenet":
        return lenet()
    if name == "vgg-cifar":
        return vgg()
    classes, small = SHAPES[name][2], image <= 64
    if name == "resnet18-cifar":
        return resnet([2, 2, 2, 2], False, classes, small)
    return resnet([3, 4, 6, 3], True, classes, small)


def optimiser(name, params, kind, capturable):
    """The optimiser of an experiment. `kind`: "auto" takes the fused one where there is one.

    Returns (optimiser, the kind taken).
    """
    params = list(params)
    if name == "lenet":
        make, options = torch.optim.Adam, {"lr": 1e-4}
        if capturable:
            options["capturable"] = True
    else:
        decay = {"vgg-cifar": 0.0, "resnet18-cifar": 5e-4, "resnet50": 1e-4}[name]
        make = torch.optim.SGD
        options = {"lr": 0.01, "momentum": 0.9, "weight_decay": decay}
    kinds = ["fused", "foreach", "loop"] if kind == "auto" else [kind]
    # On the CPU the multi-tensor form gains nothing; what PyTorch takes by default is the loop.
    if kind == "auto" and params[0].device.type == "cpu":
        kinds = ["fused", "loop"]
    for k in kinds:
        extra = {"fused": {"fused": True}, "foreach": {"foreach": True},
                 "loop": {"foreach": False}}[k]
        try:
            return make(params, **options, **extra), k
        except (TypeError, RuntimeError, ValueError):
            if k == kinds[-1]:
                raise
    raise AssertionError("unreachable")
