"""`instep.torch` against torch itself: `make torch-host`.

The cases are those of torch's own database of optimizers, and each case is run on dense tensors, on
strided ones and with gradients that are views. A step that torch's code did, where instep should
have, fails.
"""

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import instep.torch
import pytest
import torch
from instep.torch import step_counts
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.testing._internal import common_optimizers
from torch.testing._internal.common_optimizers import optim_db

STEPS = 12
# Of the largest element: torch contracts to FMA and interpolates, instep rounds each operation.
CLOSE = {torch.float32: 3e-5, torch.float64: 3e-13}
NAMES = [name for name in instep.torch.__all__ if hasattr(torch.optim, name)]
DENSE = [name for name in NAMES if name != "SparseAdam"]
KNOWN = {info.optim_cls.__name__: info for info in optim_db}

Case = tuple[str, dict[str, Any]]


def cases() -> list[Any]:
    found = []
    for name in DENSE:
        flags = [{}, {"foreach": True}]
        if "fused" in KNOWN[name].supported_impls and "cpu" in KNOWN[name].supports_fused_on:
            flags.append({"fused": True})
        for given in KNOWN[name].optim_inputs_func("cpu"):
            for flag in flags:
                if not given.kwargs.get("capturable"):
                    kwargs = {**given.kwargs, **flag}
                    words = [name, given.desc, *flag]
                    found.append(pytest.param((name, kwargs), id=", ".join(words)))
    return found


CASES = cases()


def dense(dtype: torch.dtype) -> list[Any]:
    return [torch.randn(shape, dtype=dtype) for shape in ((7, 5), (3,), (2, 3, 4), (), (0, 2))]


def strided(dtype: torch.dtype) -> list[Any]:
    return [
        torch.randn(7, 5, dtype=dtype).t(),
        torch.randn(4, 9, dtype=dtype)[:, ::3],
        torch.randn(2, 3, 4, 5, dtype=dtype).to(memory_format=torch.channels_last),
        torch.randn(6, 6, dtype=dtype)[1:4, 2:5],
        torch.randn(5, dtype=dtype).flip(0).as_strided((5,), (1,)),
    ]


def parameters(kind: Callable[[torch.dtype], list[Any]], dtype: torch.dtype) -> list[Any]:
    """Return leaves with these layouts, and their gradients' makers."""
    torch.manual_seed(7)
    return [value.requires_grad_() for value in kind(dtype)]


def gradient(p: Any, t: int, which: str) -> Any:
    g = torch.randn(p.shape, dtype=p.dtype)
    if which == "dense":
        return g
    if which == "expanded":
        return torch.randn((), dtype=p.dtype).expand(p.shape)
    # A layout other than the parameter's.
    return g.t().contiguous().t() if g.ndim == 2 else torch.stack([g, g], -1)[..., t % 2]


def trained(kind: Any, params: list[Any], kwargs: dict[str, Any], grads: str) -> Any:
    optimizer = kind(params, **copy.deepcopy(kwargs))
    torch.manual_seed(11)
    for t in range(STEPS):
        for place, p in enumerate(params):
            # Some have none in some steps, so that their counts differ.
            p.grad = None if t and (t + place) % 5 == 0 else gradient(p, t, grads)
        optimizer.step()
    return optimizer


def assert_close(actual: Any, expected: Any, what: str) -> None:
    assert actual.shape == expected.shape, what
    assert actual.dtype == expected.dtype, what
    scale = expected.abs().max().item() if expected.numel() else 0.0
    error = (actual - expected).abs().max().item() if expected.numel() else 0.0
    assert error <= CLOSE.get(expected.dtype, 0.02) * max(scale, 1e-3), (what, error, scale)


