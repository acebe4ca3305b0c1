"""The safetensors format, read and written, next to the library of that name."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors as library
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from instep import safetensors
from numpy.typing import NDArray
from safetensors.numpy import load, save

Arrays = dict[str, NDArray[Any]]

names = st.text(max_size=8).filter(lambda name: name != "__metadata__")
values: st.SearchStrategy[NDArray[Any]] = arrays_of.arrays(
    st.sampled_from([np.dtype("f4"), np.dtype("f8")]),
    arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
texts = st.dictionaries(st.text(max_size=8), st.text(max_size=20), min_size=1, max_size=3)


def written(arrays: Arrays, metadata: dict[str, str]) -> bytes:
    file = io.BytesIO()
    safetensors.write(file, arrays, metadata)
    return file.getvalue()


def read(content: bytes, folder: Path) -> tuple[Arrays, dict[str, str]]:
    path = folder / "file"
    path.write_bytes(content)
    return safetensors.read(path, lambda texts: None)


def assert_same(arrays: Arrays, wanted: Arrays) -> None:
    assert set(arrays) == set(wanted)
    for name, array in wanted.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("safetensors")


@given(arrays=st.dictionaries(names, values, max_size=4), metadata=texts)
def test_the_library_reads_what_is_written(
    arrays: Arrays, metadata: dict[str, str], folder: Path
) -> None:
    content = written(arrays, metadata)
    assert_same(load(content), arrays)
    path = folder / "written"
    path.write_bytes(content)
    with library.safe_open(path, framework="numpy") as file:
        assert file.metadata() == metadata
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    header = json.loads(content[8 : 8 + length])
    for name, array in arrays.items():
        assert header[name]["data_offsets"][0] % array.itemsize == 0


@given(arrays=st.dictionaries(names, values, max_size=4), metadata=texts)
def test_what_the_library_writes_is_read(
    arrays: Arrays, metadata: dict[str, str], folder: Path
) -> None:
    # The library takes the memory of an array as it is, whatever its order.
    arrays = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}
    found, found_texts = read(save(arrays, metadata), folder)
    assert_same(found, arrays)
    assert found_texts == metadata


def test_every_layout_is_written_in_c_order() -> None:
    base = np.arange(24.0).reshape(4, 6)
    arrays = {"Fortran": np.asfortranarray(base), "strided": base[::2, ::-3], "swapped": base.T}
    assert_same(load(written(arrays, {})), arrays)


def file_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(begin: int, end: int, shape: Any = (1,), dtype: Any = "F64") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


ONE = np.ones(1).tobytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        b"\0" * 8,
        (2**63).to_bytes(8, "little") + b"{}",
        (3).to_bytes(8, "little") + b"{}",
        file_of([]),
        file_of(b"{} x"),
        file_of(b"\xff{}"),
        file_of("{}".encode("utf-16")),
        file_of(b"[" * 100_000),
        file_of(b'{"a": ' * 100_000),
        file_of(b'{"a": 1, "a": 1}'),
        file_of(b'{"a": ' + b"9" * 10_000 + b"}"),
        file_of({"__metadata__": {"a": 1}}),
        file_of({"a": 3}),
        file_of({"a": {}}),
        file_of({"a": entry(0, 8, dtype=["F64"])}, ONE),
        file_of({"a": entry(0, 8, [1.0])}, ONE),
        file_of({"a": entry(0, 8, [True])}, ONE),
        file_of({"a": entry(0, 8, [-1, -1])}, ONE),
        file_of({"a": entry(0, 0, [0, 2**47, 2**47])}),
        file_of({"a": entry(0, 8, [2])}, ONE),
        file_of({"a": entry(0, 16, [2])}, ONE),
        file_of({"a": entry(0, 2**50, [2**47])}, ONE),
        file_of({"a": entry(1, 9)}, ONE + b"\0"),
        file_of({"a": entry(0, 8), "b": entry(0, 8)}, ONE),
        file_of({"a": entry(0, 8), "b": entry(9, 17)}, ONE * 3),
        file_of({"a": entry(8, 0)}, ONE),
        file_of({"a": {**entry(0, 8), "data_offsets": [0, 8, 8]}}, ONE),
        file_of({"a": {**entry(0, 8), "data_offsets": [0, 8.0]}}, ONE),
        file_of({"a": entry(0, 8)}, ONE + b"\0"),
        file_of({}, b"\0"),
    ],
)
def test_what_the_format_does_not_allow(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="is truncated, corrupt or no safetensors file: "
    ) as caught:
        read(content, tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "file"))


def test_the_texts_are_checked_before_the_arrays(tmp_path: Path) -> None:
    """So that a model of another dtype is told what it is, and not that it is corrupt."""

    def refuse(texts: dict[str, str]) -> None:
        raise ValueError(f"not mine: {texts}")

    path = tmp_path / "model"
    path.write_bytes(file_of({"__metadata__": {"a": "b"}, "x": entry(0, 2, dtype="BF16")}, b"\0\0"))
    with pytest.raises(ValueError, match=r"^not mine: {'a': 'b'}"):
        safetensors.read(path, refuse)
