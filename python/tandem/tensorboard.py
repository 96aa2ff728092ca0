"""Files for TensorBoard, written by the tensorboard package itself.

with td.tensorboard.SummaryWriter("runs/lenet") as w:
    w.add_scalar("loss", loss, step)

Model.fit() takes the callback tandem.callbacks.TensorBoard, which does this by itself.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from typing import Any, Mapping

from . import _core
from ._capture import note_write
from ._core import Tensor
from ._optional import optional
from ._structure import leaves
from ._summary import evaluated, example_input

__all__ = ["SummaryWriter"]


def _array(a: Any) -> Any:
    import numpy as np

    return np.asarray(a.detach() if isinstance(a, Tensor) else a)


def _png(image: Any) -> bytes:
    """uint8 [H, W, 1 or 3] as PNG (ISO/IEC 15948)."""
    h, w, channels = image.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + image[y].tobytes() for y in range(h))  # filter 0: as they are
    head = struct.pack(">IIBBBBB", w, h, 8, 0 if channels == 1 else 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
            + chunk(b"IEND", b""))


def _pixels(image: Any, op: str) -> Any:
    """[C, H, W] or [H, W], floats in [0, 1] or uint8, as uint8 [H, W, C]."""
    import numpy as np

    a = _array(image)
    if a.ndim == 2:
        a = a[None]
    if a.ndim != 3 or a.shape[0] not in (1, 3):
        raise _core.ShapeError(
            f"[{op}] an image must be [H, W] or [C, H, W] with 1 or 3 channels; got {a.shape}"
        )
    if a.dtype != np.uint8:
        a = np.clip(np.nan_to_num(a.astype(np.float64)) * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(a.transpose(1, 2, 0))


class SummaryWriter:
    """Writes what TensorBoard shows to a folder, which is made. Values are tensors, arrays or
    numbers; `step` is the position on the x axis. Also a context manager, which closes it. What is
    written after that goes to another file in the folder.

    ImportError without the package tensorboard.
    """

    def __init__(self, log_dir: Any):
        def part(name: str) -> Any:
            return optional(f"tensorboard.{name}", "tensorboard", "tensorboard")

        self.log_dir = os.fspath(log_dir)
        self._scalar = part("plugins.scalar.summary_v2").scalar_pb
        self._histogram = part("plugins.histogram.summary_v2").histogram_pb
        self._text = part("plugins.text.summary_v2").text_pb
        self._proto = {n: part(f"compat.proto.{n}_pb2")
                       for n in ("event", "summary", "graph", "node_def", "types")}
        self._open = part("summary.writer.event_file_writer").EventFileWriter
        self._writer: Any = self._open(self.log_dir)

    def _write(self, **event: Any) -> None:
        note_write()
        if self._writer is None:
            self._writer = self._open(self.log_dir)
        self._writer.add_event(self._proto["event"].Event(wall_time=time.time(), **event))

    def _add(self, step: int, summary: Any) -> None:
        self._write(step=step, summary=summary)

    def add_scalar(self, tag: str, value: Any, step: int) -> None:
        """One number. ShapeError for more."""
        a = _array(value)
        if a.size != 1:
            raise _core.ShapeError(f"[add_scalar] takes one number; got {a.shape}")
        self._add(step, self._scalar(tag, float(a.reshape(()))))

    def add_scalars(self, values: Mapping[str, Any], step: int) -> None:
        """Several numbers by tag."""
        for tag, value in values.items():
            self.add_scalar(tag, value, step)

    def add_histogram(self, tag: str, values: Any, step: int, buckets: int = 30) -> None:
        """How values of any shape are distributed; those that are not finite are left out."""
        import numpy as np

        a = _array(values).astype(np.float64).ravel()
        self._add(step, self._histogram(tag, a[np.isfinite(a)], buckets=buckets))

    def add_image(self, tag: str, image: Any, step: int) -> None:
        """An image [C, H, W] or [H, W] of 1 or 3 channels: floats in [0, 1] or uint8."""
        pixels = _pixels(image, "add_image")
        h, w, channels = pixels.shape
        kind = self._proto["summary"].Summary
        shown = kind.Image(height=h, width=w, colorspace=channels,
                           encoded_image_string=_png(pixels))
        self._add(step, kind(value=[kind.Value(tag=tag, image=shown)]))

    def add_images(self, tag: str, images: Any, step: int, columns: int = 8) -> None:
        """Images [N, C, H, W] side by side, as one."""
        import numpy as np

        a = _array(images)
        if a.ndim != 4 or a.shape[0] == 0:
            raise _core.ShapeError(
                f"[add_images] takes [N, C, H, W] with N >= 1; got {a.shape}"
            )
        n, c, h, w = a.shape
        columns = min(columns, n)
        rows = -(-n // columns)
        sheet = np.zeros((rows * columns, c, h, w), a.dtype)
        sheet[:n] = a
        sheet = sheet.reshape(rows, columns, c, h, w).transpose(2, 0, 3, 1, 4)
        self.add_image(tag, sheet.reshape(c, rows * h, columns * w), step)

    def add_text(self, tag: str, text: str, step: int = 0) -> None:
        """Text under a tag, read as Markdown."""
        self._add(step, self._text(tag, text))

    def add_graph(self, net: Any, x: Any = None) -> None:
        """The operations of net(x), grouped by module. Runs it once, in evaluation mode; x: a
        batch [N, …], or a tuple or dict of such, by default zeros for a network that knows its
        input_shape (else ShapeError; the callback TensorBoard(graph=True) takes what fit() was
        given)."""
        if x is None:
            x = example_input(net, None, None, 1)
        if x is None:
            raise _core.ShapeError(
                "[add_graph] an input is needed; got none, and the network has no input_shape; "
                "expected a batch: add_graph(net, zeros((1, C, H, W))), say")
        calls, _, result = evaluated(net, x, keep=True)
        inputs = list(leaves(x))
        graph = self._proto["graph"].GraphDef()
        graph.versions.producer = 22
        made: dict[int, str] = {}

        def add(name: str, op: str, reads: list, shape: Any, dtype: Any) -> None:
            node = graph.node.add(name=name, op=op, input=reads)
            if shape is not None:
                sizes = node.attr["_output_shapes"].list.shape.add()
                for s in shape:
                    sizes.dim.add(size=s)
            kinds = self._proto["types"]
            code = {"float32": kinds.DT_FLOAT, "float64": kinds.DT_DOUBLE,
                    "float16": kinds.DT_HALF, "bfloat16": kinds.DT_BFLOAT16,
                    "int32": kinds.DT_INT32, "int64": kinds.DT_INT64, "uint8": kinds.DT_UINT8,
                    "bool": kinds.DT_BOOL}[dtype.name]
            node.attr["dtype"].type = code

        for i, t in enumerate(inputs):
            name = "input" if len(inputs) == 1 else f"input_{i}"
            made[hash(t)] = name
            add(name, "Input", [], t.shape, t.dtype)
        for name, t in [*net.named_parameters(), *net.named_buffers()]:
            made[hash(t)] = name.replace(".", "/")
            add(made[hash(t)], "Parameter", [], t.shape, t.dtype)
        for i, c in enumerate(calls):
            scope = c["path"].replace(".", "/") + "/" if c["path"] else ""
            name = f"{scope}{c['op']}_{i}"
            shape, dtype = c["outputs"][0] if c["outputs"] else ((), _core.float32)
            add(name, c["op"], [made[r] for r in c["reads"] if r in made], shape, dtype)
            for k, out in enumerate(c["makes"]):
                made[out] = name if k == 0 else f"{name}:{k}"
        for i, t in enumerate(leaves(result)):
            if isinstance(t, Tensor) and hash(t) in made:
                add(f"output_{i}", "Output", [made[hash(t)]], t.shape, t.dtype)
        self._write(graph_def=graph.SerializeToString())

    def flush(self) -> None:
        """Puts everything on the disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Puts everything on the disk and closes the file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def __enter__(self) -> "SummaryWriter":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