def assert_alike(ours: Any, theirs: Any) -> None:
    """Compare parameters and state dicts: keys, shapes, dtypes and numbers."""
    for group, other in zip(ours.param_groups, theirs.param_groups, strict=True):
        for place, (p, q) in enumerate(zip(group["params"], other["params"], strict=True)):
            assert_close(p.detach(), q.detach(), f"parameter {place}")
    actual, expected = ours.state_dict(), theirs.state_dict()
    assert actual["param_groups"] == expected["param_groups"]
    assert actual["state"].keys() == expected["state"].keys()
    for place, state in expected["state"].items():
        assert actual["state"][place].keys() == state.keys(), place
        for key, value in state.items():
            own = actual["state"][place][key]
            if isinstance(value, torch.Tensor):
                assert_close(own, value, f"{key} of {place}")
            else:
                assert own == value, (place, key)


@pytest.fixture(autouse=True)
def quiet_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("case", CASES)
def test_dense_tensors(case: Case, dtype: torch.dtype) -> None:
    name, kwargs = case
    before = step_counts()
    ours = trained(getattr(instep.torch, name), parameters(dense, dtype), kwargs, "dense")
    after = step_counts()
    is_dampened = name == "SGD" and kwargs.get("dampening")
    assert after.native - before.native >= STEPS - (4 if is_dampened else 0)
    theirs = trained(getattr(torch.optim, name), parameters(dense, dtype), kwargs, "dense")
    assert_alike(ours, theirs)


@pytest.mark.parametrize("grads", ["dense", "expanded", "strided"])
@pytest.mark.parametrize("case", [case for case in CASES if "fused" not in case.id])
def test_strided_tensors(case: Case, grads: str) -> None:
    name, kwargs = case
    before = step_counts()
    params = parameters(strided, torch.float64)
    around = [p._base if p._base is not None else p for p in params]
    saved = [base.detach().clone() for base in around]
    ours = trained(getattr(instep.torch, name), params, kwargs, grads)
    if not (name == "SGD" and kwargs.get("dampening")):
        assert step_counts().host == before.host
    theirs = trained(getattr(torch.optim, name), parameters(strided, torch.float64), kwargs, grads)
    assert_alike(ours, theirs)
    # What lies between the elements of a view is as it was.
    hidden = torch.ones_like(saved[1], dtype=torch.bool)
    hidden[:, ::3] = False
    assert torch.equal(around[1].detach()[hidden], saved[1][hidden])


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("forwards", [True, False], ids=["to torch", "from torch"])
def test_states_go_both_ways(name: str, forwards: bool) -> None:
    kinds = [getattr(instep.torch, name), getattr(torch.optim, name)]
    kinds = kinds if forwards else kinds[::-1]
    kwargs = {"lr": 0.01, "weight_decay": 0.1, **({"momentum": 0.9} if name == "SGD" else {})}
    first, reference = (
        trained(kind, parameters(dense, torch.float64), kwargs, "dense") for kind in kinds
    )
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    params = [p.detach().clone().requires_grad_() for p in first.param_groups[0]["params"]]
    second = kinds[1](params, **kwargs)
    second.load_state_dict(torch.load(file, weights_only=True))
    # torch casts states on load, NAdam's product among them.
    reference.load_state_dict(copy.deepcopy(reference.state_dict()))
    for optimizer in (second, reference):
        torch.manual_seed(13)
        for t in range(3):
            for p in optimizer.param_groups[0]["params"]:
                p.grad = gradient(p, t, "dense")
            optimizer.step()
    assert_alike(second, reference)


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))],
    ids=["deepcopy", "pickle"],
)
def test_copies_step_their_own(name: str, copied: Callable[[Any], Any]) -> None:
    optimizer = trained(getattr(instep.torch, name), parameters(dense, torch.float64), {}, "dense")
    other = copied(optimizer)
    assert type(other) is type(optimizer)
    for each in (optimizer, other):
        torch.manual_seed(17)
        for p in each.param_groups[0]["params"]:
            p.grad = gradient(p, 0, "dense")
    before = [p.detach().clone() for p in other.param_groups[0]["params"]]
    optimizer.step()
    for p, q in zip(other.param_groups[0]["params"], before, strict=True):
        assert torch.equal(p.detach(), q)
    counts = step_counts()
    other.step()
    assert step_counts() == (counts.native + 1, counts.host)
    for p, q in zip(
        optimizer.param_groups[0]["params"], other.param_groups[0]["params"], strict=True
    ):
        assert torch.equal(p, q)


