"""A random history of an optimizer, against its model: what `make fuzz` goes through.

Two numbers say all that is done, a seed and the case. Whatever a call may change is compared to the
bit after it, and what a call that raises must leave.
"""

import copy
import math
import pickle
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import instep
import numpy as np
from bad_steps import BAD_OPTIONS
from bits import Array, assert_same_bits, buffer_of
from instep import Optimizer, Rows, _instep, schedules
from optimizer_model import (
    CODED_RULES,
    RULES,
    Gradient,
    Model,
    Options,
    Pair,
    Rule,
    defaults_of,
    is_allowed,
    modes_of,
)
from random_arrays import Draws, Size

MODES = {rule: modes_of(rule) for rule in RULES}

RATES: Sequence[Any] = (
    0.0,
    1e-3,
    0.05,
    0.7,
    schedules.Warmup(schedules.Cosine(0.1, 0.0, 8), 4),
    schedules.Exponential(0.1, 0.7),
    schedules.StepDecay(0.05, factor=0.5, every=2),
)
NUMBERS: dict[str, Sequence[Any]] = {
    "lr": RATES,
    "weight_decay": (0.0, 0.01, 0.3),
    "maximize": (False, True),
}


class History(Draws, Pair):
    """A case: what it makes and does follows from its numbers alone."""

    def __init__(self, seed: int, case: int, folder: Path) -> None:
        Draws.__init__(self, seed, case)
        self.folder = folder
        self.elements = 0
        self.left: list[tuple[Optimizer, list[bytes]]] = []
        self.state_dtype = self.random.choice(["float32", "float32", "bfloat16", "8bit"])
        has_codes = self.state_dtype == "8bit"
        rules = [rule for rule in RULES if rule.__name__ in CODED_RULES] if has_codes else RULES
        self.rule: Rule = self.random.choice(rules)
        self.form = self.random.choice(["tree", "groups", "patterns"])
        self.has_names = self.form == "patterns"
        self.common: dict[str, Any] = {"zero_grads": self.one_in(3)}
        if self.one_in(2):
            self.common["average"] = self.random.choice([0.0, 0.9, 0.999])
        seed_of_noise = self.random.choice([0, 7, 2**64 - 1])
        self.common |= {"state_dtype": self.state_dtype, "seed": seed_of_noise}
        self.model = Model(self.rule, self.common.get("average"), self.state_dtype, seed_of_noise)
        self.trees: list[Any] = []
        self.sizes: list[list[Size]] = []
        self.options: list[Options] = []
        count = 1 if self.form == "tree" else self.random.randint(1, 3)
        for _ in range(max(count, 2) if self.form == "patterns" else count):
            self.new_group()
        arrays = [self.arrays(sizes) for sizes in self.sizes]
        for params, options in zip(arrays, self.options, strict=True):
            self.model.add_group(params, options)
        self.plant()
        self.choose_decay()
        self.follow(self.make(arrays), arrays)

    # What is chosen

    def dtype(self) -> Any:
        return super().dtype() if self.state_dtype == "float32" else np.float32

    def shape(self, large: bool) -> tuple[int, ...]:
        if self.state_dtype == "8bit" and not large and self.one_in(6):
            # Rows of whole blocks, and arrays of more than one.
            n = 256 * self.random.randint(1, 3)
            return self.random.choice([(self.random.randint(1, 9), n), (n + 1,), (2, 2, n // 2)])
        return super().shape(large)

    def new_group(self) -> None:
        """Choose sizes and options of a group."""
        count = self.random.choice([1, 1, 2, 3, 5, 9])
        if self.one_in(40):
            count = 0 if self.form == "groups" else 1
        large = self.one_in(25)
        self.sizes.append([(self.shape(large and i == 0), self.dtype()) for i in range(count)])
        self.options.append(self.new_options())

    def new_options(self) -> Options:
        options = dict(self.random.choice(MODES[self.rule]))
        for name in list(options):
            if name in NUMBERS:
                options[name] = self.random.choice(NUMBERS[name])
        defaults = defaults_of(self.rule)
        for name in options:
            if self.one_in(4) and is_allowed(self.rule, {**options, name: defaults[name]}):
                options[name] = defaults[name]
        if self.state_dtype == "8bit" and "centered" in options:
            options["centered"] = False
        return options

    def gradient(self, p: Array) -> Gradient:
        """Return what a step may be given for a parameter."""
        if self.one_in(8):
            return None
        has_parts = self.state_dtype == "8bit" and math.prod(p.shape[1:]) % 256
        if p.ndim and not has_parts and self.one_in(8):
            return self.rows(p)
        clears = self.opt.zero_grads
        if not clears and p.ndim and self.one_in(6):
            part = tuple(self.random.choice([n, min(n, 1)]) for n in p.shape)
            return np.broadcast_to(self.values(part, p.dtype, wild=True), p.shape)
        g = self.place(p.shape, p.dtype)
        g[...] = self.values(p.shape, p.dtype, wild=True)
        if not clears and self.one_in(6):
            g.flags.writeable = False
        return g

    # Trees

    def plant(self) -> None:
        """Choose the structure of the trees, with the leaves' places in the groups."""
        places = [[(i, j) for j in range(len(sizes))] for i, sizes in enumerate(self.sizes)]
        if self.form == "groups":
            self.trees = [self.branch(own) for own in places]
            return
        every = [place for own in places for place in own]
        self.random.shuffle(every)
        self.trees = [self.branch(every)]
        for number, (i, j) in enumerate(every):
            self.model.groups[i].parameters[j].place = number

    def tree(self, grads: Sequence[Sequence[Any]]) -> Any:
        trees = [self.grown(tree, grads, other=True) for tree in self.trees]
        return trees if self.form == "groups" else trees[0]

    # The optimizer

    def make(self, arrays: Sequence[Sequence[Array]]) -> Optimizer:
        """Make the optimizer of these arrays, with the options as they are now."""
        options = [group.options for group in self.model.groups]
        trees = [self.grown(tree, arrays) for tree in self.trees]
        common = {**self.common, "weight_decay_mask": self.mask}
        opt: Optimizer
        if self.form == "groups":
            groups = [{**own, "params": tree} for own, tree in zip(options, trees, strict=True)]
            opt = self.rule(groups, **common)
        elif self.form == "patterns":
            patterns = {f"*g{i}_": own for i, own in enumerate(options[:-1])}
            opt = self.rule(trees[0], groups=patterns, **options[-1], **common)
        else:
            opt = self.rule(trees[0], **options[0], **common)
        if any(parameter.is_frozen for parameter in self.model.parameters()):
            opt.freeze = self.tree(self.frozen())
        return opt

    def frozen(self) -> list[list[bool]]:
        return [[x.is_frozen for x in group.parameters] for group in self.model.groups]

    def choose_decay(self) -> None:
        """Choose which parameters weight decay reaches."""
        self.mask: Any = None
        if self.one_in(3):
            self.mask = is_matrix
            for parameter in self.model.parameters():
                parameter.decays = parameter.p.ndim > 1
            if self.form != "groups" and self.one_in(2):
                flags = [[self.one_in(2) for _ in sizes] for sizes in self.sizes]
                self.mask = self.tree(flags)
                for group, own in zip(self.model.groups, flags, strict=True):
                    for parameter, decays in zip(group.parameters, own, strict=True):
                        parameter.decays = decays

    def photograph(self, opt: Optimizer, *others: Array) -> list[bytes]:
        """Return all that a call that raises must leave."""
        arrays = [array for parameter in opt._parameters for array in parameter.arrays()]
        kept = [buffer_of(array).tobytes() for array in (*arrays, *others)]
        groups = [{k: v for k, v in group.items() if k != "params"} for group in opt.param_groups]
        numbers = opt.t, opt.skips, opt.average, opt.zero_grads, groups
        carried = [(group.carried, group.carried_at) for group in opt._groups]
        return [*kept, repr(numbers).encode(), repr(carried).encode()]

    def compare(self) -> None:
        super().compare()
        for parameter in self.opt._parameters:
            self.elements += sum(array.size for array in parameter.arrays())

    def refused(self, call: Callable[[], Any], *kinds: type[Exception], given: Any = ()) -> None:
        """Fail unless a call raises one of these, and has changed nothing."""
        before = self.photograph(self.opt, *given)
        try:
            call()
        except kinds as error:
            if not str(error):
                raise AssertionError("an error without a message") from error
        else:
            raise AssertionError(f"nothing was raised; wanted {kinds}")
        assert self.photograph(self.opt, *given) == before, "a call that raised changed something"
        self.compare()

    # What is done

    def run(self) -> int:
        """Do all of it; return how many elements were compared."""
        with instep.num_threads(self.random.randint(1, 4)), np.errstate(all="ignore"):
            self.compare()
            for _ in range(self.random.randint(3, 12)):
                instep.set_num_threads(self.random.randint(1, 4))
                self.random.choices(*zip(*DONE.items(), strict=True))[0](self)
            for opt, kept in self.left:
                assert self.photograph(opt) == kept, "what was copied has changed"
        return self.elements

    def grads(self) -> list[list[Gradient]]:
        return [[self.gradient(p) for p in params] for params in self.params]

    def arguments(self) -> dict[str, Any]:
        pick = self.random.choice
        arguments: dict[str, Any] = {}
        if self.one_in(3):
            arguments["grad_scale"] = pick([1.0, -0.5, 1e-3, 0.0, 3, np.float64(0.3)])
        if self.one_in(3):
            name = pick(["max_norm", "max_array_norm"])
            arguments[name] = pick([0.0, 0.1, 1.0, 1e9, math.inf])
        if self.one_in(4):
            arguments["max_value"] = pick([0.0, 0.5, 1e-3, math.inf])
        if self.one_in(5):
            arguments["lr"] = pick([0.0, 0.02])
        if self.one_in(2):
            arguments["nonfinite"] = pick(["propagate", "skip", "skip", "raise"])
        if self.one_in(4):
            arguments["max_skips"] = pick([0, 1, 5])
        return arguments

    def do_step(self) -> None:
        grads, arguments = self.grads(), self.arguments()
        if self.one_in(12) and not self.opt.zero_grads:
            # One gradient for two parameters.
            places = [(i, j) for i, group in enumerate(grads) for j in range(len(group))]
            for (i, j), (k, n) in product(places, places):
                p, q, g = self.params[i][j], self.params[k][n], grads[i][j]
                if isinstance(g, np.ndarray) and (p.shape, p.dtype) == (q.shape, q.dtype):
                    grads[k][n] = g
        given = [buffer for group in grads for buffer in map(array_of, group) if buffer is not None]
        before = self.photograph(self.opt, *given)
        try:
            self.step(grads, **arguments)
        except FloatingPointError as error:
            # The model's own has no message.
            if "has an element that is NaN or infinite" not in str(error):
                raise AssertionError("the model raised, and the optimizer does not") from error
            assert self.photograph(self.opt, *given) == before, "what raised changed something"
            try:
                self.model.step(grads, **arguments)
            except FloatingPointError:
                self.compare()
            else:
                raise AssertionError("the optimizer raised, and the model does not") from error
        self.elements += sum(array.size for array in given)

    def step_again(self) -> None:
        """Do steps with the same gradients: later steps go by what was seen of them."""
        grads = [
            [g if isinstance(g, np.ndarray) else None for g in group] for group in self.grads()
        ]
        for _ in range(3):
            self.step(grads)

    def do_bad_gradients(self) -> None:
        live = [
            (i, j)
            for i, group in enumerate(self.model.groups)
            for j, parameter in enumerate(group.parameters)
            if not parameter.is_frozen
        ]
        if not live:
            return
        grads: list[list[Any]] = self.grads()
        i, j = self.random.choice(live)
        p = self.params[i][j]
        g = np.array(self.values(p.shape, p.dtype))
        other = np.float64 if p.dtype == np.float32 else np.float32
        bad: list[Any] = [
            g.tolist(),
            "g",
            np.ma.array(g),
            g.astype(np.float16),
            g.astype(other),
            g.astype(np.int64) if np.isfinite(g).all() and (abs(g) < 9e18).all() else [0.0],
            g.astype(g.dtype.newbyteorder()),
            g.astype(object),
            g[np.newaxis],
            np.zeros((*p.shape, 2), p.dtype),
        ]
        if p.size:
            arrays = [p, *self.opt._by_array[id(p)].arrays()]
            bad += arrays
        if p.ndim:
            bad.append(Rows(np.array([len(p)]), np.zeros((1, *p.shape[1:]), p.dtype)))
            bad.append(Rows(np.array([-1]), np.zeros((1, *p.shape[1:]), p.dtype)))
            bad.append(Rows(np.arange(0), np.zeros((0, *p.shape[1:], 3), p.dtype)))
            bad.append(Rows(np.arange(0), np.zeros((0, *p.shape[1:]), other)))
        if self.opt.zero_grads and p.size:
            bad.append(np.broadcast_to(g, p.shape))  # read-only
            if p.size > 1:
                folded = np.lib.stride_tricks.as_strided(g, p.shape, (0,) * p.ndim)
                bad.append(folded)
        grads[i][j] = self.random.choice(bad)
        given = [buffer for group in grads for buffer in map(array_of, group) if buffer is not None]
        kinds = TypeError, ValueError, IndexError
        arguments = {} if self.one_in(2) else self.arguments()
        self.refused(lambda: self.opt.step(self.tree(grads), **arguments), *kinds, given=given)

    def do_bad_tree(self) -> None:
        tree, which = self.tree(self.grads()), self.random.randrange(3)
        wrong = ({"x": tree}, "grads", 3.0)[which]
        if not any(not parameter.is_frozen for parameter in self.model.parameters()):
            return
        self.refused(lambda: self.opt.step(wrong), TypeError, ValueError, KeyError)

    def do_bad_arguments(self) -> None:
        wrong: dict[str, Any] = self.random.choice(
            [
                {"grad_scale": math.nan},
                {"grad_scale": "1"},
                {"grad_scale": math.inf},
                {"max_norm": -1.0},
                {"max_norm": math.nan},
                {"max_array_norm": "1"},
                {"max_norm": 1.0, "max_array_norm": 1.0},
                {"max_value": -0.5},
                {"nonfinite": "ignore"},
                {"nonfinite": None},
                {"lr": -0.1},
                {"lr": math.nan},
                {"lr": "fast"},
                {"max_skips": -1},
                {"max_skips": 1.5},
            ]
        )
        grads = self.tree(self.grads())
        self.refused(lambda: self.opt.step(grads, **wrong), TypeError, ValueError)

    def do_bad_option(self) -> None:
        name, value, kind = self.random.choice(BAD_OPTIONS)
        options = self.random.choice(self.opt.param_groups)
        if name not in options:
            return
        good, options[name] = options[name], value
        self.refused(lambda: self.opt.step(self.tree(self.grads())), kind)
        options[name] = good

    def do_read_only(self) -> None:
        """A parameter or a state that is read-only keeps all from being written."""
        i = self.random.randrange(len(self.params))
        if not self.params[i]:
            return
        j = self.random.randrange(len(self.params[i]))
        grads: list[list[Any]] = [[None for _ in params] for params in self.params]
        p = self.params[i][j]
        if self.model.groups[i].parameters[j].is_frozen or not p.size:
            return
        grads[i][j] = self.values(p.shape, p.dtype)
        array = self.random.choice(self.opt._by_array[id(p)].arrays())
        base: Any = array.base
        if isinstance(base, bytes):
            return  # unpickled: NumPy would not make it writable again
        array.flags.writeable = False
        self.refused(lambda: self.opt.step(self.tree(grads)), ValueError)
        array.flags.writeable = True

    def do_option(self) -> None:
        index = self.random.randrange(len(self.params))
        own, group = self.opt.param_groups[index], self.model.groups[index]
        name = self.random.choice([name for name in NUMBERS if name in group.options])
        changed: Options = {name: self.random.choice(NUMBERS[name])}
        if self.one_in(3):
            # Another mode, if it keeps the same states.
            options = {**group.options, **self.new_options()}
            states = [
                _instep.Recipe(self.rule.recipe(each, 1)).states
                for each in (options, group.options)
            ]
            if states[0] == states[1] and same_carried(self.rule, options, group.options):
                changed = options
        own.update(changed)
        group.options.update(changed)

    def do_zero_grads(self) -> None:
        self.common["zero_grads"] = self.opt.zero_grads = self.one_in(2)

    def do_freeze(self) -> None:
        for parameter in self.model.parameters():
            parameter.is_frozen = self.one_in(3)
        self.opt.freeze = self.tree(self.frozen())

    def do_group(self) -> None:
        if self.form != "groups" or len(self.params) > 4:
            return
        self.new_group()
        arrays = self.arrays(self.sizes[-1])
        index = len(self.sizes) - 1
        self.trees.append(self.branch([(index, j) for j in range(len(arrays))]))
        params = [*self.params, arrays]
        self.opt.add_param_group({**self.options[-1], "params": self.grown(self.trees[-1], params)})
        self.model.add_group(arrays, self.options[-1])
        if self.mask is not None:
            for parameter in self.model.groups[-1].parameters:
                parameter.decays = parameter.p.ndim > 1
        self.follow(self.opt, params)

    def do_t(self) -> None:
        self.opt.t = self.model.t = self.random.choice([0, 1, 5, 100, 4000, self.model.t])

    def do_copy(self) -> None:
        old, kept = self.opt, self.photograph(self.opt)
        ways: list[Callable[[Optimizer], Optimizer]] = [
            copy.deepcopy,
            lambda opt: pickle.loads(pickle.dumps(opt)),
        ]
        new = self.random.choice(ways)(old)
        place = {id(parameter.array): n for n, parameter in enumerate(old._parameters)}
        arrays = [[new._parameters[place[id(p)]].array for p in params] for params in self.params]
        self.left = [*self.left[-2:], (old, kept)]
        self.follow(new, arrays)

    def do_resume(self) -> None:
        """Save the state in some way, and go on with another optimizer, of other layouts."""
        old, kept = self.opt, self.photograph(self.opt)
        arrays = [self.arrays(sizes) for sizes in self.sizes]
        new = self.make(arrays)
        if self.one_in(2):
            grads = [[self.values(p.shape, p.dtype) for p in params] for params in arrays]
            new.step(self.tree(grads))
        way = self.random.choice(["dict", "file", "file with parameters"])
        if way == "dict":
            new.load_state_dict(old.state_dict())
        else:
            path, params = self.folder / "fuzz.safetensors", way == "file with parameters"
            extra = self.random.choice([None, {"epoch": 3}])
            old.save(path, params=params, extra=extra)
            assert new.load(path) == extra
        if way != "file with parameters":
            for group, into in zip(self.params, arrays, strict=True):
                for p, q in zip(group, into, strict=True):
                    q[...] = p
        for own in self.model.groups:
            if own.carried_at != self.model.t:
                own.carried = self.rule.carried(own.options, self.model.t)
                own.carried_at = self.model.t
        assert self.photograph(old) == kept, "saving has changed something"
        self.left = [*self.left[-2:], (old, kept)]
        self.follow(new, arrays)

    def do_bad_load(self) -> None:
        saved = self.opt.state_dict()
        names = list(saved["state"])
        wrong: Callable[[], Any] = self.random.choice(
            [
                lambda: saved.update(rule="none"),
                lambda: saved.update(t=-1),
                lambda: saved.update(t=True),
                lambda: saved.update(skips=-1),
                lambda: saved.update(format=3),
                lambda: saved.update(average=None if saved["average"] is not None else 0.5),
                lambda: saved.pop("groups"),
                lambda: saved.update(other=1),
                lambda: saved["groups"][0]["options"].pop("lr"),
                lambda: saved["groups"][0].update(recipe="none"),
                lambda: saved["state"].pop(names[0]) if names else saved.clear(),
                lambda: saved["state"].update({"no such": {}}),
            ]
        )
        wrong()
        self.refused(lambda: self.opt.load_state_dict(saved), TypeError, ValueError, KeyError)

    def do_averaged(self) -> None:
        if self.opt.average is None:
            return
        with self.opt.averaged():
            for params, group in zip(self.params, self.model.groups, strict=True):
                for p, parameter in zip(params, group.parameters, strict=True):
                    assert parameter.average is not None
                    assert_same_bits(p, parameter.average)
                    own = self.opt._by_array[id(p)].average
                    assert own is not None
                    assert_same_bits(own, parameter.p)
            try:
                self.opt.step(self.tree(self.grads()))
            except RuntimeError:
                pass
            else:
                raise AssertionError("a step within averaged() was done")
        self.compare()


# What a history does, and how often.
DONE: dict[Callable[[History], None], int] = {
    History.do_step: 40,
    History.step_again: 8,
    History.do_bad_gradients: 12,
    History.do_bad_tree: 2,
    History.do_bad_arguments: 3,
    History.do_bad_option: 3,
    History.do_read_only: 2,
    History.do_option: 8,
    History.do_zero_grads: 2,
    History.do_freeze: 4,
    History.do_group: 3,
    History.do_t: 2,
    History.do_copy: 4,
    History.do_resume: 4,
    History.do_bad_load: 2,
    History.do_averaged: 4,
}


def is_matrix(name: str, array: Array) -> bool:
    return array.ndim > 1


def array_of(g: Any) -> Array | None:
    """Return the array of a gradient, good or bad, whose numbers may be written."""
    if isinstance(g, Rows):
        return g.values
    return g if isinstance(g, np.ndarray) and g.dtype != object else None


def same_carried(rule: Rule, *options: Options) -> bool:
    first, second = (set(rule.carried(each, 0)) for each in options)
    return first == second


def run_case(seed: int, case: int, folder: Path) -> int:
    """Do all of a case; return how many elements were compared."""
    return History(seed, case, folder).run()
