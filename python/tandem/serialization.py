"""Files of tensors."""

from __future__ import annotations

import pickle
from typing import Any

from ._core import DataError


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
    """Reads what save() wrote. Runs no code from the file: UnpicklingError for other objects,
    DataError for a file that is damaged."""
    with open(path, "rb") as f:
        try:
            return _Safe(f).load()
        except Exception as e:
            if str(e).startswith("[load] tensors and containers only"):
                raise
            raise DataError(
                f"[load] the file is damaged, or none of save()'s; got {type(e).__name__}: {e}"
            ) from e