def errors() -> list[Any]:
    found = []
    for name in NAMES:
        for given in KNOWN[name].optim_error_inputs_func("cpu", torch.float32):
            found.append(
                pytest.param(name, given, id=f"{name}, {given.optimizer_error_input.desc}")
            )
    return found


@pytest.mark.parametrize(("name", "given"), errors())
def test_errors_are_those_of_torch(name: str, given: Any) -> None:
    wanted = given.optimizer_error_input
    params = wanted.params
    if params is None:
        params = [torch.nn.Parameter(torch.randn(1, 1))]
    kind = getattr(instep.torch, name)
    if issubclass(given.error_type, Warning):
        with pytest.warns(given.error_type, match=given.error_regex):
            kind(params, **wanted.kwargs)
        return
    is_of_step = given.error_on is common_optimizers.OptimizerErrorEnum.STEP_ERROR
    act = kind(params, **wanted.kwargs).step if is_of_step else partial(kind, params)
    with pytest.raises(given.error_type, match=given.error_regex):
        act(**({} if is_of_step else wanted.kwargs))


def one(kind: Any, **kwargs: Any) -> tuple[Any, Any]:
    p = torch.ones(4, requires_grad=True)
    p.grad = torch.full((4,), 0.5)
    return p, kind([p], **{"lr": 0.1, **kwargs})


def test_hooks_run_once_and_closures_first() -> None:
    calls: list[str] = []
    p, optimizer = one(instep.torch.Adam)
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    handle = register_optimizer_step_post_hook(lambda *_: calls.append("everywhere"))

    def closure() -> Any:
        assert torch.is_grad_enabled()
        calls.append("closure")
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4.0
    handle.remove()
    assert calls == ["before", "closure", "after", "everywhere"]
    assert torch.allclose(p.detach(), torch.full((4,), 0.9))


def test_a_profiler_sees_the_step() -> None:
    _, optimizer = one(instep.torch.Adam)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
    assert "Optimizer.step#Adam.step" in {event.name for event in profile.events()}


def test_autograd_sees_that_tensors_were_changed() -> None:
    p, optimizer = one(instep.torch.Adam)
    optimizer.step()
    state = optimizer.state[p]
    versions = {key: value._version for key, value in state.items()}
    loss = (p * p).sum() + (p * state["exp_avg"]).sum()
    before = p._version
    optimizer.step()
    assert p._version > before
    assert all(value._version > versions[key] for key, value in state.items())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_other_memory_under_a_tensor_is_seen() -> None:
    p, optimizer = one(instep.torch.SGD)
    optimizer.step()
    kept = p.data
    p.data = torch.zeros(4)
    optimizer.step()
    assert torch.allclose(p.detach(), torch.full((4,), -0.05))
    assert torch.allclose(kept, torch.full((4,), 0.95))
    p.data = torch.zeros(2, 3, 4)[:, 1]
    p.grad = torch.ones(2, 4)
    optimizer.step()
    assert torch.allclose(p.detach(), torch.full((2, 4), -0.1))


@pytest.mark.parametrize("scale", [1024.0, 3.0])
@pytest.mark.parametrize("fused", [False, True])
def test_gradient_scaler(fused: bool, scale: float) -> None:
    results = []
    for kind in (instep.torch.SGD, torch.optim.SGD):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 2)
        optimizer = kind(model.parameters(), lr=0.1, momentum=0.9, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)
        scales = []
        for t in range(6):
            optimizer.zero_grad()
            loss = model(torch.randn(3, 4)).square().mean()
            if t == 3:
                loss = loss * float("inf")
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            scales.append(scaler.get_scale())
        results.append((scales, [p.detach().clone() for p in model.parameters()]))
    (ours, params), (theirs, others) = results
    assert ours == theirs
    for p, q in zip(params, others, strict=True):
        assert_close(p, q, "parameter")


