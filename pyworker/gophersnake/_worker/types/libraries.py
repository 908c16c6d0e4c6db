"""Arrays and pictures of other libraries: tensors of PyTorch, pictures of Pillow."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

from gophersnake._worker.types.arrays import Array
from gophersnake._worker.types.kinds import Instance, Mismatch, Type, unexpected
from gophersnake.values import ITEM_SIZES, Image, Tensor

PILLOW_MODES = {
    "gray8": ("L", "L"),
    "rgb8": ("RGB", "RGB"),
    "bgr8": ("RGB", "BGR"),
    "rgba8": ("RGBA", "RGBA"),
    "bgra8": ("RGBA", "BGRA"),
}
"""Pillow's mode and raw mode for each pixel format."""

FORMATS = {"L": "gray8", "RGB": "rgb8", "RGBA": "rgba8"}
"""The pixel format for each of Pillow's modes that has one."""

CONVERTED = {"1": "L", "LA": "RGBA", "La": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB"}
CONVERTED |= dict.fromkeys(("CMYK", "YCbCr", "LAB", "HSV"), "RGB")
"""The mode that pictures of some other modes are sent in. Those of 16 and 32 bits would lose too
much, and are not sent.
"""


class Picture(Instance):
    """A picture of Pillow. It arrives and is sent as an ``Image``."""

    native = False
    rewrites = True

    def __init__(self, kind: Any) -> None:
        """Create the type of Pillow's class."""
        super().__init__(Image)
        self._pillow = sys.modules[kind.__module__]
        self._class = kind

    def build(self, value: Any) -> Any:
        """Return a picture, without a copy of the pixels if the format allows it; see ``Type``."""
        if isinstance(value, self._class):
            return value
        image = super().build(value)
        mode, raw = PILLOW_MODES[image.format]
        size = image.width, image.height
        if 0 in size:
            return self._pillow.new(mode, size)
        return self._pillow.frombuffer(mode, size, image.pixels, "raw", raw, 0, 1)

    def write(self, value: Any) -> Any:
        """Return an ``Image``; see ``Type``. Pictures with a palette get their colors."""
        if not isinstance(value, self._class):
            return value
        mode = value.mode
        if mode == "P":
            mode = "RGBA" if "transparency" in value.info else "RGB"
        mode = CONVERTED.get(mode, mode)
        if mode not in FORMATS:
            return value
        picture = value if value.mode == mode else value.convert(mode)
        return Image(picture.tobytes(), FORMATS[mode], *picture.size)


class TorchTensor(Array):
    """A tensor of PyTorch on the CPU, which shares its memory with the array that arrived."""

    rewrites = True

    def __init__(self, torch: Any, dtype: str, shape: Sequence[int | str] | None) -> None:
        """Create the type; ``torch`` is the module, which the node has imported."""
        super().__init__(dtype, shape)
        self._torch = torch
        # What arrives is read-only, which PyTorch has no notion of. The docs say it.
        warnings.filterwarnings("ignore", message="The given (NumPy array|buffer) is not writable")

    def build(self, value: Any) -> Any:
        """Return a tensor; see ``Type``."""
        if isinstance(value, self._torch.Tensor):
            return value
        if getattr(getattr(value, "dtype", None), "name", "") == "bfloat16":
            value = Tensor("bfloat16", value.shape, value.view("u1"))
        if isinstance(value, Tensor):
            return self._from_bytes(value)
        array = super().build(value)
        try:
            return self._torch.from_numpy(array)
        except TypeError:  # an old version without unsigned integers
            raise unexpected(self.name, value) from None

    def _from_bytes(self, value: Tensor) -> Any:
        """Return a tensor of a dtype that NumPy does not have, or without NumPy."""
        if self.dtype not in ("", value.dtype):
            raise Mismatch(f"expected {self.name}, got an array of {value.dtype}")
        dtype = getattr(self._torch, value.dtype)
        if not memoryview(value.data).nbytes:
            return self._torch.empty(value.shape, dtype=dtype)
        return self._torch.frombuffer(value.data, dtype=dtype).reshape(value.shape)

    def write(self, value: Any) -> Any:
        """Return an array of NumPy; see ``Type``. A tensor on a GPU is copied from it."""
        torch = self._torch
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            return value
        value = value.detach().cpu().resolve_conj().resolve_neg()
        if value.dtype == torch.bfloat16:
            data = value.contiguous().view(torch.int16).numpy()
            return Tensor("bfloat16", tuple(value.shape), data)
        return value.numpy()


def picture_type(hint: Any) -> Type | None:
    """Return the type of Pillow's class of pictures; ``None`` for any other."""
    module = sys.modules.get("PIL.Image")
    return Picture(hint) if module is not None and hint is module.Image else None


def torch_type(hint: Any, metadata: Sequence[Any]) -> Type | None:
    """Return the type of PyTorch's class of tensors; ``None`` for any other.

    Args:
        hint: the class.
        metadata: the metadata of ``Annotated``, which may hold a ``Shape`` and a dtype.
    """
    torch = sys.modules.get("torch")
    if torch is None or hint is not getattr(torch, "Tensor", None):
        return None
    dtype = ""
    shape: Sequence[int | str] | None = None
    for each in metadata:
        dims = getattr(each, "dims", None)
        name = str(each).removeprefix("torch.")
        if isinstance(dims, tuple):
            shape = dims
        elif name in ITEM_SIZES:
            dtype = name
    return TorchTensor(torch, dtype, shape)
