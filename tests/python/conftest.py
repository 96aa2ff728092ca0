"""What several of the tests need."""

import signal

import pytest

# Programs that a shell runs in the background ignore it, and so does what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def traces(monkeypatch):
    """An entry for each time that a compiled function is recorded."""
    from tandem import _capture

    seen, plain = [], _capture.trace
    monkeypatch.setattr(_capture, "trace", lambda *a: (seen.append(1), plain(*a))[1])
    return seen