def test_learning_rates_as_tensors_and_schedulers() -> None:
    paths = []
    for kind in (instep.torch.Adam, torch.optim.Adam):
        p, optimizer = one(kind, lr=torch.tensor(0.1))
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.3, total_steps=10)
        path = []
        for _ in range(9):
            p.grad = p.detach() * 2
            optimizer.step()
            scheduler.step()
            path.append(p.detach().clone())
        paths.append(path)
    for p, q in zip(*paths, strict=True):
        assert_close(p, q, "parameter")


def test_groups_that_come_later() -> None:
    p, optimizer = one(instep.torch.RMSprop)
    optimizer.step()
    q = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer.add_param_group({"params": [q], "lr": 0.5, "momentum": 0.9})
    q.grad = torch.ones(3, dtype=torch.float64)
    counts = step_counts()
    optimizer.step()
    assert step_counts() == (counts.native + 1, counts.host)
    assert [optimizer.state[each]["step"].item() for each in (p, q)] == [2.0, 1.0]
    assert torch.allclose(q.detach(), torch.full((3,), -4.0, dtype=torch.float64))


class Wrapped(torch.Tensor):
    """A subclass that counts its operations."""

    calls = 0

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.calls += 1
        return super().__torch_function__(func, types, args, kwargs or {})


STRANGE: dict[str, Callable[[], Any]] = {
    "complex": lambda: torch.ones(3, dtype=torch.complex64),
    "bfloat16": lambda: torch.ones(3, dtype=torch.bfloat16),
    "float16": lambda: torch.ones(3, dtype=torch.float16),
    "subclass": lambda: torch.ones(3).as_subclass(Wrapped),
    "meta": lambda: torch.ones(3, device="meta"),
}


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("strange", STRANGE)
def test_what_instep_does_not_take_is_torchs(name: str, strange: str) -> None:
    paths = []
    for kind in (getattr(instep.torch, name), getattr(torch.optim, name)):
        p = torch.ones(5, requires_grad=True)
        q = STRANGE[strange]().detach().requires_grad_()
        optimizer = kind([p, q], lr=0.1)
        counts = step_counts()
        for _ in range(3):
            p.grad, q.grad = torch.ones(5), torch.ones_like(q.detach())
            optimizer.step()
        if kind.__module__ == "instep.torch":
            assert step_counts() == (counts.native, counts.host + 3)
            assert len(optimizer.param_groups) == 1
            assert len(optimizer.param_groups[0]["params"]) == 2
        paths.append((p.detach(), q.detach(), optimizer))
    (p, q, ours), (other_p, other_q, theirs) = paths
    assert_close(p, other_p, "the dense one")
    if strange != "meta":
        assert torch.equal(q, other_q)
    assert ours.state_dict()["state"].keys() == theirs.state_dict()["state"].keys()


@pytest.mark.parametrize("name", ["Adam", "SGD", "RMSprop"])
def test_differentiable_and_capturable_steps_are_torchs(name: str) -> None:
    p, optimizer = one(getattr(instep.torch, name), differentiable=True)
    q = p * 1.0
    q.grad = p.grad
    optimizer = type(optimizer)([q.detach().requires_grad_()], lr=0.1, differentiable=True)
    (leaf,) = optimizer.param_groups[0]["params"]
    copied = leaf.clone()
    optimizer.param_groups[0]["params"] = [copied]
    copied.grad = (leaf * 2).clone()
    counts = step_counts()
    optimizer.step()
    assert step_counts() == (counts.native, counts.host + 1)
    copied.sum().backward()
    assert leaf.grad is not None


def test_two_names_for_one_memory_are_stepped_as_torch_does() -> None:
    values = []
    for kind in (instep.torch.SGD, torch.optim.SGD):
        base = torch.ones(6)
        p, q = base[:4].requires_grad_(), base[2:].requires_grad_()
        optimizer = kind([p, q], lr=0.1)
        p.grad, q.grad = torch.ones(4), torch.ones(4)
        optimizer.step()
        values.append(base)
    assert torch.equal(*values)


