"""Annotations with classes of PyTorch and Pillow, which tests/test_types.py can do without.

The second table of ``runner/docs/types.md`` is that of this module. After a change, write the
lines that ``python -m tests.test_library_types`` prints into it.
"""

from __future__ import annotations

import importlib.util
import re
from typing import Annotated, Any

import numpy as np
import pytest
from gophersnake import Image, Shape, Tensor

from tests.test_types import DOCS, arrive, cell, refused, signature, written
from tests.test_types import shown as shown_plainly


def image(format: str, *shape: int) -> Image:
    """Return an image with different bytes."""
    return Image((np.arange(np.prod(shape)) * 5 % 256).astype("uint8").reshape(shape), format)


class Row:
    """One row: the package, the annotation, what arrives with what it becomes, what is refused."""

    def __init__(
        self, package: str, name: str, hint: str, fits: list[Any], wrong: list[Any]
    ) -> None:
        self.package, self.name, self.hint = package, name, hint
        self.fits, self.wrong = fits, wrong  # values that arrive, with their repr or error

    def annotation(self) -> Any:
        """Return the annotation; the test is skipped if its package is not installed."""
        module = pytest.importorskip(self.package)
        names = {"torch": module, "PIL": module, "Annotated": Annotated, "Shape": Shape}
        if self.package == "PIL":
            importlib.import_module("PIL.Image")
        return eval(self.hint, names)


ROWS = [
    Row(
        "PIL",
        "a picture of Pillow",
        "PIL.Image.Image",
        [
            (image("rgb8", 2, 3, 3), "<PIL.Image.Image image mode=RGB size=3x2>"),
            (image("gray8", 2, 3), "<PIL.Image.Image image mode=L size=3x2>"),
            (image("bgra8", 2, 3, 4), "<PIL.Image.Image image mode=RGBA size=3x2>"),
        ],
        [
            (b"RIFF....WEBPVP8 ", "input: expected Image, got bytes (WebP; gophersnake decodes PNG and JPEG: convert the file to PNG)"),
            ([1], "input: expected Image, got a list of 1"),
        ],
    ),
    Row(
        "torch",
        "`torch.Tensor`",
        "torch.Tensor",
        [
            (np.array([1.5], "float32"), "tensor([1.5000])"),
            ([[1, 2]], "tensor([[1, 2]])"),
            (Tensor("bfloat16", (2,), b"\x80?\0@"), "tensor([1., 2.], dtype=torch.bfloat16)"),
        ],
        [("x", 'input: expected an array, got "x"')],
    ),
    Row(
        "torch",
        '`Annotated[torch.Tensor, Shape("n 2"), torch.float32]`',
        'Annotated[torch.Tensor, Shape("n 2"), torch.float32]',
        [([[1, 2]], "tensor([[1., 2.]])")],
        [
            (np.array([[1.5]], "float32"), "input: expected an array of float32 and shape [n, 2], got an array of float32 and shape [1, 1]"),
            (Tensor("bfloat16", (1,), b"\x80?"), "input: expected an array of float32 and shape [n, 2], got an array of bfloat16"),
        ],
    ),
]  # fmt: skip
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def text(value: Any) -> str:
    """Return the repr of a value, without its address."""
    return re.sub(r" at 0x\w+", "", repr(value))


def same(a: Any, b: Any) -> bool:
    """Report whether two values that have arrived without annotations are the same."""
    if isinstance(a, Image):
        return a.format == b.format and np.array_equal(a.pixels, b.pixels)
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and bytes(a.data) == bytes(b.data)
    return bool(np.array_equal(a, b)) and a.dtype == b.dtype


@rows
def test_a_value_is_built_and_written_as_annotated(row: Row) -> None:
    hint = row.annotation()
    for value, wanted in row.fits:
        built = arrive(hint, value)
        assert text(built) == wanted
        sent = written(hint, built)
        if not isinstance(value, list) and getattr(value, "format", "") != "bgra8":
            assert same(sent, arrive(Any, value))
    for value, says in row.wrong:
        assert refused(hint, value) == says


