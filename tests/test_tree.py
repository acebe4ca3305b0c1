"""Trees: their leaves, the names of those, and trees of another structure."""

import copy
from collections import OrderedDict, UserDict, namedtuple
from types import MappingProxyType
from typing import Any

import hypothesis.strategies as st
import instep
import numpy as np
import pytest
from hypothesis import given, settings
from instep.tree import Tree

Pair = namedtuple("Pair", ["first", "second"])


def paths_of(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """Return the leaves of a tree with their paths, from left to right."""
    if isinstance(tree, dict):
        children = list(tree.items())
    elif isinstance(tree, (list, tuple)):
        children = list(enumerate(tree))
    else:
        return [(path, tree)]
    return [leaf for key, child in children for leaf in paths_of(child, (*path, key))]


def rearranged(tree: Any, data: st.DataObject) -> Any:
    """Return the same tree with the keys of dicts in another order, and lists and tuples mixed."""
    if isinstance(tree, dict):
        keys = data.draw(st.permutations(list(tree)))
        return {key: rearranged(tree[key], data) for key in keys}
    if isinstance(tree, (list, tuple)):
        kind = data.draw(st.sampled_from([list, tuple]))
        return kind(rearranged(child, data) for child in tree)
    return tree


keys = st.text("abc.", max_size=3) | st.integers(0, 3)
trees = st.recursive(
    st.integers(),
    lambda children: (
        st.lists(children, max_size=4)
        | st.lists(children, max_size=4).map(tuple)
        | st.dictionaries(keys, children, max_size=4)
    ),
    max_leaves=12,
)


@settings(derandomize=True, deadline=None, max_examples=300, database=None)
@given(tree=trees, data=st.data())
def test_leaves_are_those_of_a_walk(tree: Any, data: st.DataObject) -> None:
    wanted = paths_of(tree)
    built = Tree(tree)
    assert built.paths == [path for path, _ in wanted]
    assert built.names == [".".join(map(str, path)) for path, _ in wanted]
    leaves = tuple(leaf for _, leaf in wanted)
    assert built.leaves(tree, "x") == leaves
    assert built.leaves(rearranged(tree, data), "x") == leaves
    again = built.build(iter(leaves))
    assert paths_of(again) == wanted
    assert not isinstance(again, tuple)


@settings(derandomize=True, deadline=None, max_examples=300, database=None)
@given(tree=trees, other=trees)
def test_another_structure_is_refused(tree: Any, other: Any) -> None:
    def structure(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: structure(child) for key, child in tree.items()}
        if isinstance(tree, (list, tuple)):
            return [structure(child) for child in tree]
        return 0

    def fits(tree: Any, other: Any) -> bool:
        if isinstance(tree, dict):
            return (
                isinstance(other, dict)
                and set(tree) == set(other)
                and all(fits(tree[key], other[key]) for key in tree)
            )
        if isinstance(tree, (list, tuple)):
            return (
                isinstance(other, (list, tuple))
                and len(tree) == len(other)
                and all(map(fits, tree, other))
            )
        return True  # whatever stands where a leaf is wanted is looked at later

    if fits(tree, other):
        assert len(Tree(tree).leaves(other, "grads")) == len(Tree(tree).paths)
    else:
        with pytest.raises((TypeError, ValueError, KeyError)) as info:
            Tree(tree).leaves(other, "grads")
        assert str(info.value.args[0]).startswith("grads")


def test_the_keys_of_the_course_are_told_apart() -> None:
    p = {"W1": np.ones(2), "b1": np.ones(2)}
    opt = instep.SGD(p)
    with pytest.raises(KeyError) as info:
        opt.step({"dW1": np.ones(2), "db1": np.ones(2)})
    told = "the classes take the parameters' keys: 'W1', not 'dW1'"
    assert info.value.args[0] == f'grads["W1"] is missing; {told}'
    with pytest.raises(KeyError) as info:
        opt.step({"b1": np.ones(2)})
    assert info.value.args[0] == 'grads["W1"] is missing'


def test_what_is_a_tree() -> None:
    """Dicts of all kinds are mappings, named tuples are tuples; all else is a leaf."""
    p: dict[str, Any] = {
        "a": OrderedDict(x=np.ones(1)),
        "b": UserDict(x=np.ones(2)),
        "c": MappingProxyType({"x": np.ones(3)}),
        "d": Pair(np.ones(4), (np.ones(5),)),
    }
    opt = instep.SGD(p, lr=0.5)
    assert list(opt.state) == ["a.x", "b.x", "c.x", "d.0", "d.1.0"]
    opt.step(
        {
            "d": [np.ones(4), [np.ones(5)]],
            "c": {"x": np.ones(3)},
            "b": {"x": np.ones(2)},
            "a": MappingProxyType({"x": np.ones(1)}),
        }
    )
    assert (p["a"]["x"] == 0.5).all()
    assert (p["d"].second[0] == 0.5).all()
    with pytest.raises(TypeError, match=r'^params\["a"\] is a set; wanted a plain numpy.ndarray$'):
        instep.SGD({"a": {1.0}})


def test_empty_trees_make_no_steps() -> None:
    trees: list[Any] = [[], {}, (), {"a": [], "b": {}}, [[], ()]]
    for nothing in trees:
        opt = instep.Adam(nothing, average=0.9)
        assert opt.state == {}
        opt.step(nothing)
        with opt.averaged():
            pass
        assert opt.t == 1


def test_averages_have_the_structure_of_the_parameters() -> None:
    p = {"W": np.ones((2, 3)), "layers": (np.zeros(2), [np.ones(())])}
    averages = instep.SGD(p, average=0.9).averages
    assert list(averages) == ["W", "layers"]
    assert isinstance(averages["layers"], list)
    assert averages["layers"][1][0].shape == ()
    assert not np.shares_memory(averages["W"], p["W"])
    groups = instep.SGD([{"params": p}, {"params": np.ones(3)}], average=0.9).averages
    assert isinstance(groups, list)
    assert groups[0]["W"].shape == (2, 3)
    assert groups[1].shape == (3,)
    assert instep.SGD(np.ones(3), average=0.9).averages.shape == (3,)


def test_two_arrays_of_one_name_are_refused() -> None:
    x, y = np.ones(1), np.ones(1)
    for params in ({"a.b": x, "a": {"b": y}}, {0: x, "0": y}, {"a": [x], "a.0": y}):
        with pytest.raises(ValueError, match=r"params has two arrays named '.*'; rename a key"):
            instep.SGD(params)


def test_a_tree_that_lies_in_itself_is_refused() -> None:
    a: list[Any] = [np.ones(2)]
    a.append({"x": a})
    with pytest.raises(ValueError, match=r'params\["1.x"\] is a list or dict that contains itself'):
        instep.SGD(a)
    b: dict[str, Any] = {}
    b["b"] = b
    with pytest.raises(ValueError, match=r'params\["b"\] is a list or dict'):
        instep.SGD(b)
    # One list twice is no circle.
    same = [np.ones(2)]
    with pytest.raises(ValueError, match="is the same array as"):
        instep.SGD([same, same])


def changed_and_back(params: Any, change: Any, restore: Any, match: str) -> None:
    """An optimizer refuses to step a tree that was changed, and steps it once it is as it was."""
    opt = instep.SGD(params, lr=0.5)
    grads = copy.deepcopy(params)
    opt.step(grads)
    change(params)
    for _ in range(2):
        with pytest.raises(ValueError, match=match):
            opt.step(grads)
    assert opt.t == 1
    restore(params)
    opt.step(grads)
    assert opt.t == 2


def test_a_tree_in_which_an_array_was_replaced_is_refused() -> None:
    p, other = np.ones(2), np.ones(2)
    detached = "is no longer the array that the optimizer steps; assign in place"

    def put(place: Any) -> Any:
        def change(params: Any) -> None:
            params[place] = other

        return change

    def put_back(place: Any) -> Any:
        def restore(params: Any) -> None:
            params[place] = p

        return restore

    changed_and_back({"a": p}, put("a"), put_back("a"), r'params\["a"\] ' + detached)
    changed_and_back([np.ones(1), p], put(1), put_back(1), r"params\[1\] " + detached)
    nested = r'params\["x.0"\] ' + detached
    x = [p]
    changed_and_back(
        {"x": x}, lambda _: x.__setitem__(0, other), lambda _: x.__setitem__(0, p), nested
    )


def test_a_tree_with_more_or_fewer_arrays_than_it_had_is_refused() -> None:
    p, other = np.ones(2), np.ones(2)
    changed_and_back(
        {"a": p},
        lambda params: params.__setitem__("b", other),
        lambda params: params.pop("b"),
        "params was changed after the optimizer was made .*'b'",
    )
    changed_and_back(
        {"a": p, "b": other},
        lambda params: params.pop("b"),
        lambda params: params.__setitem__("b", other),
        "params was changed after the optimizer was made .*b.* is missing",
    )
    changed_and_back(
        [p],
        lambda params: params.append(other),
        lambda params: params.pop(),
        "params was changed after the optimizer was made .*length 2",
    )


def test_groups_whose_trees_were_changed_are_refused() -> None:
    a, b = {"w": np.ones(2)}, {"w": np.ones(2)}
    opt = instep.SGD([{"params": a}, {"params": b}], lr=0.5)
    b["w"] = b["w"] - 0
    with pytest.raises(ValueError, match=r'params\["1.w"\] is no longer the array'):
        opt.step([{"w": np.ones(2)}, {"w": np.ones(2)}])
    assert (a["w"] == 1).all()


@pytest.mark.parametrize("kind", [OrderedDict, UserDict, MappingProxyType])
def test_lists_and_mappings_of_other_kinds_are_watched_too(kind: Any) -> None:
    inner, p = {"a": np.ones(2)}, np.ones(2)
    given: Any = {"x": kind(inner), "b": p}
    inside: Any = inner if kind is MappingProxyType else given["x"]
    opt = instep.SGD(given, lr=0.5, average=0.5)
    grads = {"x": {"a": np.ones(2)}, "b": np.ones(2)}
    opt.step(grads)
    for place, name in ((given, "b"), (inside, "x.a")):
        key = name[-1]
        before, place[key] = place[key], np.ones(2)
        with pytest.raises(ValueError, match=rf'params\["{name}"\] is no longer the array'):
            opt.step(grads)
        with pytest.raises(ValueError, match="is no longer the array"), opt.averaged():
            pass
        place[key] = before
    opt.step(grads)
    with opt.averaged():
        given["b"] = np.ones(2)
    assert (opt.t, p[0]) == (2, 0)
