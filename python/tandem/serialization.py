"""Files of tensors."""

from __future__ import annotations

import pickle
from typing import Any


def save(obj: Any, path: Any) -> None:
    """Writes tensors in dicts, lists and tuples (a state_dict, say) to a file. Pickle format."""
    with open(path, "wb") as f:
        pickle.dump(obj, f, protocol=pickle.HIGHEST_PROTOCOL)


class _Safe(pickle.Unpickler):
    """Nothing but tensors and plain containers: a file may come from anywhere."""

    _allowed = {("tandem._tensor", "_rebuild"), ("collections", "OrderedDict")}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._allowed:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"[load] tensors and containers only; got {module}.{name}")


def load(path: Any) -> Any:
    """Reads what save() wrote. Runs no code from the file: UnpicklingError for other objects."""
    with open(path, "rb") as f:
        return _Safe(f).load()