@rows
def test_the_docs_have_the_rows_of_this_table(row: Row) -> None:
    row.annotation()
    page = DOCS.read_text(encoding="utf-8")
    for line in lines(row):
        assert line in page


def test_the_schemas_are_those_of_arrays_and_images() -> None:
    for row in ROWS:
        if importlib.util.find_spec(row.package) is not None:
            types = signature(row.annotation()).types
            kind = "image" if row.package == "PIL" else "tensor"
            assert f'"x-gophersnake":"{kind}"' in types.input_schema("value")
            assert f'"x-gophersnake":"{kind}"' in types.output_schema()


def test_pictures_of_other_modes_are_sent_in_one_that_keeps_them() -> None:
    pillow = pytest.importorskip("PIL.Image")
    palette = pillow.new("P", (1, 1), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    for picture, format, pixel in [
        (palette, "rgb8", [9, 8, 7]),
        (pillow.new("1", (1, 1), 1), "gray8", 255),
        (pillow.new("LA", (1, 1), (5, 6)), "rgba8", [5, 5, 5, 6]),
        (pillow.new("CMYK", (1, 1), (0, 0, 0, 0)), "rgb8", [255, 255, 255]),
    ]:
        sent = written(pillow.Image, picture)
        assert (sent.format, sent.pixels[0, 0].tolist()) == (format, pixel)
    assert written(pillow.Image, pillow.new("RGB", (0, 0))).width == 0
    assert arrive(pillow.Image, Image(b"", "rgb8")).size == (0, 0)
    with pytest.raises(Exception, match="PIL"):
        written(pillow.Image, pillow.new("I;16", (1, 1)))


def test_the_pixels_of_a_large_picture_are_not_copied() -> None:
    pillow = pytest.importorskip("PIL.Image")
    pixels = np.zeros((100, 100), "uint8")
    types = signature(pillow.Image).types
    built = types.inputs["value"].build(Image(pixels, "gray8"))
    pixels[0, 0] = 7
    assert built.getpixel((0, 0)) == 7


def test_a_tensor_shares_the_memory_of_the_array_that_arrived() -> None:
    torch = pytest.importorskip("torch")
    array = np.zeros(3, "float32")
    array.flags.writeable = False
    built = signature(torch.Tensor).types.inputs["value"].build(array)
    assert built.data_ptr() == array.__array_interface__["data"][0]


def test_tensors_with_a_gradient_and_of_every_dtype_are_sent() -> None:
    torch = pytest.importorskip("torch")
    assert written(torch.Tensor, torch.ones(2, requires_grad=True)).tolist() == [1, 1]
    assert written(torch.Tensor, torch.ones(2, dtype=torch.cfloat).conj()).tolist() == [1, 1]
    sent = written(torch.Tensor, torch.ones(2, dtype=torch.bfloat16))
    assert (getattr(sent.dtype, "name", sent.dtype), sent.shape) == ("bfloat16", (2,))
    with pytest.raises(Exception, match=r"sparse|dense|layout"):
        written(torch.Tensor, torch.ones(2).to_sparse())


def shown(value: Any) -> str:
    """Return a value as the table shows it."""
    if isinstance(value, Image):
        return f"`Image` in {value.format}, {value.width} × {value.height}"
    if isinstance(value, Tensor):
        return f"`Tensor` of {value.dtype} and shape {list(value.shape)}"
    return shown_plainly(value)


def lines(row: Row) -> list[str]:
    """Return the lines of the docs for a row."""
    hint, found = row.annotation(), []
    for i in range(max(len(row.fits), len(row.wrong))):
        cells = ["", "", "", "", "", ""]
        if i == 0:
            cells[0] = cell(row.name if row.name.startswith("`") else f"{row.name}, `{row.hint}`")
        if i < len(row.fits):
            value, built = row.fits[i]
            cells[1:4] = shown(value), f"`{cell(built)}`", shown(written(hint, arrive(hint, value)))
        if i < len(row.wrong):
            cells[4:6] = shown(row.wrong[i][0]), cell(row.wrong[i][1])
        found.append(" ".join(f"| {' | '.join(cells)} |".split()))
    return found


if __name__ == "__main__":
    for each in ROWS:
        print("\n".join(lines(each)))
