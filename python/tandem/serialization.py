"""Files of tensors."""

from __future__ import annotations

import pickle
import sys
import types
from typing import Any

from ._core import DataError, Tensor
from ._files import whole_file

# Nothing but tensors, NumPy's arrays and numbers, and plain containers: a file may come from anywhere.
_ALLOWED = {("tandem._tensor", "_rebuild"), ("collections", "OrderedDict"), ("_codecs", "encode"),
            ("builtins", "complex"),
            ("numpy", "ndarray"), ("numpy", "dtype"),
            *((f"numpy.{core}.{where}", name) for core in ("core", "_core")
              for where, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"),
                                  ("numeric", "_frombuffer")))}


class _Checked(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        is_name = isinstance(obj, (type, types.FunctionType, types.BuiltinFunctionType))
        kind = obj if is_name else type(obj)
        numpy = sys.modules.get("numpy")
        plain = (Tensor, numpy.generic, numpy.dtype) if numpy else Tensor
        if (kind.__module__, kind.__qualname__) in _ALLOWED or (
                not is_name and isinstance(obj, plain)):
            return NotImplemented
        raise pickle.PicklingError(
            "[save] what load() may read is tensors, NumPy's arrays, numbers, text and containers of "
            f"these; got {kind.__module__}.{kind.__qualname__}; expected its state_dict(), say, or "
            "str() of it")


def save(obj: Any, path: Any) -> None:
    """Writes tensors in dicts, lists and tuples (a state_dict, say) to a file, with NumPy's arrays,
    numbers and text among them. Pickle format. PicklingError for what load() would refuse; then the
    file is as it was."""
    with whole_file(path) as part, open(part, "wb") as f:
        _Checked(f, protocol=pickle.HIGHEST_PROTOCOL).dump(obj)


class _Safe(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(
            f"[load] tensors, NumPy's arrays and containers only; got {module}.{name}")


def load(path: Any) -> Any:
    """Reads what save() wrote. Runs no code from the file: UnpicklingError for other objects,
    DataError for a file that is damaged."""
    with open(path, "rb") as f:
        try:
            return _Safe(f).load()
        except Exception as e:
            if str(e).startswith("[load] tensors"):
                raise
            raise DataError(
                f"[load] the file is damaged, or none of save()'s; got {type(e).__name__}: {e}"
            ) from e