def test_a_gradient_with_the_other_sign_in_memory() -> None:
    p, optimizer = one(instep.torch.SGD)
    p.grad = torch._neg_view(torch.full((4,), 0.5))
    optimizer.step()
    assert torch.allclose(p.detach(), torch.full((4,), 1.05))


@pytest.mark.parametrize("of_state", [False, True])
def test_memory_that_has_the_other_sign_since_the_last_step(of_state: bool) -> None:
    ends = []
    for kind in (instep.torch.SGD, torch.optim.SGD):
        p, optimizer = one(kind, momentum=0.5)
        p.grad = torch.full((4,), 0.5)
        optimizer.step()
        optimizer.step()
        if of_state:
            state = optimizer.state[p]
            state["momentum_buffer"] = torch._neg_view(state["momentum_buffer"])
        else:
            p.data = torch._neg_view(p.data)
        optimizer.step()
        ends.append(p.detach().resolve_neg())
    assert torch.equal(*ends)


def test_options_with_fewer_states_than_in_the_last_step() -> None:
    ends = []
    for kind in (instep.torch.SGD, torch.optim.SGD):
        p, memory = torch.zeros(3, 3).t().requires_grad_(), torch.zeros(3, 3)
        q = memory.requires_grad_()
        optimizer = kind([p, q], lr=1.0, momentum=0.5)
        p.grad, q.grad = torch.ones(3, 3).t(), torch.ones(3, 3)
        optimizer.step()
        optimizer.step()
        optimizer.param_groups[0]["momentum"] = 0
        q.data = q.data.t()
        q.grad = torch.arange(9.0).view(3, 3)
        optimizer.step()
        ends.append(torch.cat([p.detach(), q.detach()]))
    assert torch.equal(*ends)


def test_a_group_that_no_longer_has_the_largest_of_its_averages() -> None:
    ends = []
    for kind in (instep.torch.Adam, torch.optim.Adam):
        p = torch.zeros(3, 3, requires_grad=True)
        q = torch.zeros(3, 6)[:, ::2].requires_grad_()
        optimizer = kind([{"params": [p]}, {"params": [q]}], lr=0.1, amsgrad=True)
        p.grad, q.grad = torch.ones(3, 3), torch.ones(3, 3)
        optimizer.step()
        optimizer.param_groups[1]["amsgrad"] = False
        optimizer.step()
        ends.append(torch.cat([p.detach(), q.detach()]))
    assert_close(ends[0], ends[1], "parameters")


def test_sparse_gradients_of_others_are_torchs() -> None:
    tables = []
    for kind in (instep.torch.SGD, torch.optim.SGD):
        torch.manual_seed(3)
        table = torch.nn.Embedding(6, 2, sparse=True)
        layer = torch.nn.Linear(2, 1)
        optimizer = kind([*table.parameters(), *layer.parameters()], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            layer(table(torch.tensor([1, 4, 1]))).sum().backward()
            optimizer.step()
        tables.append([p.detach() for p in (*table.parameters(), *layer.parameters())])
    for p, q in zip(*tables, strict=True):
        assert_close(p, q, "parameter")
    table = torch.nn.Embedding(6, 2, sparse=True)
    p = torch.ones(2, requires_grad=True)
    optimizer = instep.torch.Adam([p, table.weight])
    (table(torch.tensor([1])) * p).sum().backward()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        optimizer.step()
    assert torch.equal(p.detach(), torch.ones(2))


@pytest.mark.parametrize("maximize", [False, True])
def test_sparse_adam(maximize: bool) -> None:
    tables = []
    for kind in (instep.torch.SparseAdam, torch.optim.SparseAdam):
        torch.manual_seed(3)
        table = torch.nn.Embedding(9, 3, sparse=True, dtype=torch.float64)
        optimizer = kind(table.parameters(), lr=0.1, betas=(0.8, 0.95), maximize=maximize)
        counts = step_counts()
        for rows in ([1, 4, 1], [8], [], [0, 4, 4, 2]):
            optimizer.zero_grad()
            table(torch.tensor(rows, dtype=torch.long)).square().sum().backward()
            optimizer.step()
        if kind is instep.torch.SparseAdam:
            assert step_counts() == (counts.native + 4, counts.host)
        tables.append(optimizer)
    assert_alike(*tables)
    p = torch.ones(3, requires_grad=True)
    p.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="does not support dense gradients"):
        instep.torch.SparseAdam([p]).step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.bfloat16])
