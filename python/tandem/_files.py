"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Iterator


def part_of(path: Any) -> tuple[str, str]:
    """Where a path leads, and what is written first: a file beside it, or, where there is something
    that is no file (/dev/stdout), that itself."""
    place = os.path.realpath(path)
    is_file = not os.path.exists(place) or os.path.isfile(place)
    return place, f"{place}.part" if is_file else place


@contextlib.contextmanager
def whole_file(path: Any) -> Iterator[str]:
    """Gives the path to write to; then the file takes the place of what was there."""
    place, part = part_of(path)
    try:
        yield part
    except BaseException:
        if part != place:
            with contextlib.suppress(FileNotFoundError):
                os.remove(part)
        raise
    if part != place:
        os.replace(part, place)
