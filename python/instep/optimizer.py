"""What all optimizers have in common, as users call it.

`instep.rule` has what each rule defines, and `instep.groups` has parameters and groups.
"""

import importlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from numpy.typing import NDArray

from instep import _instep
from instep._instep import BegunStep, StepResult
from instep.arguments import Common, Nonfinite
from instep.checks import check_flag, check_integer, check_number, kind_of, no_option
from instep.forest import Forest
from instep.groups import (
    Group,
    MakeState,
    Mask,
    Parameter,
    match,
    new_group,
    new_parameters,
    set_decay,
    set_frozen,
    with_own_options,
)
from instep.hooks import Hooks, register
from instep.mapped import maps_of, sequential
from instep.rule import TOO_MANY_STEPS, Options, Rule
from instep.storage import Bits, Master, StateDtype, Storage
from instep.tree import Tree

if TYPE_CHECKING:
    import mmap

__all__ = ["BegunStep", "Optimizer", "StepResult"]


class Optimizer(Rule):
    """The base of all optimizers.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        An array, or lists, tuples and dicts of arrays, nested as you like. Each is a plain ndarray
        of float32 or float64, of any shape and memory layout. **Steps write them in place.** A list
        of dicts with the key ``"params"`` is a list of groups. Each has its own parameters, and may
        have its own options and a ``"name"``.
    options : dict
        The options of groups that do not have their own.
    zero_grads : bool, default False
        Whether a step sets the gradients to zero after use. A skipped step does so too.
    average : float, optional
        The decay of a moving average of the parameters: see `averages`. By default there is none.
        For bfloat16 parameters it is kept in float32, and takes the numbers before they are
        rounded. float16 parameters can't have one.
    groups : dict of dict, optional
        Options by pattern of names: ``{"*.b": {"weight_decay": 0.0}}``. Each parameter belongs to
        the first pattern that matches its name, as `fnmatch` does. If none matches, it belongs to
        the last group, which has the optimizer's own options. Gradients and the names of states
        keep their structure.
    weight_decay_mask : callable or tree of bool, optional
        Which parameters get weight decay: a callable of name and array, such as
        ``lambda name, array: array.ndim > 1``, or a tree of booleans like `params`.
    freeze : callable or tree of bool, optional
        Which parameters steps don't change; their state and average stay too, and their gradients
        are neither checked nor cleared by `zero_grads`. Can be assigned later; it is not saved.
    state : callable, optional
        Makes the state arrays, for example in files. It is called with the name of a parameter and
        of its state (``"average"`` for the moving average), and with the shape and dtype wanted.
        The array that it returns **is written**: first with the initial state. Copies don't keep
        the callable.
    master : {"split", "float32"}, optional
        What is kept in addition to parameters of 16 bits, so that small steps are not lost.
        ``"split"``, for bfloat16, keeps the lower 16 bits of the float32 number, in the state
        ``p_low``. ``"float32"``, for float16, keeps float32 numbers, in the state ``p_master``. By
        default bfloat16 parameters are rounded stochastically.
    state_dtype : {"float32", "bfloat16", "8bit"}, default "float32"
        The dtype in which states are stored. Those in bfloat16 and in 8 bits are rounded
        stochastically; float64 parameters are refused with both. 8 bits are for Adam, AdamW, NAdam,
        RAdam, Adamax, RMSprop, SGD and Lion: the state ``m`` is uint8, in C order, and each 256 of
        its elements have an exponent in common, in the state ``m_scale``.
    seed : int, default 0
        The seed of stochastic rounding. The random numbers depend on it, on the number of the step,
        the name of the parameter, and the index of the element.
    bits : "bfloat16", optional
        What arrays of uint16 hold.

    Attributes
    ----------
    param_groups : tuple of dict
        The groups, each a dict of ``"params"`` and options. Options may be assigned at any time:
        ``opt.param_groups[0]["lr"] = 0.01``.
    t : int
        The number of steps done; one count for all parameters.
    skips : int
        The number of steps that were skipped since the last step that was not skipped.

    Raises
    ------
    TypeError
        A parameter that is not a plain ndarray of native float32 or float64, or of 16 bits with the
        options that these need; an option that is not a number; an array of the wrong dtype from
        `state`.
    ValueError
        An option out of its range, or an unknown one; two parameters with the same name; one array
        under two names; an array of the wrong shape from `state`, or a read-only one; a `state` for
        parameters or states that are stored in 16 or 8 bits.
    ImportError
        States in bfloat16, without the package ml_dtypes.

    Notes
    -----
    Parameters of 16 bits are bfloat16 arrays of the package ml_dtypes, float16 with a `master`, or
    uint16 with `bits`. Their gradients have their own dtype or float32. Steps are computed in
    float32, and rounded when they are stored; `instep.codecs` has the arithmetic, to the bit.
    A run that is saved and continued is bit-for-bit identical to one that never stopped. `state`
    shows what is stored, and `decoded` the numbers.

    `copy.deepcopy` and `pickle` copy an optimizer with all its arrays, also the parameters: the
    copy steps its own. If a model is copied in the same call, the copies of model and optimizer
    share their parameters too. A deep copy shows one moment between two steps, whatever other
    threads do. A pickle may not. Hooks are not copied. Nor does a pickle have the callables of
    `weight_decay_mask` and `freeze`, only what they said of each parameter: groups that are added
    to what is unpickled have weight decay and are not frozen. To copy only the state, use
    `state_dict` or `save`.

    Threads, forks and signal handlers see an optimizer only between its steps: a step waits for
    the step of another thread, and so does `os.fork`.
    """

    def __init__(
        self,
        params: Any,
        options: dict[str, Any],
        *,
        zero_grads: bool = False,
        average: float | None = None,
        groups: Mapping[str, Options] | None = None,
        weight_decay_mask: Mask | None = None,
        freeze: Mask | None = None,
        state: MakeState | None = None,
        master: Master | None = None,
        state_dtype: StateDtype = "float32",
        seed: int = 0,
        bits: Bits | None = None,
        **unknown: NoReturn,
    ) -> None:
        for option in unknown:
            known = (*options, *Common.__annotations__)
            raise no_option(f"{type(self).__name__}()", option, known)
        if state is not None and not callable(state):
            raise TypeError(f"state is {kind_of(state)}; wanted a callable that makes arrays")
        self._make_state = state
        if average is not None:
            average = check_number("average", average, below=1.0)
        self._average = average
        self._storage = Storage(master, state_dtype, seed, bits)
        self._defaults = options
        self._mask = weight_decay_mask if callable(weight_decay_mask) else None
        self._freeze: Callable[[str, NDArray[Any]], bool] | None = None
        self._parameters: list[Parameter] = []
        self._by_name: dict[str, Parameter] = {}
        self._by_array: dict[int, Parameter] = {}
        self._groups: list[Group] = []
        self._forest = Forest(params)
        self._hooks = Hooks()
        self._stepper = _instep.Stepper(self._forest.is_list, 0)
        self._stepper.seed = seed
        # Of parameters and states, where those are large and in files.
        self._maps: list[mmap.mmap] = []
        self.zero_grads = zero_grads
        if not self._forest.is_list:
            self._add_only_tree(params, groups, weight_decay_mask)
        elif groups is not None:
            raise ValueError("groups was given, and params is a list of groups; wanted one of both")
        else:
            for group in params:
                self.add_param_group(group)
            if weight_decay_mask is not None and not callable(weight_decay_mask):
                raise TypeError(
                    "weight_decay_mask is a tree, and params a list of groups; wanted a callable "
                    "of name and array, or weight_decay=0 in the groups"
                )
        self._storage.check_use([parameter.stored for parameter in self._parameters])
        if freeze is not None:
            self.freeze = freeze

    def step(
        self,
        grads: Any,
        *,
        lr: float | None = None,
        grad_scale: float = 1.0,
        max_norm: float | None = None,
        max_array_norm: float | None = None,
        max_value: float | None = None,
        nonfinite: Nonfinite = "propagate",
        max_skips: int | None = None,
    ) -> StepResult:
        """Do one step, in place.

        Parameters
        ----------
        grads : tree of ndarray
            Gradients in the structure of the parameters; for a list of groups, a list with such a
            tree for each. If a gradient is ``None``, its parameter and state don't change. If it is
            `Rows`, only those rows do. Only read, unless the optimizer was made with
            ``zero_grads=True``.
        lr : float, optional
            The learning rate of this step, instead of the groups' own.
        grad_scale : float, default 1.0
            The gradients are multiplied by it: use one over the number of accumulated batches, or
            one over a loss scale.
        max_norm : float, optional
            The largest norm that all gradients together may have. If it is larger, they are
            multiplied by ``max_norm/(norm + 1e-6)``, as torch does. With ``math.inf``, the norm is
            only computed.
        max_array_norm : float, optional
            The largest norm that each single gradient may have, in the same way. Not together with
            `max_norm`.
        max_value : float, optional
            The largest absolute value that an element of a gradient may have, after all of the
            above: ``np.clip(g, -max_value, max_value)``.
        nonfinite : {"propagate", "skip", "raise"}, default "propagate"
            What to do if a gradient has NaN or Inf. ``"propagate"`` steps as NumPy would.
            ``"skip"`` changes nothing, not even the step count; only ``zero_grads`` still sets the
            gradients to zero. ``"raise"`` raises an error.
        max_skips : int, optional
            How many steps in a row may be skipped. One more raises an error.

        Returns
        -------
        StepResult
            ``grad_norm``, the norm of all gradients after `grad_scale` and before clipping, or None
            if `max_norm` was not given; ``skipped``; ``lr``, the learning rate of this step, or a
            tuple for several groups; and ``t``, the number of steps done.

        Raises
        ------
        TypeError, ValueError, KeyError
            A tree with another structure; an array that does not fit its parameter; arrays that
            share memory where one is written; an option out of its range, or one in a dict of
            `param_groups` that the rule does not have; a list or dict of parameters in which an
            array was replaced.
        FloatingPointError
            A gradient with NaN or Inf, with ``nonfinite="raise"``, or one more than `max_skips`.
        RuntimeError
            A step within `averaged`; a learning rate that is a callable and steps the optimizer.
        MemoryError
            Not enough memory to check `Rows`.

        Notes
        -----
        A call that raises an error has changed nothing, except if a hook after the step raises it:
        then **the step is done**. The step is one pass over the arrays, with a second one over the
        gradients for norms and `nonfinite`. Nothing is allocated. The norm is summed in float64
        over fixed blocks in a fixed order, so it is bit-for-bit the same on every machine. If two
        threads step the same optimizer, the second waits for the first. A norm that overflows
        float64 is infinite. Clipping by it sets finite gradients to zero, as in torch; then only
        momentum and weight decay change the parameters.
        """
        if self._hooks.before:
            grads = self._hooks.call_before(self, grads)
        if self._maps:
            with sequential(self._maps + maps_of(self._leaves(grads))):
                asked = grad_scale, max_norm, max_array_norm, max_value, nonfinite, max_skips
                result = self._stepper.step(self, grads, lr, *asked)
        else:
            result = self._stepper.step(
                self,
                grads,
                lr,
                grad_scale,
                max_norm,
                max_array_norm,
                max_value,
                nonfinite,
                max_skips,
            )
        if self._hooks.after:
            self._hooks.call_after(self, result)
        return result

    def check(self, grads: Any) -> tuple[Any, ...]:
        """Check gradients as `step` does, and change nothing.

        Parameters
        ----------
        grads : tree of ndarray
            As for `step`.

        Returns
        -------
        tuple
            The gradients that a step would use, one for each parameter, in their order; None where
            none was given, or the parameter is frozen.

        Raises
        ------
        TypeError, ValueError, KeyError, IndexError, RuntimeError
            What `step` would raise because of them.

        Examples
        --------
        >>> import numpy as np
        >>> import instep
        >>> opt = instep.SGD({"W": np.ones(3), "b": np.ones(1)})
        >>> opt.check({"W": np.ones(3), "b": None})
        (array([1., 1., 1.]), None)
        >>> opt.check({"W": np.ones(4), "b": None})
        Traceback (most recent call last):
            ...
        ValueError: grads["W"] has shape (4,); wanted (3,), the shape of params["W"]
        """
        return tuple(self._stepper.check(self, grads))

    def begin(
        self,
        grads: Any,
        *,
        lr: float | None = None,
        grad_scale: float = 1.0,
        max_norm: float | None = None,
        max_array_norm: float | None = None,
        max_value: float | None = None,
        nonfinite: Nonfinite = "propagate",
        max_skips: int | None = None,
    ) -> BegunStep:
        """Check a step that is then done piece by piece, and change nothing.

        It is for programs that have something to do between the pieces, such as gradients that
        arrive while others are stepped, or state that is read from a disk. All other programs use
        `step`.

        Parameters
        ----------
        grads, lr, grad_scale, max_norm, max_array_norm, max_value, nonfinite, max_skips
            As for `step`. The gradients may be filled later: a piece is read when it is used.
            `Rows` are not accepted. Hooks are not called.

        Returns
        -------
        BegunStep
            The Notes list its methods.

        Raises
        ------
        TypeError, ValueError, KeyError, RuntimeError
            What `step` would raise before it writes anything.

        Notes
        -----
        A piece is up to 32,768 elements of one array. The pieces of the first parameter come first,
        and each parameter begins with a new piece. If an array, its gradient and its states are
        contiguous, its pieces follow each other in memory. Methods take a range of pieces, from
        `first` up to but without `last`:

        ``pieces``
            How many there are of each parameter, as a list; none where it has no gradient.
        ``lr``
            The learning rate of each group.
        ``sums_of_squares(first, last, of_params=False)``
            The sums of the squares of pieces of the gradients, or of the parameters, as a list of
            float. If you add them in the order of the pieces, starting with 0.0, you get the square
            of the norm that `step` computes, to the bit.
        ``first_nonfinite(first, last)``
            The number of the first parameter whose gradient has NaN or Inf in these pieces; None
            if there is none.
        ``clip(norm)``
            Takes the norm of all gradients, before `grad_scale`, and clips by `max_norm`; returns
            it after `grad_scale`.
        ``clip_each(norms)``
            The same for `max_array_norm`, with a norm for each parameter.
        ``needs_norms``, ``set_norms(params, grads)``
            Whether a rule asks for norms of whole arrays, and where to give them: two lists with a
            number for each parameter, before `grad_scale`.
        ``step(first, last)``
            Does the step of these pieces, in place.
        ``commit()``
            Counts the step, and returns its result.
        ``skip(parameter)``
            Leaves it out, because that gradient is not finite: counts it as skipped, or raises, as
            `nonfinite` and `max_skips` say. If it is skipped, `zero_grads` clears all gradients.

        **All or nothing is up to the caller.** A step of a piece can't be undone, and a piece that
        is stepped twice has had two steps. So first do everything that can fail, then step each
        piece once, then commit. Before the first piece is stepped, there is nothing to undo: just
        drop the object. Each call checks all arrays again, and raises a RuntimeError if the
        optimizer was stepped, committed or given parameters since.

        Examples
        --------
        >>> import numpy as np
        >>> import instep
        >>> params = {"W": np.ones(100_000), "b": np.ones(10)}
        >>> opt = instep.SGD(params, lr=0.5)
        >>> begun = opt.begin({"W": np.ones(100_000), "b": np.ones(10)})
        >>> begun.pieces
        [4, 1]
        >>> for piece in range(5):
        ...     begun.step(piece, piece + 1)
        >>> begun.commit().t
        1
        >>> params["W"][-1], params["b"][0]
        (np.float64(0.5), np.float64(0.5))
        """
        return self._stepper.begin(
            self, grads, lr, grad_scale, max_norm, max_array_norm, max_value, nonfinite, max_skips
        )

    def register_step_pre_hook(self, hook: Callable[[Any, Any], Any]) -> Callable[[], None]:
        """Have a callable called before every step.

        Parameters
        ----------
        hook : callable
            Called with the optimizer and the gradients. If it returns something else than None,
            that replaces the gradients. With ``zero_grads=True``, the step then clears what the
            hook returned, and not the arrays that the caller passed. If it raises an error, there
            is no step.

        Returns
        -------
        remove : callable
            Call it to remove the hook.
        """
        return register(self._hooks.before, hook)

    def register_step_post_hook(self, hook: Callable[[Any, StepResult], Any]) -> Callable[[], None]:
        """Have a callable called after every step that does not raise an error.

        Parameters
        ----------
        hook : callable
            Called with the optimizer and what the step returns. If it raises an error, `step`
            raises that, but **the step is done**.

        Returns
        -------
        remove : callable
            Call it to remove the hook.
        """
        return register(self._hooks.after, hook)

    @property
    def param_groups(self) -> tuple[dict[str, Any], ...]:
        """The groups, each a dict of ``"params"`` and options, which may be assigned to."""
        return tuple(group.options for group in self._groups)

    @param_groups.setter
    def param_groups(self, groups: Any) -> None:
        raise AttributeError(
            "param_groups can't be assigned; assign to the options of a group, as in "
            "opt.param_groups[0]['lr'] = 0.01, or add one: opt.add_param_group(...)"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse what would change nothing: options are those of the groups."""
        if name in self.__dict__.get("_defaults", ()):
            raise AttributeError(
                f"{name} is an option of the groups; assign it there: "
                f"opt.param_groups[0][{name!r}] = {value!r}"
            )
        super().__setattr__(name, value)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add a group of parameters; their state starts now.

        Parameters
        ----------
        group : dict
            ``{"params": ..., "lr": ...}``. Options that are not in it are the optimizer's own. If
            ``weight_decay_mask`` or ``freeze`` is a callable, it is called for its parameters too;
            if `freeze` is a tree, they are not frozen.

        Raises
        ------
        TypeError
            A parameter that is not a plain ndarray of native float32 or float64.
        ValueError
            An option that the rule does not have, or that is out of its range; an optimizer that
            was not made with a list of groups; an array or a name that it already has.
        """
        if not self._forest.is_list:
            raise ValueError("params was not a list of groups, so no group can be added")
        if not isinstance(group, dict) or "params" not in group:
            raise ValueError(f"group is {group!r}; wanted a dict with the key 'params'")
        label = f"param_groups[{len(self._groups)}]"
        options = with_own_options(label, self._defaults, group)
        tree, parameters = self._new_parameters(options["params"], (len(self._groups),))
        if self._mask is not None:
            set_decay(self._mask, tree, parameters)
        set_frozen(self._freeze, tree.leaves, parameters)
        self._add(tree, options["params"], [(label, options, parameters)])
        self._stepper.set_frozen([parameter.is_frozen for parameter in self._parameters])

    def _add_only_tree(
        self, params: Any, patterns: Mapping[str, Options] | None, mask: Mask | None
    ) -> None:
        """Add the parameters of an optimizer that is not given a list of groups."""
        tree, parameters = self._new_parameters(params, ())
        groups = []
        for name, own, members in match({} if patterns is None else patterns, parameters):
            label = f"groups[{name!r}]" if own else ""
            if "params" in own:
                raise ValueError(f"{label} has 'params'; the pattern says which they are")
            options = with_own_options(label, self._defaults, own)
            if patterns:
                named = {parameter.name: parameter.array for parameter in members}
                options |= {"name": own.get("name", name), "params": named}
            else:
                options["params"] = params
            groups.append((label, options, members))
        if mask is not None:
            set_decay(mask, tree, parameters)
        self._add(tree, params, groups)

    def _new_parameters(
        self, params: Any, path: tuple[object, ...]
    ) -> tuple[Tree, list[Parameter]]:
        """Look at the arrays of a tree."""
        tree = Tree(params, path)
        known = self._by_name, self._by_array
        return tree, new_parameters(tree, params, self._storage, self._average, *known)

    def _add(
        self, tree: Tree, params: Any, groups: list[tuple[str, dict[str, Any], list[Parameter]]]
    ) -> None:
        """Add the groups of a tree, all of them or none; each with what errors call it."""
        added = []
        for number, (label, options, members) in enumerate(groups, len(self._groups)):
            group = new_group(label, type(self), options, number, self.t)
            for parameter in members:
                parameter.group = number
                self._start(group, parameter)
            added.append(group)
        # In the order of the tree, whatever groups they are in.
        members = [parameter for *_, members in groups for parameter in members]
        place = {path: number for number, path in enumerate(tree.paths)}
        members.sort(key=lambda parameter: place[parameter.path])
        self._groups += added
        self._forest.trees.append((tree, params, len(added)))
        self._parameters += members
        self._by_name |= {parameter.name: parameter for parameter in members}
        self._by_array |= {id(parameter.array): parameter for parameter in members}
        self._show(tree, params, added, members)

    def _start(self, group: Group, parameter: Parameter) -> None:
        """Make the state of a parameter."""
        if self._make_state is not None and parameter.stored is not None:
            raise ValueError(
                f"state was given, and {parameter.describe(0)} is stored in fewer bytes, or its "
                "states are; wanted one of both"
            )
        group.start(parameter, self._average, self._stepper.seed, self._make_state)

    def _stepped(self, parameter: Parameter) -> list[NDArray[Any]]:
        """Return the arrays that steps of a parameter take, but for its gradient."""
        return parameter.arrays()

    def _show(
        self, tree: Tree, params: Any, groups: list[Group], parameters: list[Parameter]
    ) -> None:
        """Show groups and parameters to the compiled stepper."""
        known = {id(own) for own in self._maps}
        found = maps_of(array for own in parameters for array in own.arrays())
        self._maps += [own for own in found if id(own) not in known]
        for group in groups:
            self._stepper.add_group(group.options)
        self._stepper.add_parameters(
            tree.build(itertools.repeat(None)),
            params,
            [self._stepped(parameter) for parameter in parameters],
            [(parameter.group, parameter.decays) for parameter in parameters],
            [
                None if own.stored is None else own.stored.said(len(self._groups[own.group].states))
                for own in parameters
            ],
        )

    @property
    def zero_grads(self) -> bool:
        """Whether a step sets the gradients to zero after use. It may be set."""
        return self._stepper.zero_grads

    @zero_grads.setter
    def zero_grads(self, zero_grads: bool) -> None:
        self._stepper.zero_grads = check_flag("zero_grads", zero_grads)

    @property
    def freeze(self) -> Any:
        """Which parameters steps don't change: booleans in the structure of the parameters.

        You may assign a callable of name and array, such a tree, or None for no parameter. It is
        not saved: assign it again after `load`.
        """
        return self._build([parameter.is_frozen for parameter in self._parameters])

    @freeze.setter
    def freeze(self, freeze: Mask | None) -> None:
        set_frozen(freeze, self._leaves, self._parameters)
        self._freeze = freeze if callable(freeze) else None
        self._stepper.set_frozen([parameter.is_frozen for parameter in self._parameters])

    @property
    def t(self) -> int:
        """The number of steps done, one count for all parameters. It may be set.

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

    @property
    def skips(self) -> int:
        """The number of steps that were skipped since the last step that was not skipped."""
        return self._stepper.skips

    def _prepare(self, group: int, lr: float | None, t: int) -> "_instep._Said":
        """Say what step `t` of a group does; asked when options have changed."""
        return self._groups[group].prepare(lr, t, self._average)

    def _describe(self, parameter: int, role: int) -> str:
        return self._parameters[parameter].describe(role)

    def _leaves(self, tree: Any, argument: str = "grads") -> tuple[Any, ...]:
        return self._forest.leaves(tree, argument)

    def _build(self, leaves: Iterable[Any]) -> Any:
        return self._forest.build(leaves)

    def _refuse_detached(self) -> None:
        self._forest.refuse_detached(self._parameters)

    @property
    def state(self) -> dict[str, dict[str, NDArray[Any]]]:
        """The state arrays themselves, by the parameter's name and their own."""
        return {parameter.name: dict(parameter.states) for parameter in self._parameters}

    def decoded(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the numbers of a parameter and its states, in whatever dtype they are stored.

        Parameters
        ----------
        name : str
            The name of the parameter, as in `state`.

        Returns
        -------
        dict of ndarray
            ``"p"``, the parameter, with ``master`` in full precision; and the states by name. New
            arrays of float32, or of float64 if the parameter is float64.

        Raises
        ------
        KeyError
            No parameter of that name.
        RuntimeError
            A parameter of 16 bits within `averaged`.

        Examples
        --------
        >>> import numpy as np
        >>> import instep
        >>> W = np.zeros(2, np.uint16)
        >>> opt = instep.Adam({"W": W}, lr=2**-20, master="split", bits="bfloat16")
        >>> result = opt.step({"W": np.ones(2, np.float32)})
        >>> opt.decoded("W")["p"]
        array([-9.536743e-07, -9.536743e-07], dtype=float32)
        """
        if name not in self._by_name:
            known = ", ".join(map(repr, self._by_name))
            raise KeyError(f"name is {name!r}; wanted one of {known}")
        parameter = self._by_name[name]
        if parameter.array.dtype.itemsize == 2 and self._stepper.averages_are_in:
            raise RuntimeError("decoded was called within averaged()")
        return parameter.decoded(self._groups[parameter.group].states)

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
        self._require_averages()
        return self._build(parameter.average for parameter in self._parameters)

    def _require_averages(self) -> None:
        if self._average is None:
            raise ValueError(
                "no averages are kept; make the optimizer with average=0.999 or another decay"
            )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averages into the arrays of the parameters, and the parameters back at the end.

        Within the ``with`` block the parameters' own arrays hold the averages, so that you can
        evaluate a model that uses them. A step there raises an error. Parameters of bfloat16 hold
        the nearest ones, and `averages` holds the parameters in the upper halves of float32
        numbers. At the end every bit is as before, except for the payload of NaN.

        Raises
        ------
        ValueError
            An optimizer that was made without ``average``; a parameter that is read-only or was
            given another shape. If that happens at the end, the parameters are not lost:
            `leave_averaged` puts them back.
        RuntimeError
            A call within another one.
        """
        self._require_averages()
        use = next(_uses)
        try:
            self._stepper.swap_averages(self, use, True)
            yield
        finally:
            # Does nothing where this use was not the one that put the averages in.
            self._leave(use)

    def leave_averaged(self) -> None:
        """Put the parameters back if the end of `averaged` could not.

        Raises
        ------
        ValueError
            A parameter that is read-only or was given another shape.
        """
        self._leave(None)

    def _leave(self, use: int | None) -> None:
        try:
            self._stepper.swap_averages(self, use, False)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"{error}. The parameters still hold their averages, and averages holds the "
                "parameters: correct this, then call leave_averaged()"
            ) from None

    def __repr__(self) -> str:
        """Show the rule, the options of each group, and the number of steps done."""
        parts = []
        for number, group in enumerate(self._groups):
            members = [p for p in self._parameters if p.group == number]
            size = sum(parameter.array.size for parameter in members)
            options = ", ".join(f"{name}={own!r}" for name, own in group.own_options().items())
            label = f"{group.options['name']!r}: " if "name" in group.options else ""
            parts.append(f"{label}{len(members)} arrays, {size:,} elements: {options}")
        inner = parts[0] if len(parts) == 1 else "".join(f"\n    {part}" for part in parts) + "\n"
        return f"{type(self).__name__}(t={self.t}, {inner})"

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that the next steps depend on, without the parameters.

        Returns
        -------
        dict
            Of plain numbers, strings, lists and dicts, and new arrays:

            ``"format"``
                The version of this layout, 2.
            ``"rule"``
                The name of the class.
            ``"t"``
                The number of steps done.
            ``"skips"``
                The number of steps that were skipped since the last step that was not skipped,
                which ``max_skips`` limits.
            ``"storage"``
                How arrays are stored: ``"master"``, ``"state_dtype"`` and ``"bits"``, and the
                ``"seed"`` of stochastic rounding.
            ``"average"``
                The decay of the moving averages; None if there are none.
            ``"groups"``
                A list with a dict for each group: its ``"options"``, the name of its ``"recipe"``,
                the ``"names"`` of its parameters, and ``"carried"``, the numbers that the rule
                carries from step to step, such as the product of momenta of `NAdam`.
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
        **The parameters are not in it:** keep them too, or `save` all in one file. A callable
        ``lr`` is None in it, see `load_state_dict`. ``zero_grads``, ``weight_decay_mask``,
        ``freeze`` and hooks are not in it either: your program sets them.

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
        copied: dict[str, Any] = _later("state").state_dict(self)
        return copied

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from where another optimizer was.

        The arrays of `state` and `averages` **are written in place**, to the bit. Options and `t`
        are set. Everything is checked first: a call that raises an error has changed nothing.

        Parameters
        ----------
        state_dict : dict
            What `state_dict` returned, for an optimizer of the same rule, with the same names of
            parameters, in any order and groups, and states of the same shapes and dtypes. Only
            read. Its arrays may be those of this optimizer, or views of them.

        Raises
        ------
        TypeError
            Something of another type than `state_dict` returns; an array of another dtype.
        ValueError
            A dict of another rule or a newer format; names or keys that are missing or unknown (the
            message lists all of them); an array of another shape; averages for an optimizer that
            keeps none, or no averages for one that does; options of a recipe with other states, or
            out of their range; a callable ``lr`` that is missing; a state array that was made
            read-only.
        RuntimeError
            A call within `averaged`.

        Notes
        -----
        **The parameters are not in it:** restore them as well. The options in the dict replace
        those that the optimizer was made with, except that **a callable** ``lr`` **stays**:
        callables are not stored. So make the optimizer with its schedule. It is called with the
        number of steps done, and continues where it was. If the dict was made with a callable, and
        this optimizer has a number, that is an error, because the rate would not be the same.

        Groups are recognized by the names in them. **If the dict has no such group, a group keeps
        its own options**, and takes the state and `t`. So a state of one group loads into an
        optimizer with ``groups={"*.b": {"weight_decay": 0.0}}``, and back. Numbers that a rule
        carries are then those of the group that had its first parameter.

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
        _later("state").load_state_dict(self, state_dict)

    def save(
        self, path: str | os.PathLike[str], *, params: bool = False, extra: Any = None
    ) -> None:
        """Save the state to a file, and with ``params=True`` the parameters in the same file.

        Parameters
        ----------
        path : str or path
            The file to write. If there is one, it is replaced as a whole, or left as it was.
        params : bool, default False
            Whether to save the parameters too. **By default they are not in the file.**
        extra : object, optional
            What else the program needs to continue, in the types of JSON: None, bools, ints, finite
            floats, strings, and lists and dicts of them, up to 16 MiB. Tuples become lists. `load`
            returns it.

        Raises
        ------
        OSError
            The file could not be written, and the old one is intact; or `path` leads to something
            else than a regular file or a new one: a folder, a FIFO, a device, a circle of links.
        TypeError, ValueError
            A `path` that is neither a str nor a path; an `extra` that JSON can't express: the
            message names the key. With ``params=True``, a list or dict of parameters in which an
            array was replaced.
        RuntimeError
            A call within `averaged`.
        ImportError
            The package safetensors is missing: ``pip install 'instep[checkpoint]'``.

        Notes
        -----
        **Save everything in one file.** A program that saves its model to one file and the state to
        another can be killed in between, and then continues with parameters of another step. With
        ``params=True`` there is one file, of one moment between two steps. A run that is killed at
        any time and continues from it is bit-for-bit identical to one that never stopped, as long
        as everything else that the run depends on is in `extra`. The example does this for the
        random numbers of its batches. ``zero_grads``, ``weight_decay_mask``, ``freeze`` and hooks
        are not in the file: your program sets them again.

        The file is in the safetensors format; the parameters in it are named ``params/...``. It is
        written under another name in the same folder, flushed to disk, and renamed; then the folder
        is flushed. Only that last flush can fail with the new file in place. If a process is killed
        while it saves, the file with the other name, which begins with ``.instep-``, is left over.
        The next save to `path` removes it. Other threads that step the optimizer wait.

        Examples
        --------
        A run that can be killed at any time, and started again:

        >>> import pathlib
        >>> import tempfile
        >>> import numpy as np
        >>> import instep
        >>> def train(path, epochs):
        ...     params = {"W": np.zeros(3)}
        ...     opt = instep.Adam(params, lr=0.1)
        ...     random = np.random.default_rng(0)
        ...     first = 0
        ...     if path.exists():
        ...         extra = opt.load(path)
        ...         random.bit_generator.state = extra["random"]
        ...         first = extra["epoch"] + 1
        ...     for epoch in range(first, epochs):
        ...         result = opt.step({"W": params["W"] - random.standard_normal(3)})
        ...         extra = {"epoch": epoch, "random": random.bit_generator.state}
        ...         opt.save(path, params=True, extra=extra)
        ...     return params["W"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "run.safetensors")
        ...     stopped = train(path, epochs=3)
        ...     resumed = train(path, epochs=5)
        ...     straight = train(pathlib.Path(folder, "other.safetensors"), epochs=5)
        >>> resumed.tobytes() == straight.tobytes()
        True
        """
        _later("checkpoint").save(self, path, params=params, extra=extra)

    def load(self, path: str | os.PathLike[str], *, params: bool = True) -> Any:
        """Continue from the state that was saved to a file.

        As with `load_state_dict`, state arrays **are written in place**, after everything is
        checked. **So are the parameters, if they are in the file:** their old values are lost.

        Parameters
        ----------
        path : str or path
            A file that `save` wrote.
        params : bool, default True
            Whether to load the parameters, if the file has them. If it does not, they don't change.

        Returns
        -------
        object
            The `extra` that was saved; None if there was none.

        Raises
        ------
        OSError
            The file does not exist, can't be read, or is not a regular file.
        TypeError
            A `path` that is neither a str nor a path.
        ValueError
            The file is truncated, corrupt, not from `save`, or of a newer format; its content does
            not fit the optimizer, see `load_state_dict`; its parameters have other names, dtypes or
            shapes. A parameter that is read-only; a list or dict of parameters in which an array
            was replaced.
        RuntimeError
            A call within `averaged`.
        ImportError
            The package safetensors is missing, see `save`.

        Notes
        -----
        A call that raises an error has changed nothing. Nothing in the file is executed. A checksum
        over all of it is compared. `freeze` stays as it is here: what the optimizer that was saved
        had is not in the file, so assign it again.

        Examples
        --------
        See `save`.
        """
        return _later("checkpoint").load(self, path, params=params)

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        """Return all arrays that steps write."""
        return tuple(array for parameter in self._parameters for array in parameter.arrays())

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is native and what is not copied, for `copy.deepcopy` and `pickle`."""
        if self._stepper.averages_are_in:
            raise RuntimeError("the optimizer was copied within averaged()")
        own = {key: value for key, value in self.__dict__.items() if key not in _NOT_COPIED}
        stepper = self._stepper
        numbers = {"t": self.t, "skips": self.skips, "seed": stepper.seed}
        return {**own, **numbers, "zero_grads": self.zero_grads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what `__getstate__` gave."""
        t, zero_grads = state.pop("t"), state.pop("zero_grads")
        skips, seed = state.pop("skips"), state.pop("seed")
        self.__dict__.update(state)
        self._by_array = {id(parameter.array): parameter for parameter in self._parameters}
        self._hooks = Hooks()
        self._make_state = self._mask = self._freeze = None
        self._maps = []
        self._stepper = _instep.Stepper(self._forest.is_list, t)
        self._stepper.skips = skips
        self._stepper.seed = seed
        self.zero_grads = zero_grads
        members, groups = iter(self._parameters), iter(self._groups)
        for tree, params, count in self._forest.trees:
            of_tree = list(itertools.islice(members, len(tree.paths)))
            self._show(tree, params, list(itertools.islice(groups, count)), of_tree)
        self._stepper.set_frozen([parameter.is_frozen for parameter in self._parameters])

    def __deepcopy__(self, memo: dict[int, Any]) -> "Optimizer":
        """Copy it with all arrays, as they are at one moment between two steps."""
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__setstate__(deepcopy(self.__getstate__(), memo))
        copied._mask, copied._freeze = self._mask, self._freeze
        # Other threads may have done steps meanwhile: copy once more what they write.
        carried, own = (
            [each for group in groups for each in (group.carried, group.carried_at)]
            for groups in (self._groups, copied._groups)
        )
        t, skips, dicts = self._stepper.copy(
            copied._arrays(), self._arrays(), carried, _name_copied
        )
        copied.t = t
        copied._stepper.skips = skips
        for numbers, new in zip(own, dicts, strict=True):
            numbers.update(new)
        return copied

    def __copy__(self) -> "Optimizer":
        """Refuse it: two optimizers that share state would break each other's steps."""
        raise TypeError("an optimizer can't be copied without its arrays; use copy.deepcopy")


_NOT_COPIED = ("_stepper", "_hooks", "_by_array", "_make_state", "_maps", "_mask", "_freeze")

_uses = itertools.count()


def _name_copied(role: int, index: int) -> str:
    return f"array {index} of the {('copy', 'optimizer')[role]}"


def _later(name: str) -> ModuleType:
    """Import what copies, saves and loads when it is first used: most programs never do."""
    return importlib.import_module(f"instep.{name}")
