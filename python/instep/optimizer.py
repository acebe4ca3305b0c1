"""What all optimizers have in common: parameters, groups, state, and the way of a step.

A rule is a small class in `instep.optimizers`; it says which recipe to run, with which numbers.
"""

import importlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache, partial
from types import ModuleType
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from instep import _instep
from instep.checks import check_array, check_integer, check_keys, check_number
from instep.forking import new_lock
from instep.tree import Tree, called
from instep.uninterrupted import call_all, copying

__all__ = ["LearningRate", "Nonfinite", "Optimizer", "Options", "StepResult"]

LearningRate: TypeAlias = float | Callable[[int], float]
"""A number, or a callable of the number of steps done, as those of `instep.schedules` are."""

TOO_MANY_STEPS = 2**53
"""Larger numbers of steps are not exact in the formulas."""

Nonfinite: TypeAlias = Literal["propagate", "skip", "raise"]

Options: TypeAlias = Mapping[str, Any]
"""The options of one group: ``lr``, ``weight_decay``, ``maximize`` and those of the rule."""


class StepResult(NamedTuple):
    """What a step returns."""

    grad_norm: float | None
    """The norm of all gradients before clipping, if ``max_norm`` was given."""
    skipped: bool
    """Whether nothing was done, because of a gradient that is not finite."""