def test_lion_and_its_own_code_agree(dtype: torch.dtype) -> None:
    from instep.torch.lion import SlowLion

    kwargs = {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1, "maximize": True}
    pairs = []
    for kind in (instep.torch.Lion, SlowLion):
        torch.manual_seed(7)
        params = [torch.randn(5, 3).to(dtype).requires_grad_()]
        pairs.append(trained(kind, params, kwargs, "dense"))
    assert_alike(*pairs)
    with pytest.raises(ValueError, match="Invalid learning rate"):
        instep.torch.Lion([torch.ones(1)], lr=-1.0)


def test_a_compiled_step_is_torchs() -> None:
    p, optimizer = one(instep.torch.SGD)
    counts = step_counts()
    torch.compile(optimizer.step, backend="eager")()
    assert step_counts() == counts
    assert torch.allclose(p.detach(), torch.full((4,), 0.95))


def test_fake_tensors_are_torchs() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        p = torch.ones(4, requires_grad=True)
        p.grad = torch.ones(4)
        instep.torch.Adam([p]).step()


@pytest.mark.parametrize("name", NAMES)
def test_a_patch_reaches_what_is_there_and_goes_again(name: str) -> None:
    kind = getattr(torch.optim, name)
    p, optimizer = one(kind)
    if name == "SparseAdam":
        p.grad = torch.ones(4).to_sparse()
    calls: list[int] = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    counts = step_counts()
    optimizer.step()
    assert step_counts() == counts
    instep.torch.patch()
    try:
        optimizer.step()
        assert step_counts() == (counts.native + 1, counts.host)
        with instep.torch.patched():
            other = one(kind)[1]
        optimizer.step()
        assert step_counts() == (counts.native + 2, counts.host)
        assert b"instep" not in pickle.dumps(optimizer)
    finally:
        instep.torch.unpatch()
    optimizer.step()
    assert other is not optimizer
    assert step_counts() == (counts.native + 2, counts.host)
    assert len(calls) == 4
    assert torch.all(p < 1)


def test_large_steps_are_the_same_on_every_number_of_threads() -> None:
    results = []
    for threads in (1, 2):
        with instep.num_threads(threads):
            torch.manual_seed(1)
            p = torch.randn(700, 700).t().requires_grad_()
            optimizer = instep.torch.Adam([p, torch.randn(99, requires_grad=True)], amsgrad=True)
            for _ in range(3):
                p.grad = torch.randn(700, 700)
                optimizer.step()
            results.append(p.detach())
    assert torch.equal(*results)


def test_other_states_are_seen() -> None:
    p, optimizer = one(instep.torch.Adam)
    reference_p, reference = one(torch.optim.Adam)
    for each, opt in ((p, optimizer), (reference_p, reference)):
        opt.step()
        opt.state[each]["exp_avg"] = torch.full((4,), 3.0)
        opt.step()
        opt.state.clear()
        opt.step()
        opt.state[each]["step"] = torch.tensor(5.0, dtype=torch.float64)
        opt.step()
        del opt.state[each]["exp_avg_sq"]
        with pytest.raises(KeyError, match="exp_avg_sq"):
            opt.step()
    assert_close(p.detach(), reference_p.detach(), "parameter")


def test_lr_scheduler_sees_steps() -> None:
    _, optimizer = one(instep.torch.SGD)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_every_name_is_known() -> None:
    assert set(NAMES) == set(instep.torch.__all__) - {
        "Lion",
        "StepCounts",
        "patch",
        "patched",
        "step_counts",
        "unpatch",
    }
    assert partial(len, CASES)() > 100
