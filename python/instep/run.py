"""Run a script with the steps of its hosts done by instep: ``python -m instep run``.

It does the same as two lines at the top of the script: ``instep.sklearn.patch()`` and, if you ask
for it, ``instep.torch.patch()``.
"""

import importlib
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

__all__ = ["HOSTS", "patched_hosts", "run_script", "summary"]

# The module of each host, and its name.
HOSTS = {"sklearn": "scikit-learn's perceptrons", "torch": "torch.optim"}


def patched_hosts(torch: bool) -> dict[str, ModuleType]:
    """Patch the hosts.

    Parameters
    ----------
    torch : bool
        Whether to patch torch too. Then scikit-learn does not have to be installed.

    Returns
    -------
    modules : dict of module
        The modules of instep that have patched their hosts, by name.

    Raises
    ------
    ModuleNotFoundError
        A host is not installed.
    """
    modules = {}
    for name in HOSTS:
        if name == "torch" and not torch:
            continue
        try:
            modules[name] = importlib.import_module(f"instep.{name}")
        except ModuleNotFoundError as error:
            if name == "torch" or not torch or error.name != name:
                raise
    for module in modules.values():
        module.patch()
    return modules


def run_script(script: str, arguments: Sequence[str]) -> None:
    """Run a script as Python does: as ``__main__``, with its own folder first in the path.

    Parameters
    ----------
    script : str
        The path of the script.
    arguments : sequence of str
        The arguments of the script.
    """
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).resolve().parent)
    runpy.run_path(script, run_name="__main__")


def summary(modules: dict[str, ModuleType]) -> str:
    """Return how many steps instep did, and how many the hosts.

    Parameters
    ----------
    modules : dict of module
        What `patched_hosts` returned.

    Returns
    -------
    text : str
        A line for each host.
    """
    lines = []
    for name, module in modules.items():
        counts = module.step_counts()
        lines.append(
            f"instep: {counts.native:,} of {counts.native + counts.host:,} steps of {HOSTS[name]} "
            "went through instep"
        )
    return "\n".join(lines)