class Optimizer(ABC):
    """The base of all optimizers.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested at will; each a plain ndarray of
        float32 or float64, of any shape and memory layout. **Steps write them in place.** A list of
        dicts with the key ``"params"`` is a list of groups, each with its own parameters and, where
        it says so, its own options.
    options : dict
        The options of groups that do not say otherwise.
    zero_grads : bool, default False
        Whether a step sets the gradients to zero after use.
    average : float, optional
        The decay of a moving average of the parameters, if one is to be kept.

    Attributes
    ----------
    param_groups : list of dict
        The groups, each a dict of ``"params"`` and options. Options may be assigned at any time.
    t : int
        The number of steps done, by all parameters alike.

    Notes
    -----
    `copy.deepcopy` and `pickle` copy an optimizer with all its arrays, the parameters among them:
    the copy steps its own. A model that is copied in the same call goes on sharing them with its
    optimizer. A copy waits for a step of another thread; to pickle does not. For the state alone
    there are `state_dict` and `save`.

    Threads, forks and signal handlers see an optimizer between its steps: who steps or copies it
    waits for a step of another thread, and so does `os.fork`.
    """

    def __init__(
        self,
        params: Any,
        options: dict[str, Any],
        *,
        zero_grads: bool = False,
        average: float | None = None,
    ) -> None:
        if average is not None:
            average = check_number("average", average, below=1.0)
        self.zero_grads = zero_grads
        self._average = average
        self.param_groups: list[dict[str, Any]] = []
        self._groups: list[_Group] = []
        self._defaults = options
        self._has_groups = _is_list_of_groups(params)
        self._averages_are_in = False
        self._lock = new_lock()
        self._stepper = _instep.Stepper((), 0)
        for group in params if self._has_groups else [{"params": params}]:
            self.add_param_group(group)

    @classmethod
    @abstractmethod
    def recipe(cls, options: Options, t: int) -> str:
        """Return the name of the recipe for step `t`; its states are the same for all steps.

        Raises
        ------
        ValueError
            An unknown mode.
        """

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        """Return the options with their numbers checked and made floats; the rate is left out.

        Raises
        ------
        TypeError, ValueError
            An option that is not a number, or out of its range.
        """
        return {**options, "weight_decay": check_number("weight_decay", options["weight_decay"])}

    @classmethod
    @abstractmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        """Return the numbers of the recipe for step `t`, counted from 1, from checked options."""

    @classmethod
    def decouples(cls, options: Options) -> bool:
        """Return whether weight decay shrinks the parameter, and is not a part of the gradient."""
        return False

    @classmethod
    def initial(cls, state: str, options: Options) -> float:
        """Return what a state array is filled with at first."""
        return 0.0

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add a group of parameters; their state starts now.

        Parameters
        ----------
        group : dict
            ``{"params": ..., "lr": ...}``: the options it does not give are the optimizer's own.

        Raises
        ------
        TypeError
            A parameter that is not a plain ndarray of native float32 or float64.
        ValueError
            An option that the rule does not have, or out of its range; parameters that were not
            given as groups in the first place.
        """
        if self._groups and not self._has_groups:
            raise ValueError("params was not a list of groups, so no group can be added")
        for option in group:
            if option != "params" and option not in self._defaults:
                wanted = ", ".join(self._defaults)
                raise ValueError(f"params has a group with the option {option!r}; wanted {wanted}")
        options = {**self._defaults, **group}
        path = (len(self._groups),) if self._has_groups else ()
        built = _Group(self, options, Tree(options["params"], path))
        taken = {name for other in self._groups for name in other.names}
        for name in built.names:
            if name in taken:
                raise ValueError(f"params has two arrays named {name!r}; rename a key")
            taken.add(name)
        with self._lock:
            self._groups.append(built)
            self.param_groups.append(options)
            self._stepper = self._new_stepper(self.t)

    def _new_stepper(self, t: int) -> _instep.Stepper:
        return _instep.Stepper(tuple(group.arrays() for group in self._groups), t)

    @property
    def t(self) -> int:
        """The number of steps done, by all parameters alike. It may be set.

        Raises
        ------
        TypeError, ValueError
            When it is set to something that is not an integer, or less than 0.
        """
        return self._stepper.t

    @t.setter
    def t(self, t: int) -> None:
        check_integer("t", t, least=0)
        if t >= TOO_MANY_STEPS:
            raise ValueError(f"t is {t}; wanted less than {TOO_MANY_STEPS}")
        self._stepper.t = t

    def step(
        self,
        grads: Any,
        *,
        lr: float | None = None,
        grad_scale: float = 1.0,
        max_norm: float | None = None,
        nonfinite: Nonfinite = "propagate",
    ) -> StepResult:
        """Do one step, in place.

        Parameters
        ----------
        grads : tree of ndarray
            Of the structure of the parameters; for groups, a list with such a tree for each.
            ``None`` for an array leaves its parameter and state alone, `Rows` all but some rows of
            them. Only read, unless the optimizer was made with ``zero_grads=True``.
        lr : float, optional
            The learning rate of this step, instead of the groups' own.
        grad_scale : float, default 1.0
            What the gradients are multiplied by: one over the number of accumulated batches, one
            over a loss scale.
        max_norm : float, optional
            The most that the norm of all gradients together may be: if it is more, they are
            multiplied by ``max_norm/(norm + 1e-6)``, as torch does. ``math.inf`` only asks for the
            norm.
        nonfinite : {"propagate", "skip", "raise"}, default "propagate"
            What to do about a gradient with NaN or Inf: step all the same, as NumPy would; leave
            everything as it was, the step count included; or raise.

        Returns
        -------
        StepResult
            ``grad_norm``, the norm of all gradients after `grad_scale` and before clipping, if
            `max_norm` was given, else None; and ``skipped``.

        Raises
        ------
        TypeError, ValueError, KeyError
            A tree of another structure; an array that does not go with its parameter; arrays that
            share memory where one is written; an option out of its range, or one that the rule does
            not have in a dict of `param_groups`.
        FloatingPointError
            A gradient with NaN or Inf, with ``nonfinite="raise"``.
        RuntimeError
            A step within `averaged`; a learning rate that is a callable and steps the optimizer.

        Notes
        -----
        A call that raises has changed nothing. All is done in one pass over the arrays, with a
        second one over the gradients for `max_norm` and `nonfinite`; nothing is allocated. The norm
        is summed in float64 over fixed blocks in a fixed order, so its bits do not depend on the
        machine. Two threads that step the same optimizer do so one after the other. A norm that
        overflows float64 is infinite, and clipping by it takes finite gradients to zero, as in
        torch: what is left of the step is momentum and weight decay.
        """
        grad_scale = check_number("grad_scale", grad_scale, least=-math.inf)
        if max_norm is not None:
            only_asks = isinstance(max_norm, (float, np.floating)) and max_norm == math.inf
            max_norm = math.inf if only_asks else check_number("max_norm", max_norm)
        with self._lock:
            self._refuse_averaged("step was called")
            stepper = self._stepper
            t = stepper.t + 1
            trees = self._by_group(grads) if self._has_groups else (grads,)
            groups = []
            for group, tree in zip(self._groups, trees, strict=True):
                groups.append((group.next_work(lr, t), group.tree.leaves(tree, "grads")))
            done = stepper.step(
                t, groups, self._describe, grad_scale, max_norm, nonfinite, bool(self.zero_grads)
            )
        return StepResult(*done)

    def _by_group(self, grads: Any) -> list[Any]:
        if not isinstance(grads, (list, tuple)):
            kind = type(grads).__name__
            raise TypeError(f"grads is a {kind}; wanted a list, with the gradients of each group")
        if len(grads) != len(self._groups):
            wanted = len(self._groups)
            raise ValueError(f"grads has length {len(grads)}; wanted {wanted}, one for each group")
        return list(grads)

    def _describe(self, group: int, role: int, index: int) -> str:
        return self._groups[group].describe(role, index)

    @property
    def state(self) -> dict[str, dict[str, NDArray[Any]]]:
        """The state arrays themselves, by the parameter's name and their own."""
        return {
            name: {state: arrays[i] for state, arrays in group.states.items()}
            for group in self._groups
            for i, name in enumerate(group.names)
        }

    @property
    def average(self) -> float | None:
        """The decay of the moving averages; None if there are none. Can't be assigned."""
        return self._average

    @property
    def averages(self) -> Any:
        """The moving averages of the parameters, in the structure of the parameters.

        Raises
        ------
        ValueError
            An optimizer that was made without ``average``.
        """
        trees = [group.tree.build(iter(group.averages())) for group in self._groups]
        return trees if self._has_groups else trees[0]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averages in the place of the parameters, and the parameters back at the end.

        The very arrays of the parameters hold the averages within, so that a model that uses them
        can be evaluated. A step within raises.

        Raises
        ------
        ValueError
            An optimizer that was made without ``average``; a parameter that is read-only.
        RuntimeError
            A use within another one.
        """
        entered = False
        try:
            with self._lock:
                self._refuse_averaged("averaged() was entered")
                entered = True
                self._swap_averages()
            yield
        finally:
            with self._lock:
                # An interrupt may have come before they were.
                if entered and self._averages_are_in:
                    self._swap_averages()

    def _refuse_averaged(self, event: str) -> None:
        if self._averages_are_in:
            raise RuntimeError(f"{event} within averaged()")

    def _swap_averages(self) -> None:
        params = [param for group in self._groups for param in group.params]
        averages = [average for group in self._groups for average in group.averages()]
        for group in self._groups:
            for index, param in enumerate(group.params):
                if not param.flags.writeable:
                    name = group.describe(0, index)
                    raise ValueError(f"{name} is read-only; averages can't be put in its place")
        copies = [param.copy() for param in params]
        are_in = not self._averages_are_in
        call_all(
            [
                *map(copying, params, averages),
                *map(copying, averages, copies),
                partial(setattr, self, "_averages_are_in", are_in),
            ]
        )

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that the next steps depend on, the parameters excepted.

        Returns
        -------
        dict
            Of plain numbers, strings, lists and dicts, and new arrays:

            ``"format"``
                The version of this layout, 1.
            ``"rule"``
                The name of the class.
            ``"t"``
                The number of steps done.
            ``"average"``
                The decay of the moving averages; None if there are none.
            ``"groups"``
                A list with a dict for each group: its ``"options"``, the name of its ``"recipe"``,
                and the ``"names"`` of its parameters.
            ``"state"``
                As `state`: the state arrays by the parameter's name and their own.
            ``"averages"``
                The moving averages by the parameter's name.

        Raises
        ------
        RuntimeError
            A call within `averaged`.

        Notes
        -----
        **The parameters are not in it:** keep them too. A callable ``lr`` is None in it, see
        `load_state_dict`; ``zero_grads`` is left out, since no step depends on it.

        Examples
        --------
        >>> import numpy as np
        >>> import instep
        >>> opt = instep.Adam({"W": np.ones(2)})
        >>> result = opt.step({"W": np.ones(2)})
        >>> saved = opt.state_dict()
        >>> saved["rule"], saved["t"], saved["groups"][0]["recipe"]
        ('Adam', 1, 'adam_scaled')
        >>> saved["state"]["W"]["m"].round(3)
        array([0.1, 0.1])
        """
        with self._lock:
            self._refuse_averaged("state_dict was called")
            return deepcopy(_checkpoint().collect(self, self._groups))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from where another optimizer was.

        The arrays of `state` and `averages` **are written in place**, to the bit; options and `t`
        are set. All is checked first: a call that raises has changed nothing.

        Parameters
        ----------
        state_dict : dict
            What `state_dict` returned, for an optimizer of the same rule, with the same groups and
            names of parameters, in any order, and states of the same shapes and dtypes. Only read.

        Raises
        ------
        TypeError
            Something of another type than `state_dict` gives; an array of another dtype.
        ValueError
            A dict of another rule or a newer format; names or keys that are missing or unknown, all
            of them listed; an array of another shape; averages for an optimizer that keeps none, or
            none for one that does; options of a recipe with other states, or out of their range; a
            callable ``lr`` that got lost; a state array that was made read-only.
        RuntimeError
            A call within `averaged`.

        Notes
        -----
        **The parameters are not in it:** put back theirs as well. Options given to the optimizer
        when it was made give way to those of the dict, except that **a callable** ``lr`` **stays**:
        callables are not stored. So make the optimizer with its schedule, which is called with the
        number of steps done and goes on where it was. If the dict was made with a callable, and
        this optimizer has a number, that is an error, for the rate would not be the same.

        Examples
        --------
        >>> import numpy as np
        >>> import instep
        >>> opt = instep.Adam({"W": np.ones(2)}, lr=0.1)
        >>> result = opt.step({"W": np.ones(2)})
        >>> other = instep.Adam({"W": np.ones(2)})
        >>> other.load_state_dict(opt.state_dict())
        >>> other.t, other.param_groups[0]["lr"]
        (1, 0.1)
        """
        with self._lock:
            self._refuse_averaged("load_state_dict was called")
            _checkpoint().restore(self, self._groups, state_dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the state to a file in the safetensors format: **not the parameters**.

        Parameters
        ----------
        path : str or path
            The file to write. If there is one, it is replaced as a whole, or left as it was.

        Raises
        ------
        ImportError
            The package safetensors is missing: ``pip install 'instep[checkpoint]'``.
        OSError
            The file could not be written; the old one is intact.
        RuntimeError
            A call within `averaged`.

        Notes
        -----
        The file has what `state_dict` returns. It is written under another name in the same folder,
        flushed to disk, and renamed; then the folder is flushed. Only that last flush can fail with
        the new file in place. Other threads that step the optimizer wait.

        Parameters are yours to save, for instance with the same library:

        .. code-block:: python

            from safetensors.numpy import load_file, save_file

            save_file(parameters, "model.safetensors")  # C-ordered arrays
            opt.save("optimizer.safetensors")

            for name, array in load_file("model.safetensors").items():
                parameters[name][...] = array  # in place: opt holds these arrays
            opt.load("optimizer.safetensors")

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> import instep
        >>> opt = instep.Adam({"W": np.ones(2)})
        >>> result = opt.step({"W": np.ones(2)})
        >>> other = instep.Adam({"W": np.ones(2)})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     opt.save(f"{folder}/optimizer.safetensors")
        ...     other.load(f"{folder}/optimizer.safetensors")
        >>> bool((other.state["W"]["m"] == opt.state["W"]["m"]).all())
        True
        """
        with self._lock:
            self._refuse_averaged("save was called")
            _checkpoint().write(path, _checkpoint().collect(self, self._groups))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from where the optimizer was that was saved to a file.

        As `load_state_dict`: state arrays **are written in place**, after all is checked. **The
        parameters are not in the file.**

        Parameters
        ----------
        path : str or path
            A file that `save` wrote.

        Raises
        ------
        ImportError
            The package safetensors is missing: ``pip install 'instep[checkpoint]'``.
        OSError
            The file is not there, or can't be read.
        TypeError, ValueError
            The file is truncated, corrupt, not from `save`, or of a newer format; or what it has
            does not go with the optimizer, see `load_state_dict`.
        RuntimeError
            A call within `averaged`.

        Notes
        -----
        Nothing in the file is run. A checksum over all of it is compared.

        Examples
        --------
        See `save`.
        """
        state_dict = _checkpoint().read(path)
        try:
            self.load_state_dict(state_dict)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{os.fspath(path)}: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the lock out, for `copy.deepcopy` and `pickle`: parameters are copied too.

        To pickle does not wait for steps of other threads: `state_dict` and `copy.deepcopy` do.
        """
        if self._averages_are_in:
            raise RuntimeError("the optimizer was copied within averaged()")
        own = {key: value for key, value in self.__dict__.items() if key not in _NATIVE}
        return {**own, "t": self.t}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Optimizer":
        """Copy it with all arrays, between the steps that other threads do."""
        with self._lock:
            copied = memo[id(self)] = type(self).__new__(type(self))
            copied.__setstate__(deepcopy(self.__getstate__(), memo))
        return copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what `__getstate__` gave."""
        t = state.pop("t")
        self.__dict__.update(state)
        self._lock = new_lock()
        self._stepper = self._new_stepper(t)


# What can't be copied, and is made anew.
_NATIVE = ("_lock", "_stepper")


class _Group:
    """The parameters of a group, with their names, states and averages."""

    def __init__(self, optimizer: Optimizer, options: dict[str, Any], tree: Tree) -> None:
        self.rule = type(optimizer)
        self.options = options
        self.known = tuple(options)
        self.tree = tree
        self.names = [name or "params" for name in tree.names]
        self.params = tree.leaves(options["params"], "params")
        for path, param in zip(tree.paths, self.params, strict=True):
            check_array(called("params", path), param)
        self.kept: tuple[float, tuple[NDArray[Any], ...]] | None = None
        # The options as they were when they were checked, and what came of it.
        self._given: Options | None = None
        self._checked: Options = self.rule.checked(options)
        recipe, _, _ = work(self.rule, self._checked, check_rate(options["lr"], 1), 1, None)
        self.state_names = states_of(recipe)
        self.states: dict[str, tuple[NDArray[Any], ...]] = {}
        for state in self.state_names:
            initial = self.rule.initial(state, options)
            self.states[state] = tuple(np.full_like(p, initial, subok=False) for p in self.params)
        if optimizer.average is not None:
            averages = tuple(np.array(p, order="K", subok=False) for p in self.params)
            self.kept = (optimizer.average, averages)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was checked last: it may have had a schedule that can't be pickled."""
        return {**self.__dict__, "_checked": {}, "_given": None}

    def arrays(self) -> "_instep._Own":
        """Return the arrays that steps write, as the compiled stepper takes them."""
        return self.params, tuple(self.states.values()), self.kept and self.kept[1]

    def next_work(self, lr: LearningRate | None, t: int) -> "_instep._Work":
        """Return what step `t` does; the options are checked if they have changed."""
        options = self.options
        if not _are_same(options, self._given):
            if len(options) != len(self.known):
                check_keys(called("param_groups", self.tree.path or (0,)), options, self.known)
            self._checked = self.rule.checked(options)
            self._given = dict(options) if all(map(_is_fixed, options.items())) else None
        rate = check_rate(options["lr"] if lr is None else lr, t)
        return self.work(self._checked, rate, t)

    def check(self, options: Options, t: int) -> None:
        """Check that step `t` could be done with these options."""
        self.work(self.rule.checked(options), check_rate(options["lr"], t), t)

    def work(self, options: Options, lr: float, t: int) -> "_instep._Work":
        """Return what a step with checked options does, with the states that there are."""
        done = work(self.rule, options, lr, t, self.kept and self.kept[0])
        recipe = done[0]
        if states_of(recipe) != self.state_names:
            raise ValueError(
                f"the options of a group were changed to those of {recipe.name}, which keeps other "
                f"states: {recipe.states} instead of {self.state_names}; make a new optimizer"
            )
        return done

    def averages(self) -> tuple[NDArray[Any], ...]:
        if self.kept is None:
            raise ValueError("no averages are kept; make the optimizer with average=0.999, say")
        return self.kept[1]

    def describe(self, role: int, index: int) -> str:
        if role < 2:
            return called(("params", "grads")[role], self.tree.paths[index])
        states = list(self.states)
        if role - 2 < len(states):
            return f'state["{self.names[index]}"]["{states[role - 2]}"]'
        return f'averages["{self.names[index]}"]'


