"""What bad input gets: the right exception, a message that says what and where, nothing changed."""

import math
import sys
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from bits import Array, assert_same_bits, misaligned, named
from instep import _instep, course
from numpy.lib.stride_tricks import as_strided, sliding_window_view

Dicts = dict[str, dict[str, Any]]

# For each update function, the dicts it takes and the numbers it needs.
FUNCTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "update_parameters_with_gd": (("parameters", "grads"), {"learning_rate": 0.1}),
    "update_parameters_with_momentum": (
        ("parameters", "grads", "v"),
        {"beta": 0.9, "learning_rate": 0.1},
    ),
    "update_parameters_with_rmsprop": (("parameters", "grads", "s"), {}),
    "update_parameters_with_adam": (("parameters", "grads", "v", "s"), {"t": 3}),
}
INITIALIZERS = ("initialize_velocity", "initialize_rmsprop", "initialize_adam")
KEYS = ("W1", "b1", "W2", "b2", "W3", "b3")
SHAPES = {"W1": (4, 3), "b1": (4, 1), "W2": (5, 4), "b2": (5, 1), "W3": (2, 5), "b3": (2, 1)}


class Call:
    """A call of an update function that would do: dicts of arrays, and numbers."""

    def __init__(self, function: str, dtype: Any = np.float64, **numbers: Any) -> None:
        roles, defaults = FUNCTIONS[function]
        rng = np.random.default_rng(0)
        self.function: Callable[..., Any] = getattr(course, function)
        self.numbers = {**defaults, **numbers}
        self.dicts: Dicts = {
            role: {
                key if role == "parameters" else "d" + key: np.abs(
                    rng.standard_normal(SHAPES[key])
                ).astype(dtype)
                for key in KEYS
            }
            for role in roles
        }

    def put(self, place: "Place", array: Any) -> None:
        self.dicts[place.role][place.key] = array

    def at(self, place: "Place") -> Any:
        return self.dicts[place.role][place.key]

    def do(self) -> Any:
        return self.function(**self.dicts, **self.numbers)


class Place:
    """An argument array: in which dict, and which parameter's."""

    def __init__(self, role: str, parameter: str) -> None:
        self.role = role
        self.key = parameter if role == "parameters" else "d" + parameter
        self.parameter = parameter

    def __str__(self) -> str:
        return f'{self.role}["{self.key}"]'


def places(
    *parameters: str, roles: tuple[str, ...] = ("parameters", "grads", "v", "s")
) -> pytest.MarkDecorator:
    """Every update function with every dict it takes, and some of the parameters."""
    return pytest.mark.parametrize(
        ("function", "place"),
        [
            pytest.param(function, place, id=f"{function.split('_')[-1]}-{place}")
            for function, (its_roles, _) in FUNCTIONS.items()
            for role in its_roles
            if role in roles
            for place in (Place(role, parameter) for parameter in parameters)
        ],
    )


every_array = places("W1", "b1", "W2", "b3")
first_and_last = places("W1", "b3")
written = places("W1", "b3", roles=("parameters", "v", "s"))
companions = places("W1", "b3", roles=("grads", "v", "s"))
every_function = pytest.mark.parametrize("function", FUNCTIONS)


