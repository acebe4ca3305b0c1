"""What can't be in a rule, and why."""

__all__ = ["OF_OTHERS", "ROUNDED_UNLIKE", "of_others", "rounded_unlike"]

# fmt: off
OF_OTHERS = frozenset((
    "sum", "mean", "max", "min", "any", "all", "prod", "std", "var", "dot", "norm", "argmax",
    "argmin", "cumsum", "cumprod", "ptp", "sort", "argsort", "median", "average", "amax",
    "amin", "nansum", "nanmean", "nanmax", "nanmin", "vdot", "inner", "outer", "matmul",
    "einsum", "tensordot", "linalg.norm", "quantile", "percentile", "partition",
    "count_nonzero", "trace", "diff", "roll", "flip", "concatenate", "stack", "allclose",
    "array_equal", "isclose",
))
# fmt: on

# fmt: off
ROUNDED_UNLIKE = frozenset((
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sinh", "cosh", "sin",
    "cos", "tan", "arctan", "arctan2", "arcsin", "arccos", "arcsinh", "arccosh", "arctanh",
    "cbrt", "hypot", "power", "float_power", "logaddexp", "logaddexp2",
))
# fmt: on


def of_others(name: str) -> str:
    """Say why a function that looks at other elements can't be in a rule."""
    return (
        f"{name} looks at other elements, but a rule computes each element from itself alone; "
        "for the norm of an array, give the rule a keyword g_norm=instep.norm('g')"
    )


def rounded_unlike(name: str) -> str:
    """Say why a function that is not rounded the same everywhere can't be in a rule."""
    return (
        f"{name} of arrays is not rounded the same by all CPUs and versions of NumPy, so a rule "
        "can't have it; it can have + - * / and roots"
    )