def work(
    rule: type[Optimizer], options: Options, lr: float, t: int, average: float | None
) -> "_instep._Work":
    """Return recipe, numbers, and sign, weight decay, shrinking and averaging around it."""
    decay, shrink = options["weight_decay"], 1.0
    if rule.decouples(options):
        decay, shrink = 0.0, 1.0 - lr * decay
    sign = -1.0 if options["maximize"] else 1.0
    recipe = compiled(rule.recipe(options, t))
    return recipe, rule.hypers(options, lr, t), (sign, decay, shrink, average)


def _are_same(options: Options, given: Options | None) -> bool:
    """Return whether options are those that were checked."""
    try:
        return options == given
    except ValueError:  # of arrays that are not the same
        return False


def _is_fixed(item: tuple[str, Any]) -> bool:
    """Return whether an option can only change by being replaced; parameters do not count."""
    name, value = item
    fixed = (float, int, str, tuple, type(None))
    return name == "params" or isinstance(value, fixed) or callable(value)


def check_rate(lr: LearningRate, t: int) -> float:
    """Return the learning rate of step `t`."""
    return check_number("lr", lr(t - 1) if callable(lr) else lr)


@lru_cache
def compiled(recipe: str) -> _instep.Recipe:
    """Return the compiled recipe of a name."""
    return _instep.Recipe(recipe)


@lru_cache
def states_of(recipe: _instep.Recipe) -> tuple[str, ...]:
    """Return the names of a recipe's states, without a new tuple each time."""
    return recipe.states


def _checkpoint() -> ModuleType:
    """Import what saves and loads when it is first used: most programs never do."""
    return importlib.import_module("instep.checkpoint")


def _is_list_of_groups(params: Any) -> bool:
    return (
        isinstance(params, (list, tuple))
        and len(params) > 0
        and all(isinstance(group, dict) and "params" in group for group in params)
    )