def state_of(dicts: dict[str, Any]) -> Any:
    """Everything about the arguments that a refused call might have changed."""

    def of_value(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            owned = np.asarray(value)
            if owned.dtype == object:
                return (id(value), repr(owned))
            return (id(value), owned.dtype, owned.shape, owned.strides, owned.tobytes())
        return (id(value), repr(value))

    def of_dict(arrays: Any) -> Any:
        if isinstance(arrays, dict):
            return (id(arrays), [(key, of_value(value)) for key, value in arrays.items()])
        return of_value(arrays)

    return {name: of_dict(arrays) for name, arrays in dicts.items()}


def assert_refused(call: Call, kind: type[Exception], *parts: str) -> None:
    """Fail unless the call raises that, says all of `parts`, and has changed nothing."""
    before = state_of(call.dicts)
    identity = dict(call.dicts)
    with pytest.raises(kind) as info:
        call.do()
    assert type(info.value) is kind
    (message,) = info.value.args
    assert "\n" not in message
    for part in parts:
        assert part in message, f"{part!r} is not in {message!r}"
    assert state_of(call.dicts) == before
    assert all(call.dicts[role] is arrays for role, arrays in identity.items())


def assert_works(call: Call) -> None:
    """Fail unless the call does what it does to plain copies of the arrays, written in place."""
    plain = Call(call.function.__name__, **call.numbers)
    plain.dicts = {
        role: {key: np.array(array, subok=False) for key, array in arrays.items()}
        for role, arrays in call.dicts.items()
    }
    before = {role: dict(arrays) for role, arrays in call.dicts.items()}
    plain.do()
    call.do()
    for role, arrays in call.dicts.items():
        for key, array in arrays.items():
            assert array is before[role][key]
            wanted = plain.dicts[role][key]
            assert_same_bits(np.asarray(array), wanted, f'{role}["{key}"]')


class FakeTensor:
    """What a tensor of another library looks like to NumPy."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array

    @property
    def __array_interface__(self) -> Any:
        return self.array.__array_interface__


class TensorWithGradient:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise RuntimeError("call detach() first")


class Subclass(np.ndarray[Any, Any]):
    pass


class SubclassOfMaskedArray(np.ma.MaskedArray[Any, Any]):
    pass


NOT_ARRAYS: dict[str, Callable[[Any], Any]] = {
    "list": lambda array: array.tolist(),
    "tuple": tuple,
    "float": lambda array: float(array.flat[0]),
    "NoneType": lambda array: None,
    "str": lambda array: "array",
    "float64": lambda array: array.flat[0],
    "memoryview": memoryview,
    "FakeTensor": FakeTensor,
    "TensorWithGradient": lambda array: TensorWithGradient(),
    "flatiter": lambda array: array.flat,
    "type": lambda array: np.ndarray,
}


@pytest.mark.parametrize("kind", NOT_ARRAYS)
@every_array
def test_no_ndarray(function: str, place: Place, kind: str) -> None:
    call = Call(function)
    call.put(place, NOT_ARRAYS[kind](call.at(place)))
    assert_refused(call, TypeError, f"{place} is {named(kind)}; wanted", "numpy.ndarray")


@pytest.mark.parametrize("kind", NOT_ARRAYS)
@pytest.mark.parametrize("role", ["parameters", "grads", "v", "s"])
def test_no_ndarray_with_corrected_moments(role: str, kind: str) -> None:
    call, place = Call("update_parameters_with_adam", return_corrected=True), Place(role, "b3")
    call.put(place, NOT_ARRAYS[kind](call.at(place)))
    assert_refused(call, TypeError, f"{place} is {named(kind)}; wanted", "numpy.ndarray")


MASKED: dict[str, Callable[[Any], Any]] = {
    "no mask": np.ma.array,
    "empty mask": lambda array: np.ma.array(array, mask=np.zeros(array.shape, bool)),
    "mask": lambda array: np.ma.array(array, mask=array > 0.5),
    "subclass": lambda array: array.view(SubclassOfMaskedArray),
}


@pytest.mark.parametrize("kind", MASKED)
@every_array
def test_masked_array(function: str, place: Place, kind: str) -> None:
    call = Call(function)
    masked = MASKED[kind](call.at(place))
    assert isinstance(masked, np.ma.MaskedArray)
    call.put(place, masked)
    assert_refused(call, TypeError, f"{place} is a ", "MaskedArray", "wanted a plain numpy.ndarray")


@every_array
def test_subclasses_without_a_mask_work(function: str, place: Place, tmp_path: Path) -> None:
    call = Call(function)
    call.put(place, call.at(place).view(Subclass))
    assert_works(call)
    call = Call(function)
    with pytest.warns(PendingDeprecationWarning, match="matrix"):
        call.put(place, np.matrix(call.at(place)))
    assert_works(call)
    call = Call(function)
    path = tmp_path / "array"
    shape = call.at(place).shape
    on_disk = np.memmap(path, np.float64, "w+", shape=shape)
    on_disk[...] = call.at(place)
    call.put(place, on_disk)
    assert_works(call)
    on_disk.flush()
    assert_same_bits(np.fromfile(path).reshape(shape), np.asarray(on_disk))


DTYPES = {
    name: np.dtype(name)
    for name in ("int64", "int32", "uint8", "bool", "complex128", "complex64", "float16")
} | {
    "longdouble": np.dtype(np.longdouble),
    "object": np.dtype(object),
    "str": np.dtype("U8"),
    "datetime64": np.dtype("M8[s]"),
    "void": np.dtype("V8"),
    "structured": np.dtype([("x", np.float64)]),
    "other byte order": np.dtype(np.float64).newbyteorder("S"),
    "other byte order, float32": np.dtype(np.float32).newbyteorder("S"),
}


@pytest.mark.parametrize("name", DTYPES)
@every_array
def test_dtype_not_supported(function: str, place: Place, name: str) -> None:
    call = Call(function)
    dtype = DTYPES[name]
    call.put(place, np.zeros(call.at(place).shape, dtype))
    assert_refused(
        call, TypeError, f"{place} has dtype {dtype}; wanted float32 or float64", "byte order"
    )


@pytest.mark.parametrize("name", DTYPES)
@every_function
def test_dtype_not_supported_that_all_arrays_agree_in(function: str, name: str) -> None:
    call = Call(function)
    dtype = DTYPES[name]
    for role, arrays in call.dicts.items():
        for key, array in arrays.items():
            call.dicts[role][key] = np.zeros(array.shape, dtype)
    assert_refused(call, TypeError, f'parameters["W1"] has dtype {dtype}; wanted float32')


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_function
def test_dtype_whose_byte_order_is_named(function: str, dtype: type) -> None:
    call = Call(function, dtype)
    named = np.dtype(dtype).newbyteorder("<" if sys.byteorder == "little" else ">")
    for role, arrays in call.dicts.items():
        for key, array in arrays.items():
            call.dicts[role][key] = np.frombuffer(array.copy(), named).reshape(array.shape)
    assert_works(call)


@companions
@pytest.mark.parametrize(
    ("has", "wanted"), [(np.float32, np.float64), (np.float64, np.float32)], ids=["f32", "f64"]
)
def test_dtypes_that_do_not_go_together(
    function: str, place: Place, has: type, wanted: type
) -> None:
    call = Call(function, wanted)
    call.put(place, call.at(place).astype(has))
    assert_refused(
        call,
        TypeError,
        f"{place} has dtype {has.__name__}; wanted {wanted.__name__}",
        f'the dtype of parameters["{place.parameter}"]',
    )


@first_and_last
def test_a_parameter_of_another_dtype_than_its_companions(function: str, place: Place) -> None:
    call = Call(function)
    first = Place("parameters", place.parameter)
    call.put(first, call.at(first).astype(np.float32))
    gradient = Place("grads", place.parameter)
    assert_refused(call, TypeError, f"{gradient} has dtype float64; wanted float32")


SHAPES_OFF: dict[str, Callable[[Any], Any]] = {
    "one axis": lambda array: array.reshape(-1).copy(),
    "one axis more": lambda array: array[..., np.newaxis].copy(),
    "no axis": lambda array: np.array(1.0),
    "a row more": lambda array: np.zeros((array.shape[0] + 1, array.shape[1])),
    "a column less": lambda array: array[:, :-1].copy(),
    "of one row, would broadcast": lambda array: array[:1].copy(),
    "transposed view": lambda array: array.T,
    "transposed": lambda array: array.T.copy(),
    "empty": lambda array: np.zeros((0, array.shape[1])),
}


@pytest.mark.parametrize("kind", SHAPES_OFF)
@companions
def test_another_shape(function: str, place: Place, kind: str) -> None:
    call = Call(function)
    array = SHAPES_OFF[kind](call.at(place))
    wanted = call.at(place).shape
    call.put(place, array)
    assert array.shape != wanted
    assert_refused(
        call,
        ValueError,
        f"{place} has shape {array.shape}; wanted {wanted}",
        f'the shape of parameters["{place.parameter}"]',
    )


@companions
def test_a_column_and_a_row_of_the_same_length(function: str, place: Place) -> None:
    """(n,), (n, 1) and (1, n) have as many elements, and NumPy would broadcast some of them."""
    for of_parameter in ((4,), (4, 1), (1, 4), (2, 2), (4, 1, 1)):
        for of_place in ((4,), (4, 1), (1, 4), (2, 2), (4, 1, 1)):
            call = Call(function)
            for arrays in call.dicts:
                role = Place(arrays, place.parameter)
                shape = of_place if str(role) == str(place) else of_parameter
                call.put(role, np.ones(shape))
            if of_place == of_parameter:
                assert_works(call)
            else:
                parts = f"{place} has shape {of_place}; wanted {of_parameter}, the shape of"
                assert_refused(call, ValueError, parts)


@written
def test_read_only(function: str, place: Place) -> None:
    def flag(array: Any) -> Any:
        array.flags.writeable = False
        return array

    def buffer(array: Any) -> Any:
        return np.frombuffer(array.tobytes()).reshape(array.shape)

    def broadcast(array: Any) -> Any:
        return np.broadcast_to(array, array.shape)

    for read_only in (flag, buffer, broadcast):
        call = Call(function)
        call.put(place, read_only(call.at(place).copy()))
        assert_refused(call, ValueError, f"{place} is read-only", "writable")


@places("W1", "b3", roles=("grads",))
def test_a_read_only_gradient_works(function: str, place: Place, tmp_path: Path) -> None:
    call = Call(function)
    call.at(place).flags.writeable = False
    assert_works(call)
    call = Call(function)
    array = call.at(place)
    call.put(place, np.frombuffer(array.tobytes()).reshape(array.shape))
    assert_works(call)
    # In memory that the operating system lets nobody write, and gathered element by element.
    path = tmp_path / "gradient"
    array[::-1].tofile(path)
    call.put(place, np.memmap(path, np.float64, "r", shape=array.shape)[::-1])
    assert_works(call)


def pairs_of_places(function: str) -> list[tuple[Place, Place]]:
    """Pairs of arrays of which at least one is written, within a layer and across."""
    everywhere = [
        Place(role, parameter)
        for parameter in ("b1", "b2", "b3")
        for role in FUNCTIONS[function][0]
    ]
    return [
        (first, second)
        for index, first in enumerate(everywhere)
        for second in everywhere[index + 1 :]
        if not first.role == second.role == "grads"
    ]


def with_shape(call: Call, shape: tuple[int, ...]) -> None:
    """Give all biases that shape, so that any two of them may share memory."""
    for role in call.dicts:
        for parameter in ("b1", "b2", "b3"):
            call.put(Place(role, parameter), np.ones(shape))


def one_array(shape: tuple[int, ...]) -> tuple[Any, Any]:
    array = np.ones(shape)
    return array, array


def views_of_all(shape: tuple[int, ...]) -> tuple[Any, Any]:
    array = np.ones(shape)
    return array[:], array.view()


def overlapping_views(shape: tuple[int, ...]) -> tuple[Any, Any]:
    array = np.ones((shape[0] + 1, *shape[1:]))
    return array[:-1], array[1:]


def one_element_in_common(shape: tuple[int, ...]) -> tuple[Any, Any]:
    base = np.ones(2 * math.prod(shape) - 1)
    count = math.prod(shape)
    return base[:count].reshape(shape), base[count - 1 :].reshape(shape)


def one_byte_in_common(shape: tuple[int, ...]) -> tuple[Any, Any]:
    size = 8 * math.prod(shape)
    raw = bytearray(2 * size - 1)
    return (
        np.frombuffer(raw, np.float64, math.prod(shape)).reshape(shape),
        np.frombuffer(raw, np.float64, math.prod(shape), size - 1).reshape(shape),
    )


def two_views_of_a_buffer(shape: tuple[int, ...]) -> tuple[Any, Any]:
    raw = bytearray(8 * math.prod(shape))
    first, second = (np.frombuffer(raw).reshape(shape) for _ in range(2))
    # They have no array in common that owns the memory.
    assert first.base is not second.base
    return first, second


def one_backwards(shape: tuple[int, ...]) -> tuple[Any, Any]:
    array = np.ones(shape)
    return array, array[::-1]


def interleaved_that_meet(shape: tuple[int, ...]) -> tuple[Any, Any]:
    base = np.ones((3 * shape[0] + 4, *shape[1:]))
    first, second = base[: 2 * shape[0] : 2], base[1 : 1 + 3 * shape[0] : 3]
    assert np.shares_memory(first, second)
    return first, second


SHARED = (
    one_array,
    views_of_all,
    overlapping_views,
    one_element_in_common,
    one_byte_in_common,
    two_views_of_a_buffer,
    one_backwards,
    interleaved_that_meet,
)


@pytest.mark.parametrize("share", SHARED)
@every_function
def test_shared_memory(function: str, share: Callable[..., tuple[Any, Any]]) -> None:
    for shape in ((6, 1), (6, 7)):
        for first, second in pairs_of_places(function):
            for swap in (False, True):
                call = Call(function)
                with_shape(call, shape)
                arrays = share(shape)
                for place, array in zip((first, second), arrays[:: -1 if swap else 1], strict=True):
                    assert array.shape == shape
                    call.put(place, array)
                assert_refused(
                    call, ValueError, f"{second} shares memory with {first}", "pass a copy"
                )


@every_function
def test_shared_memory_far_apart_in_a_long_list(function: str) -> None:
    """Of many arrays that touch, only two share memory: a view into the middle of another."""
    call = Call(function)
    base = np.ones(10_000)
    starts = iter(range(0, 10_000, 12))
    for role, arrays in call.dicts.items():
        for key, array in arrays.items():
            at = next(starts)
            arrays[key] = base[at : at + 6].reshape(6, 1)
            if role == "grads":
                arrays[key].flags.writeable = False
            assert array is not arrays[key]
    assert_works(call)
    # The first gradient now reaches over all that lies behind it.
    wide = as_strided(base[3:], (6, 1), (800, 8), writeable=False)
    call.put(Place("grads", "W1"), wide)
    assert_refused(call, ValueError, "shares memory with", "pass a copy", 'grads["dW1"]')


@every_function
def test_shared_memory_behind_arrays_that_lie_in_between(function: str) -> None:
    """The first array reaches over all of the others, and only the last is in its way."""
    call = Call(function)
    base = np.ones(100)
    arrays = {"W1": base[::2], "b1": base[1:2], "W2": base[3:4], "b2": base[41:42]}
    for parameter, array in arrays.items():
        for role in call.dicts:
            call.put(Place(role, parameter), np.ones(array.shape))
        call.put(Place("parameters", parameter), array)
    assert_works(call)
    call.put(Place("parameters", "b2"), base[40:41])
    assert_refused(call, ValueError, 'parameters["b2"] shares memory with parameters["W1"]')


def interleaved(shape: tuple[int, ...]) -> tuple[Any, Any]:
    base = np.ones((2 * shape[0], *shape[1:]))
    return base[::2], base[1::2]


def columns_in_turn(shape: tuple[int, ...]) -> tuple[Any, Any]:
    base = np.ones((*shape[:-1], 2 * shape[-1]))
    return base[..., ::2], base[..., 1::2]


def halves(shape: tuple[int, ...]) -> tuple[Any, Any]:
    base = np.ones((2 * shape[0], *shape[1:]))
    return base[: shape[0]], base[shape[0] :]


def interleaved_backwards(shape: tuple[int, ...]) -> tuple[Any, Any]:
    base = np.ones((3 * shape[0], *shape[1:]))
    return base[::-3], base[1::3]


def in_the_gaps(shape: tuple[int, ...]) -> tuple[Any, Any]:
    base = np.ones((shape[0], 3 * shape[1]))
    return base[:, : shape[1]], base[:, 2 * shape[1] :]


@pytest.mark.parametrize(
    "share", [interleaved, columns_in_turn, halves, interleaved_backwards, in_the_gaps]
)
@every_function
def test_neighbours_that_share_no_byte_work(
    function: str, share: Callable[..., tuple[Any, Any]]
) -> None:
    for shape in ((6, 1), (6, 7)):
        for first, second in pairs_of_places(function):
            call = Call(function)
            with_shape(call, shape)
            for place, array in zip((first, second), share(shape), strict=True):
                assert array.shape == shape
                array[...] = 0.5
                call.put(place, array)
            assert_works(call)


@pytest.mark.parametrize("share", SHARED)
@every_function
def test_gradients_may_share_memory_with_each_other(
    function: str, share: Callable[..., tuple[Any, Any]]
) -> None:
    for shape in ((6, 1), (6, 7)):
        call = Call(function)
        with_shape(call, shape)
        for parameter, array in zip(("b1", "b3"), share(shape), strict=True):
            call.put(Place("grads", parameter), array)
        assert_works(call)


@every_function
def test_empty_arrays_share_no_byte(function: str) -> None:
    call = Call(function)
    empty = np.ones((0, 4))
    for role in call.dicts:
        call.put(Place(role, "W1"), empty)
        call.put(Place(role, "b3"), empty)
    assert_works(call)


FOLDED: dict[str, Callable[[], Any]] = {
    "all one element": lambda: as_strided(np.ones(1), (4, 3), (0, 0)),
    "a row repeated": lambda: as_strided(np.ones(3), (4, 3), (0, 8)),
    "a column repeated": lambda: as_strided(np.ones(4), (4, 3), (8, 0)),
    "windows": lambda: sliding_window_view(np.ones(6), 3, writeable=True),
    "windows backwards": lambda: sliding_window_view(np.ones(6), 3, writeable=True)[::-1],
    "windows, every second": lambda: sliding_window_view(np.ones(9), 3, writeable=True)[::2],
    "half an element on": lambda: as_strided(np.ones(20), (4, 3), (40, 4)),
    "meeting late": lambda: as_strided(np.ones(30), (4, 3), (16, 24)),
    "against each other": lambda: as_strided(np.ones(30)[10:], (4, 3), (8, -8)),
}


@pytest.mark.parametrize("kind", FOLDED)
@places("W1", roles=("parameters", "v", "s"))
def test_a_written_array_that_overlaps_itself(function: str, place: Place, kind: str) -> None:
    call = Call(function)
    folded = FOLDED[kind]()
    assert folded.shape == (4, 3)
    assert folded.flags.writeable
    call.put(place, folded)
    assert_refused(
        call, ValueError, f"{place} has elements that share memory with each other", "pass a copy"
    )


@pytest.mark.parametrize("kind", FOLDED)
@places("W1", roles=("grads",))
def test_a_gradient_that_overlaps_itself_works(function: str, place: Place, kind: str) -> None:
    call = Call(function)
    call.put(place, FOLDED[kind]())
    assert_works(call)


@pytest.mark.parametrize("strides", [(240, 24, 0), (0, 24, 8), (240, 8, 16)], ids=str)
@every_function
def test_a_written_array_that_overlaps_itself_along_one_of_three_axes(
    function: str, strides: tuple[int, ...]
) -> None:
    call = Call(function)
    for role in call.dicts:
        call.put(Place(role, "b2"), np.ones((3, 4, 3)))
    call.put(Place("parameters", "b2"), as_strided(np.ones(200), (3, 4, 3), strides))
    assert_refused(call, ValueError, 'parameters["b2"] has elements that share memory')


LAYOUTS: dict[str, Callable[[], Any]] = {
    # Of (shape, strides), with strides that no order of axes nests, and yet no two elements meet.
    "strides 3 and 2": lambda: as_strided(np.ones(40), (2, 3), (24, 16)),
    "strides 2 and 3": lambda: as_strided(np.ones(40), (3, 2), (16, 24)),
    "strides 5 and 3": lambda: as_strided(np.ones(60), (3, 5), (40, 24)),
    "strides 5 and -3": lambda: as_strided(np.ones(60)[30:], (3, 5), (40, -24)),
    "strides 7, 5 and 3": lambda: as_strided(np.ones(90), (2, 2, 2), (56, 40, 24)),
    "diagonal": lambda: np.einsum("ii->i", np.ones((9, 9))),
    "misaligned": lambda: misaligned((5, 3), np.dtype(np.float64)),
    "four bytes between elements": lambda: as_strided(np.ones(9), (4,), (12,)),
    "fortran": lambda: np.ones((5, 3), order="F"),
    "backwards": lambda: np.ones((5, 3))[::-1, ::-1],
    "no axis": lambda: np.array(1.0),
    "long axes of one": lambda: np.ones((1, 3, 1, 1, 5, 1))[:, ::-1],
    "any stride for an axis of one": lambda: as_strided(np.ones(5), (1, 5), (0, 8)),
    "empty with any stride": lambda: as_strided(np.ones(5), (5, 0), (0, 8)),
}


@pytest.mark.parametrize("kind", LAYOUTS)
@every_function
def test_unusual_layouts_work(function: str, kind: str) -> None:
    for of_role in FUNCTIONS[function][0]:
        call = Call(function)
        array = LAYOUTS[kind]()
        if array.size:
            assert not overlaps_itself(array)
        array[...] = 0.75
        for role in call.dicts:
            call.put(Place(role, "b3"), array if role == of_role else np.full(array.shape, 0.25))
        assert_works(call)


def overlaps_itself(array: Any) -> bool:
    """Whether two elements have a byte in common: by looking at every one."""
    steps = np.zeros(array.shape, np.int64)
    for axis, (n, stride) in enumerate(zip(array.shape, array.strides, strict=True)):
        shape = [1] * array.ndim
        shape[axis] = n
        steps = steps + np.arange(n).reshape(shape) * stride
    places = np.sort(steps.reshape(-1))
    return bool((np.diff(places) < array.itemsize).any())


def test_the_folded_layouts_fold_and_the_unusual_ones_do_not() -> None:
    assert all(overlaps_itself(make()) for make in FOLDED.values())


WRONG_T = {
    "0": (0, ValueError, "t is 0; wanted 1 or more"),
    "-1": (-1, ValueError, "t is -1; wanted 1 or more"),
    "-10**400": (-(10**400), ValueError, "wanted 1 or more"),
    "int64(0)": (np.int64(0), ValueError, "t is 0; wanted 1 or more"),
    "int8(-7)": (np.int8(-7), ValueError, "t is -7; wanted 1 or more"),
    "True": (True, TypeError, "t is True (bool); wanted an integer"),
    "False": (False, TypeError, "t is False (bool); wanted an integer"),
    "2.0": (2.0, TypeError, "t is 2.0 (float); wanted an integer"),
    "nan": (math.nan, TypeError, "t is nan (float); wanted an integer"),
    "float64(2)": (np.float64(2), TypeError, "(float64); wanted an integer"),
    "bool_": (np.True_, TypeError, "wanted an integer"),
    "str": ("3", TypeError, "t is '3' (str); wanted an integer"),
    "None": (None, TypeError, "t is None (NoneType); wanted an integer"),
    "list": ([1], TypeError, "t is [1] (list); wanted an integer"),
    "array": (np.array(3), TypeError, "(ndarray); wanted an integer"),
    "Decimal": (Decimal(3), TypeError, "(Decimal); wanted an integer"),
}


@pytest.mark.parametrize("corrected", [False, True], ids=["three", "five"])
@pytest.mark.parametrize("name", WRONG_T)
def test_t(name: str, corrected: bool) -> None:
    t, kind, message = WRONG_T[name]
    call = Call("update_parameters_with_adam", t=t, return_corrected=corrected)
    assert_refused(call, kind, "t is ", message)


OUT_OF_RANGE = {
    "-1": -1,
    "-0.5": -0.5,
    "-1e-300": -1e-300,
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "float64 nan": np.float64("nan"),
    "float32 inf": np.float32("inf"),
    "int8(-1)": np.int8(-1),
    "10**400": 10**400,
}
NO_NUMBERS = {
    "str": "0.1",
    "bytes": b"0.1",
    "None": None,
    "bool": True,
    "list": [0.1],
    "complex": 0.1j,
    "dict": {},
    "object": object(),
    "array": np.array([0.1, 0.2]),
    "array of one": np.array([0.1]),
    "array of no axis": np.array(0.1),
}
NUMBERS = {
    "update_parameters_with_gd": ("learning_rate",),
    "update_parameters_with_momentum": ("beta", "learning_rate"),
    "update_parameters_with_rmsprop": ("learning_rate", "beta", "epsilon"),
    "update_parameters_with_adam": ("learning_rate", "beta1", "beta2", "epsilon"),
}
every_number = pytest.mark.parametrize(
    ("function", "name"),
    [
        pytest.param(function, name, id=f"{function.split('_')[-1]}-{name}")
        for function, names in NUMBERS.items()
        for name in names
    ],
)


@pytest.mark.parametrize("kind", OUT_OF_RANGE)
@every_number
def test_a_number_out_of_range(function: str, name: str, kind: str) -> None:
    value = OUT_OF_RANGE[kind]
    wanted = f"wanted 0 <= {name} < 1" if "beta" in name else "wanted a finite number that is not"
    assert_refused(Call(function, **{name: value}), ValueError, f"{name} is {value!r}; {wanted}")


@pytest.mark.parametrize("value", [1, 1.0, 1.5, np.float64(1), np.float32(1), 2], ids=repr)
@every_number
def test_a_beta_of_one(function: str, name: str, value: Any) -> None:
    call = Call(function, **{name: value})
    if "beta" in name:
        assert_refused(call, ValueError, f"{name} is {value!r}; wanted 0 <= {name} < 1")
    else:
        assert_works(call)


@pytest.mark.parametrize("kind", NO_NUMBERS)
@every_number
def test_no_number(function: str, name: str, kind: str) -> None:
    value = NO_NUMBERS[kind]
    call = Call(function, **{name: value})
    kind = type(value).__name__
    assert_refused(call, TypeError, f"{name} is {value!r} ({kind}); wanted a number")


@pytest.mark.parametrize(
    "value",
    [
        0,
        0.0,
        -0.0,
        0.5,
        1 - 2.0**-53,
        np.float64(0.5),
        np.float32(0.5),
        np.int64(0),
        Fraction(1, 3),
    ],
    ids=repr,
)
@every_number
def test_numbers_within_range_work(function: str, name: str, value: Any) -> None:
    assert_works(Call(function, **{name: value}))


with_eps_modes = pytest.mark.parametrize(
    "function", ["update_parameters_with_rmsprop", "update_parameters_with_adam"]
)


@pytest.mark.parametrize(
    "mode", ["Inside", "", "inside ", "l2", b"inside", None, 0, 1.5, True], ids=repr
)
@with_eps_modes
def test_an_unknown_eps_mode(function: str, mode: Any) -> None:
    call = Call(function, eps_mode=mode)
    assert_refused(call, ValueError, f"eps_mode is {mode!r}; wanted one of 'inside', 'outside'")


@pytest.mark.parametrize("mode", [[], {}, ["inside"], np.zeros(2)], ids=repr)
@with_eps_modes
def test_an_eps_mode_that_has_no_hash(function: str, mode: Any) -> None:
    call = Call(function, eps_mode=mode)
    assert_refused(call, ValueError, f"eps_mode is {mode!r}; wanted one of")


def test_each_function_lists_its_own_eps_modes() -> None:
    for function, modes in (
        ("update_parameters_with_rmsprop", "'inside', 'outside'"),
        ("update_parameters_with_adam", "'inside', 'outside', 'hat', 'scaled'"),
    ):
        with pytest.raises(ValueError, match="eps_mode") as info:
            Call(function, eps_mode="none of them").do()
        assert str(info.value).endswith(f"wanted one of {modes}")


@places(*KEYS)
def test_a_missing_key(function: str, place: Place) -> None:
    call = Call(function)
    del call.dicts[place.role][place.key]
    assert_refused(call, KeyError, f"{place} is missing")


@pytest.mark.parametrize(
    "key", ["X", "W", "b", "w1", "W0", "b4", "W01", "dW1", " W1", "", 1, None, ("W", 1)], ids=repr
)
@every_function
def test_a_stray_key(function: str, key: Any) -> None:
    # Besides the others, with one more to fill the layer, and in the place of another.
    call = Call(function)
    call.dicts["parameters"][key] = np.ones((1, 1))
    assert_refused(call, ValueError if key != "b4" else KeyError, "parameters")
    if key != "b4":
        assert_refused(call, ValueError, f"parameters has the key {key!r}; wanted only W1, b1, ...")
    call = Call(function)
    call.dicts["parameters"] |= {key: np.ones((1, 1)), "another": np.ones((1, 1))}
    assert_refused(call, ValueError, "parameters has the key ", "wanted only W1, b1, ..., W4, b4")
    call = Call(function)
    call.dicts["parameters"][key] = call.dicts["parameters"].pop("b3")
    assert_refused(
        call, ValueError, f"parameters has the key {key!r}; wanted only W1, b1, ..., W3, b3"
    )


@every_function
def test_a_layer_left_out(function: str) -> None:
    call = Call(function)
    for role, arrays in call.dicts.items():
        for parameter in ("W2", "b2"):
            del arrays[Place(role, parameter).key]
    assert_refused(call, ValueError, "parameters has the key 'W3'; wanted only W1, b1, ..., W2, b2")


@every_function
@pytest.mark.parametrize("key", ["W1", "b1"])
def test_half_a_layer(function: str, key: str) -> None:
    call = Call(function)
    call.dicts["parameters"] = {key: np.ones((4, 3))}
    other = "b1" if key == "W1" else "W1"
    assert_refused(call, KeyError, f'parameters["{other}"] is missing')


NOT_DICTS: dict[str, Callable[[], Any]] = {
    "list": lambda: [np.ones((4, 3)), np.ones((4, 1))],
    "tuple": lambda: (np.ones((4, 3)), np.ones((4, 1))),
    "ndarray": lambda: np.ones((4, 3)),
    "NoneType": lambda: None,
    "int": lambda: 3,
    "str": lambda: "W1",
    "set": lambda: {"W1", "b1"},
    "object": object,
}


@pytest.mark.parametrize("kind", NOT_DICTS)
@places("W1")
def test_no_dict(function: str, place: Place, kind: str) -> None:
    for corrected in (False, True) if "adam" in function else (False,):
        call = Call(function, **({"return_corrected": True} if corrected else {}))
        call.dicts[place.role] = NOT_DICTS[kind]()
        assert_refused(call, TypeError, f"{place.role} is {named(kind)}; wanted a dict of arrays")


@every_function
def test_other_mappings_work(function: str) -> None:
    for mapping in (OrderedDict, UserDict):
        call = Call(function)
        call.dicts = {role: mapping(arrays) for role, arrays in call.dicts.items()}  # type: ignore[misc]
        assert_works(call)


@every_function
def test_the_first_array_is_as_it_was_when_the_last_is_bad(function: str) -> None:
    """Of three thousand arrays, the last one makes all the others stay as they are."""
    call = Call(function)
    for role, arrays in call.dicts.items():
        for layer in range(4, 1_001):
            for letter in "Wb":
                key = Place(role, f"{letter}{layer}").key
                arrays[key] = np.ones((3, 2))
    assert_works(call)
    for role in call.dicts:
        last = Place(role, "b1000")
        kept = call.at(last)
        call.put(last, kept.tolist())
        assert_refused(call, TypeError, f"{last} is a list")
        call.put(last, kept)


def frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


# What may become of an array between two calls, with what the second then raises.
CHANGES: dict[str, tuple[Callable[[Array], Any], type[Exception] | None]] = {
    "moved": (np.copy, None),
    "strided": (lambda a: np.repeat(a, 2, axis=0)[::2], None),
    "in another order": (np.asfortranarray, None),
    "read-only": (frozen, ValueError),
    "of another shape": (lambda a: a.reshape(-1), ValueError),
    "of another dtype": (lambda a: a.astype(np.float32), TypeError),
    "gone": (lambda _: None, TypeError),
}


@pytest.mark.parametrize("change", CHANGES)
@first_and_last
def test_what_has_changed_since_the_last_call(function: str, place: Place, change: str) -> None:
    """A call keeps what it has found out about its arrays: the next has to see changes."""
    call = Call(function)
    assert_works(call)
    assert_works(call)
    make, error = CHANGES[change]
    if change == "read-only" and place.role == "grads":
        error = None
    kept = call.at(place)
    call.put(place, make(kept))
    if error is None:
        assert_works(call)
    else:
        assert_refused(call, error, str(place))
    if change == "read-only":
        kept.flags.writeable = True
    call.put(place, kept)
    assert_works(call)


@every_function
def test_arrays_that_change_in_place_between_calls(function: str) -> None:
    call = Call(function)
    assert_works(call)
    call.dicts["parameters"]["W2"].shape = (4, 5)
    assert_refused(call, ValueError, 'grads["dW2"] has shape (5, 4); wanted (4, 5)')
    for role, arrays in call.dicts.items():
        arrays["W2" if role == "parameters" else "dW2"].shape = (4, 5)
    assert_works(call)


@every_function
def test_memory_that_is_shared_since_the_last_call(function: str) -> None:
    call = Call(function)
    assert_works(call)
    grads = call.dicts["grads"]
    kept = dict(grads)
    grads["dW2"] = call.dicts["parameters"]["W2"]
    assert_refused(call, ValueError, 'grads["dW2"] shares memory with parameters["W2"]')
    grads.update(kept)
    assert_works(call)
    grads["db3"] = call.dicts["parameters"]["W1"][:2, :1]
    assert_refused(call, ValueError, 'grads["db3"] shares memory with parameters["W1"]')
    # Gradients may share with each other.
    grads["dW1"], grads["db1"] = np.ones((4, 3)), np.ones((4, 1))
    grads["db3"] = grads["dW1"][:2, :1]
    assert_works(call)


@every_function
def test_two_nets_in_turns(function: str) -> None:
    calls = [Call(function), Call(function, np.float32)]
    calls[1].dicts = {role: dict(list(a.items())[:4]) for role, a in calls[1].dicts.items()}
    for _ in range(3):
        for call in calls:
            assert_works(call)


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_initializers(initializer: str) -> None:
    initialize: Callable[[Any], Any] = getattr(course, initializer)

    def refused(parameters: Any, kind: type[Exception], *parts: str) -> None:
        before = state_of({"parameters": parameters})
        with pytest.raises(kind) as info:
            initialize(parameters)
        assert type(info.value) is kind
        assert all(part in info.value.args[0] for part in parts), info.value.args
        assert state_of({"parameters": parameters}) == before

    def good() -> dict[Any, Any]:
        return Call("update_parameters_with_gd").dicts["parameters"]

    for parameter in ("W1", "b3"):
        name = f'parameters["{parameter}"]'
        for kind, make in NOT_ARRAYS.items():
            bad = good()
            bad[parameter] = make(bad[parameter])
            refused(bad, TypeError, f"{name} is {named(kind)}; wanted")
        for make in MASKED.values():
            bad = good()
            bad[parameter] = make(bad[parameter])
            refused(bad, TypeError, f"{name} is a ", "MaskedArray; wanted")
        for dtype in DTYPES.values():
            bad = good()
            bad[parameter] = bad[parameter].astype(bool).astype("i8").astype(dtype)
            refused(bad, TypeError, f"{name} has dtype {dtype}; wanted float32 or float64")
        bad = good()
        del bad[parameter]
        refused(bad, KeyError, f"{name} is missing")
    for key in ("X", "W0", 3, None):
        refused({**good(), key: np.ones(1)}, ValueError, f"parameters has the key {key!r}; wanted")
    for kind, make_dict in NOT_DICTS.items():
        refused(make_dict(), TypeError, f"parameters is {named(kind)}; wanted a dict of arrays")
    initialize({key: np.broadcast_to(array, array.shape) for key, array in good().items()})


def test_mini_batches() -> None:
    X, Y = np.ones((3, 10)), np.ones((1, 10))
    bad: list[tuple[tuple[Any, ...], type[Exception], str]] = [
        (([[1.0]], Y), TypeError, "X is a list; wanted a numpy.ndarray"),
        ((X, None), TypeError, "Y is None; wanted a numpy.ndarray"),
        ((np.ones(10), Y), ValueError, "X has shape (10,); wanted two axes"),
        ((X, np.ones(10)), ValueError, "Y has shape (10,); wanted two axes"),
        ((X, np.ones((1, 9))), ValueError, "Y has 9 columns; wanted 10, as X has"),
        ((X, Y, 0), ValueError, "mini_batch_size is 0; wanted 1 or more"),
        ((X, Y, -3), ValueError, "mini_batch_size is -3; wanted 1 or more"),
        ((X, Y, 2.0), TypeError, "mini_batch_size is 2.0 (float); wanted an integer"),
        ((X, Y, True), TypeError, "mini_batch_size is True (bool); wanted an integer"),
        ((X, Y, None), TypeError, "mini_batch_size is None (NoneType); wanted an integer"),
        ((X, Y, 64, -1), ValueError, "seed is -1; wanted an integer, 0 <= seed < 2**32"),
        ((X, Y, 64, 2**32), ValueError, "seed is 4294967296; wanted an integer"),
        ((X, Y, 64, 1.0), TypeError, "seed is 1.0; wanted an integer, 0 <= seed < 2**32"),
        ((X, Y, 64, "1"), TypeError, "seed is '1'; wanted an integer"),
        ((X, Y, 64, []), ValueError, "seed is []; wanted an integer"),
    ]
    np.random.seed(5)
    wanted = np.random.random()
    for arguments, kind, message in bad:
        np.random.seed(5)
        with pytest.raises(kind) as info:
            course.random_mini_batches(*arguments)
        assert type(info.value) is kind
        assert message in str(info.value)
        # Not even the generator's state has changed.
        assert np.random.random() == wanted


@pytest.mark.parametrize("name", ["learning_rate0", "epoch_num", "decay_rate", "time_interval"])
def test_decay_of_the_learning_rate(name: str) -> None:
    numbers: dict[str, Any] = {"learning_rate0": 0.1, "epoch_num": 3, "decay_rate": 0.5}
    functions: list[Callable[..., float]] = [course.schedule_lr_decay]
    if name != "time_interval":
        functions.append(course.update_lr)
    for function in functions:
        for value in OUT_OF_RANGE.values():
            with pytest.raises(ValueError, match=f"^{name} is .*; wanted a finite number"):
                function(**{**numbers, name: value})
        for value in NO_NUMBERS.values():
            with pytest.raises(TypeError, match=f"^{name} is .*; wanted a number"):
                function(**{**numbers, name: value})
    with pytest.raises(ValueError, match="time_interval is 0; wanted a number greater than 0"):
        course.schedule_lr_decay(0.1, 3, 0.5, time_interval=0)


def test_a_recipe_of_another_name_or_level() -> None:
    with pytest.raises(ValueError, match='name is "adam", which is not a recipe'):
        _instep.Recipe("adam")
    with pytest.raises(ValueError, match=r'^isa is "sse9".*baseline'):
        _instep.Recipe("adam_hat", isa="sse9")
    with pytest.raises(TypeError):
        _instep.Recipe(None)  # type: ignore[arg-type]


def test_the_step_of_a_recipe() -> None:
    recipe = _instep.Recipe("momentum_ema")

    def describe(_group: int, role: int, index: int) -> str:
        return f"array {index} of role {role}"

    def ones() -> tuple[Any, ...]:
        return (np.ones(3), np.ones(4))

    p, g, m = ones(), ones(), ones()
    step: Callable[..., None] = recipe.step
    bad: list[tuple[tuple[Any, ...], type[Exception], str]] = [
        (((), p, g, (m,)), ValueError, "hypers has 0 numbers"),
        (((0.1,), p, g, (m,)), ValueError, "hypers has 1 numbers"),
        (((0.1,) * 3, p, g, (m,)), ValueError, "hypers has 3 numbers"),
        (((0.1,) * 30, p, g, (m,)), ValueError, "hypers has 30 numbers"),
        (((0.1, 0.9), p, g[:1], (m,)), ValueError, "tuples of the same length"),
        (((0.1, 0.9), p[:1], g, (m,)), ValueError, "tuples of the same length"),
        (((0.1, 0.9), p, g, (m[:1],)), ValueError, "tuples of the same length"),
        (((0.1, 0.9), p, g, ()), ValueError, "tuples of the same length"),
        (((0.1, 0.9), p, g, (m, ones())), ValueError, "tuples of the same length"),
        (((0.1, "x"), p, g, (m,)), TypeError, ""),
        (((0.1, 0.9), list(p), g, (m,)), TypeError, ""),
        (((0.1, 0.9), p, g, ([*m],)), TypeError, ""),
        (((0.1, 0.9), p, (g[0], None), (m,)), TypeError, "array 1 of role 1 is None"),
        (((0.1, 0.9), p, g, ((m[0], m[0]),)), ValueError, "array 1 of role 2 has shape (3,)"),
        (((0.1, 0.9), p, g, (p,)), ValueError, "of role 2 shares memory with array"),
    ]
    for arguments, kind, message in bad:
        with pytest.raises(kind) as info:
            step(*arguments, describe)
        assert message in str(info.value)
    assert all((array == 1).all() for arrays in (p, g, m) for array in arrays)

    def raising(_group: int, role: int, index: int) -> str:
        raise LookupError("no name")

    step([0.1, 0.9], p, (g[0] * 0, g[1] * 0), ((m[0] * 0, m[1] * 0),), describe)
    with pytest.raises(LookupError, match="no name"):
        recipe.step((0.1, 0.9), p, g, (p,), raising)
    with pytest.raises(TypeError):
        recipe.step((0.1, 0.9), p, g, (p,), None)  # type: ignore[arg-type]
    recipe.step((0.1, 0.9), (), (), ((),), describe)
    assert all((array == 1).all() for arrays in (p, g, m) for array in arrays)


# What a subclass overrides is asked nothing.


class Lying(np.ndarray[Any, Any]):
    """Says of everything that it is nothing."""

    def __getitem__(self, index: Any) -> Any:
        return np.zeros(1)

    def __array_function__(self, *arguments: Any) -> Any:
        return False

    def __array_ufunc__(self, *arguments: Any, **options: Any) -> Any:
        raise TypeError("units do not match")


def lying(array: Array) -> Array:
    return array.view(Lying)


def test_a_subclass_cannot_hide_that_it_overlaps_itself() -> None:
    base = np.arange(10.0)
    p = lying(np.lib.stride_tricks.as_strided(base, (5, 2), (8, 8)))
    with pytest.raises(ValueError, match=r'parameters\["W1"\] has elements that share memory'):
        instep.update_parameters_with_gd(
            {"W1": p, "b1": np.ones(1)}, {"dW1": np.ones((5, 2)), "db1": np.ones(1)}, 0.1
        )
    assert base.tolist() == list(range(10))


def test_a_subclass_cannot_hide_that_it_overlaps_another() -> None:
    base = np.ones((4, 4))
    parameters = {"W1": lying(base[:, :2]), "b1": lying(base[:, 1:3])}
    grads = {"dW1": np.ones((4, 2)), "db1": np.ones((4, 2))}
    with pytest.raises(ValueError, match="shares memory"):
        instep.update_parameters_with_gd(parameters, grads, 0.1)
    assert (base == 1).all()


def test_python_code_of_a_subclass_does_not_run_between_checks_and_step() -> None:
    """It could take away the memory that the step is about to write."""
    ran = []

    class Running(np.ndarray[Any, Any]):
        def __getitem__(self, index: Any) -> Any:
            ran.append("getitem")
            return super().__getitem__(index)

        def __array_finalize__(self, other: Any) -> None:
            ran.append("finalize")

        def __array_function__(self, *arguments: Any) -> Any:
            ran.append("function")
            return super().__array_function__(*arguments)

    b = np.lib.stride_tricks.as_strided(np.ones(100), (3, 2), (16, 24)).view(Running)
    base = np.ones((3, 4))
    c, d = base[:, ::2].view(Running), base[:, 1::2].view(Running)
    ran.clear()
    grads = {name: np.ones((3, 2)) for name in ("dW1", "db1", "dW2", "db2")}
    parameters = {"W1": np.ones((3, 2)), "b1": b, "W2": c, "b2": d}
    instep.update_parameters_with_gd(parameters, grads, 0.25)
    assert ran == []
    assert (base == 0.75).all()


def test_corrected_moments_of_a_subclass_that_refuses_to_divide() -> None:
    parameters = {"W1": np.ones(2), "b1": np.ones(1)}
    grads = {"dW1": np.ones(2), "db1": np.ones(1)}
    v, s = instep.initialize_adam(parameters)
    v["dW1"] = lying(v["dW1"])
    *_, v_corrected, s_corrected = instep.update_parameters_with_adam(
        parameters, grads, v, s, 1, return_corrected=True
    )
    assert type(v_corrected["dW1"]) is np.ndarray
    assert v_corrected["dW1"].tolist() == pytest.approx([1.0, 1.0])
    assert s_corrected["dW1"].tolist() == pytest.approx([1.0, 1.0])


def test_a_missing_key_is_not_made_up() -> None:
    def some() -> Array:
        return np.ones((2, 1))

    grads = {"dW1": some(), "db1": some()}
    parameters = defaultdict(some, {"W1": some()})
    for call in (
        lambda: instep.update_parameters_with_gd(parameters, grads, 0.1),
        lambda: instep.initialize_adam(parameters),
    ):
        with pytest.raises(KeyError, match=r'parameters\["b1"\] is missing'):
            call()
    assert list(parameters) == ["W1"]
    whole = {"W1": some(), "b1": some()}
    made_up: defaultdict[str, Array] = defaultdict(some)
    with pytest.raises(KeyError, match=r'grads\["dW1"\] is missing'):
        instep.update_parameters_with_gd(whole, made_up, 0.1)
    assert not made_up
    instep.update_parameters_with_gd(defaultdict(some, whole), defaultdict(some, grads), 0.1)


def test_numbers_of_unusual_size_or_kind() -> None:
    parameters = {"W1": np.ones(2), "b1": np.ones(1)}
    grads = {"dW1": np.ones(2), "db1": np.ones(1)}
    v, s = instep.initialize_adam(parameters)
    strange: Any
    for strange, kind in ((10**400, ValueError), (np.timedelta64(3, "s"), TypeError)):
        with pytest.raises(kind, match=r"^t is"):
            instep.update_parameters_with_adam(parameters, grads, v, s, strange)
    with pytest.raises(TypeError, match=r"^learning_rate is True"):
        instep.update_parameters_with_gd(parameters, grads, True)

    class Changing(float):
        """A number when it is asked first, and none afterwards."""

        answers = iter((0.1, math.nan))

        def __float__(self) -> float:
            return next(self.answers)

    instep.update_parameters_with_adam(parameters, grads, v, s, 2**60, Changing(0.1))
    assert math.isfinite(parameters["W1"][0])
    assert instep.update_lr(0.5, 10**300, 10**300) == 0.0
    assert instep.schedule_lr_decay(0.1, 1e308, 1.0, 1e-10) == 0.0
