"""Arrays of any numbers, sizes and layouts, and trees of them, that follow from two numbers."""

import random
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from bits import LAYOUTS, Array, dense, misaligned
from instep import Rows

# Of an array: its shape and dtype.
Size: TypeAlias = tuple[tuple[int, ...], Any]

# Around the numbers of elements of a packed register, and of what is kept in registers.
LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 255, 300)
SPECIAL = (0.0, -0.0, 5e-324, -1e-310, 1e-45, 3e-39, 1e-38, 3e38, -1.7e308, 1.0, -1.0)


class Draws:
    """What is chosen at random of arrays and trees."""

    # Whether the names of all leaves say their group, which lists have no room for.
    has_names = False

    def __init__(self, seed: int, case: int) -> None:
        self.random = random.Random(f"{seed} {case}")
        self.numbers = np.random.default_rng([seed, case])

    def one_in(self, count: int) -> bool:
        return self.random.randrange(count) == 0

    def dtype(self) -> Any:
        return self.random.choice([np.float32, np.float64])

    def shape(self, large: bool) -> tuple[int, ...]:
        if large:
            n = self.random.randint(20_000, 90_000)
            return self.random.choice([(n,), (n // 7, 7), (3, n // 3), (40, n // 40)])
        axes = self.random.choice([0, 1, 1, 1, 2, 2, 2, 3, 4, 6])
        if axes == 1:
            return (self.random.choice(LENGTHS),) if not self.one_in(12) else (0,)
        most = {2: 40, 3: 9, 4: 5, 6: 3}.get(axes, 1)
        return tuple(self.random.randint(0 if self.one_in(25) else 1, most) for _ in range(axes))

    def values(self, shape: tuple[int, ...], dtype: Any, *, wild: bool = False) -> Array:
        """Return random numbers, often of any size, and if `wild` sometimes not finite."""
        x = np.asarray(self.numbers.standard_normal(shape))
        kind = self.random.random()
        with np.errstate(all="ignore"):
            if kind < 0.2:
                x = x * 10.0 ** self.numbers.integers(-45, 38, shape)
            elif kind < 0.3:
                x = np.where(
                    self.numbers.random(shape) < 0.3, self.numbers.choice(SPECIAL, shape), x
                )
            if wild and x.size and self.one_in(8):
                x = np.array(x)
                x.flat[self.random.randrange(x.size)] = self.random.choice(
                    [np.nan, np.inf, -np.inf]
                )
            return np.asarray(x, dtype)

    def place(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array of some memory layout."""
        if self.one_in(2) or not shape:
            return self.random.choice([dense, dense, misaligned])(shape, np.dtype(dtype))
        return self.random.choice(LAYOUTS)(shape, np.dtype(dtype))

    def arrays(self, sizes: Sequence[Size]) -> list[Array]:
        """Return parameters, sometimes as interleaved parts of one array."""
        placed: list[Array] = []
        for shape, dtype in sizes:
            placed.append(self.place(shape, dtype))
        if (len(sizes) > 1 and len(set(sizes)) == 1) or self.one_in(3):
            same = [i for i, size in enumerate(sizes) if size == sizes[0]]
            if len(same) > 1:
                base = dense((*sizes[0][0], len(same)), np.dtype(sizes[0][1]))
                for column, i in enumerate(same):
                    placed[i] = base[..., column]
        for array, (shape, dtype) in zip(placed, sizes, strict=True):
            array[...] = self.values(shape, dtype)
        return placed

    def rows(self, p: Array) -> Rows:
        count = self.random.choice([0, 1, 2, 5, 20]) if len(p) else 0
        if self.one_in(2) and count:
            indices = self.numbers.permutation(len(p))[:count]
            if self.one_in(2):
                indices = np.sort(indices)
        else:
            indices = self.numbers.integers(0, max(len(p), 1), count)
        kind = self.random.choice(["i8", "i4", "u2", "u8"])
        values = self.place((len(indices), *p.shape[1:]), p.dtype)
        values[...] = self.values(values.shape, p.dtype, wild=True)
        return Rows(indices.astype(kind), values)

    def branch(self, places: list[tuple[int, int]], depth: int = 0) -> Any:
        names = self.has_names
        if len(places) == 1 and not names and self.one_in(3):
            return places[0]
        parts: list[Any] = list(places)
        if depth < 3 and len(places) > 2 and self.one_in(2):
            cut = self.random.randint(1, len(places) - 1)
            parts = [self.branch(places[:cut], depth + 1), *places[cut:]]
        if depth < 3 and self.one_in(10):
            parts.append(self.branch([], depth + 1))
        kind = "dict" if names else self.random.choice(["dict", "list", "tuple"])
        if kind == "dict":
            # The last part of a name says the group.
            keys = [
                f"{i}g{part[0]}_" if is_place(part) else f"n{i}" for i, part in enumerate(parts)
            ]
            return dict(zip(keys, parts, strict=True))
        return parts if kind == "list" else ("tuple", *parts)

    def grown(self, tree: Any, leaves: Sequence[Sequence[Any]], *, other: bool = False) -> Any:
        """Return a tree with these leaves; if `other`, one that stands for the same."""
        if is_place(tree):
            return leaves[tree[0]][tree[1]]
        if isinstance(tree, dict):
            keys = list(tree)
            if other:
                self.random.shuffle(keys)
            return {key: self.grown(tree[key], leaves, other=other) for key in keys}
        is_tuple = isinstance(tree, tuple)
        parts = [self.grown(part, leaves, other=other) for part in tree[is_tuple:]]
        return tuple(parts) if is_tuple ^ (other and self.one_in(4)) else parts


def is_place(tree: Any) -> bool:
    return isinstance(tree, tuple) and len(tree) == 2 and type(tree[0]) is int
