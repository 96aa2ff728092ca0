"""Threads train models of their own at once, in either mode, with the numbers each has alone."""

import subprocess
import sys
import threading
import time

import pytest

import tandem as td
from tandem import nn, optim


def train(seed, compiled, steps=40):
    """The losses of a small net with dropout: everything random is the net's own."""
    g = td.Generator(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, generator=g), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Dropout(0.3, generator=g), nn.Linear(4 * 36, 5, generator=g))
    opt = optim.Adam(net.parameters(), lr=1e-2)
    x, y = td.randn((8, 1, 8, 8), generator=g), td.randint(0, 5, (8,), generator=g)

    def step():
        opt.zero_grad()
        loss = nn.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        return loss

    run = td.compile(step) if compiled else step
    return [run().item() for _ in range(steps)]


@pytest.mark.parametrize("modes", [(False,) * 4, (True,) * 4, (False, True, False, True)])
def test_threads_train_independent_models(modes):
    alone = [train(i, False) for i in range(len(modes))]
    together = [None] * len(modes)
    errors = []
    start = threading.Barrier(len(modes))

    def work(i):
        try:
            start.wait()
            together[i] = train(i, modes[i])
        except BaseException as e:  # noqa: BLE001
            errors.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(modes))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert together == alone
    assert len({tuple(losses) for losses in alone}) == len(modes)


def test_a_context_of_one_thread_is_not_that_of_others():
    seen = []
    with td.no_grad(), td.policy(vendor=False):
        t = threading.Thread(
            target=lambda: seen.append((td.is_grad_enabled(), td.get_policy().vendor)))
        t.start()
        t.join()
        assert not td.is_grad_enabled() and not td.get_policy().vendor
    assert seen == [(True, True)]


@pytest.mark.parametrize("compiled", [False, True])
def test_daemon_threads_when_the_program_ends(compiled):
    """They come back from a kernel, or are recording, when there is no interpreter any more."""
    code = f"""
import threading, time
import tandem as td
w = td.rand((700, 700), requires_grad=True)
w.register_hook(lambda g: None)
started = threading.Semaphore(0)

def step(x):
    return td.autograd.grad((w @ x).sum(), w)

def work():
    started.release()
    while True:
        (td.compile(step) if {compiled} else step)(w.detach())

for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
for _ in range(4):
    started.acquire()
time.sleep(0.05)
"""
    for _ in range(4):
        p = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
        assert (p.returncode, p.stderr) == (0, "")


def test_a_callback_that_is_due_when_the_interpreter_is_gone():
    """The kernel before it takes longer than the interpreter's end."""
    code = """
import threading
import tandem as td
td.set_num_threads(1)
begun = threading.Event()
w = td.rand(3000, 3000, requires_grad=True)
w.register_hook(lambda g: print("too late"))

def work():
    y = w @ w.detach()
    y.register_hook(lambda g: begun.set())
    y.sum().backward()

threading.Thread(target=work, daemon=True).start()
begun.wait()
"""
    p = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (p.returncode, p.stdout, p.stderr) == (0, "", "")


@pytest.mark.parametrize("work", [
    "while True: logging.info('%s', x)",  # with the handler's lock held, which logging wants at the end
    "p.register_hook(lambda g: queue.Queue().get()); (p @ p).sum().backward()",
    "td.compile(lambda x: (time.sleep(1000), x)[1])(x)",
])
def test_the_end_does_not_wait_for_what_is_no_kernel(work):
    code = f"""
import logging, queue, threading, time
logging.basicConfig(level=20, filename="/dev/null")
import tandem as td
x, p = td.rand(400, 400), td.rand(400, 400, requires_grad=True)

def run():
    {work}

threading.Thread(target=run, daemon=True).start()
time.sleep(0.3)
import atexit
atexit.register(lambda: print("end"))
"""
    start = time.monotonic()
    p = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (p.returncode, p.stdout, p.stderr) == (0, "end\n", "")
    assert time.monotonic() - start < 15, "the patience for kernels is 20 seconds"
