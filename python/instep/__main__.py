"""The command line: ``python -m instep demo``, ``bench``, ``run`` and ``info``."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from instep.configuration import show_config

EPOCHS, QUICK_EPOCHS = 40, 5
SEEDS, QUICK_SEEDS = 6, 1
STORAGE_SIZE, ROUNDS, QUICK_ROUNDS = 30_000_000, 15, 2
MIN_SIZE, QUICK_MAX_SIZE, MAX_SIZE = 100, 1_000, 10_000_000
EXTRAS = {
    "demo": ("matplotlib", "rich", "threadpoolctl"),
    "bench": ("cpuinfo", "matplotlib", "psutil", "rich", "threadpoolctl"),
    "sklearn": ("sklearn",),
    "mpi": ("mpi4py",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    status : int
        The exit status: 0; 1 when the demo's weights differ; 2 when an extra is missing, a file
        can't be written or read, or there is too little memory; 130 when it was interrupted.

    Raises
    ------
    SystemExit
        With status 2, and a message on the standard error, for wrong arguments; with the
        script's own status, if a script exits.

    Notes
    -----
    Errors that the script of ``run`` raises are not caught.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command == "info":
        show_config()
        return 0
    if arguments.command == "run":
        return _run(arguments)
    package = _import(arguments.command, arguments.command)
    if package is None:
        return 2
    is_sklearn = arguments.command == "demo" and arguments.host == "sklearn"
    if is_sklearn and _import("demo.rules_sklearn", "sklearn") is None:
        return 2
    if arguments.command == "demo" and arguments.mpi:
        ranks = _import("demo.ranks", "mpi")
        if ranks is None:
            return 2
        epochs = arguments.epochs or (QUICK_EPOCHS if arguments.quick else EPOCHS)
        return 0 if ranks.run(arguments.hidden, epochs, arguments.dtype) else 1
    if arguments.storage and _import_storages(arguments.command) is None:
        return 2
    json = arguments.json if arguments.command == "bench" else None
    files = {"picture": arguments.out} | ({"JSON": json} if json else {})
    if arguments.command == "bench" and arguments.storage:
        if json or arguments.between != "nothing":
            parser.error("--storage only prints: it goes with neither --json nor --between")
        files = {}
    try:
        for file in files.values():
            # Before the work, not after it.
            file.open("ab").close()
        return {"demo": _demo, "bench": _bench}[arguments.command](package, arguments)
    except OSError as error:
        what, where = " or the ".join(files), " or ".join(map(str, files.values()))
        print(f"The {what} can't be written to {where}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _import(module: str, extra: str) -> ModuleType | None:
    """Import what runs a command, or say which package of an extra is missing."""
    try:
        return importlib.import_module(f"instep.{module}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS[extra]:
            raise
        command = module.partition(".")[0]
        print(f"The {command} needs {missing}: pip install 'instep[{extra}]'", file=sys.stderr)
        return None


def _import_storages(command: str) -> ModuleType | None:
    """Import what compares storages, or say that ml_dtypes is missing."""
    try:
        return importlib.import_module(f"instep.{command}.storages")
    except ImportError as error:
        print(error, file=sys.stderr)
        return None


def _run(arguments: argparse.Namespace) -> int:
    from instep import run

    script = arguments.script
    if not script.is_file():
        print(f"There is no script {script}", file=sys.stderr)
        return 2
    try:
        modules = run.patched_hosts(arguments.torch)
    except ModuleNotFoundError as error:
        host = error.name or ""
        if host not in run.HOSTS:
            raise
        print(f"The run needs {host}: pip install 'instep[{host}]'", file=sys.stderr)
        return 2
    try:
        run.run_script(str(script), arguments.arguments)
    finally:
        # The script's own output stays as it was.
        print(run.summary(modules), file=sys.stderr)
    return 0


def _demo(demo: ModuleType, arguments: argparse.Namespace) -> int:
    epochs = arguments.epochs or (QUICK_EPOCHS if arguments.quick else EPOCHS)
    if arguments.storage:
        storages = importlib.import_module("instep.demo.storages")
        seeds = QUICK_SEEDS if arguments.quick else SEEDS
        storages.run(arguments.hidden, epochs, seeds, arguments.out)
        return 0
    identical = demo.run(arguments.hidden, epochs, arguments.dtype, arguments.out, arguments.host)
    return 0 if identical else 1


def _bench(bench: ModuleType, arguments: argparse.Namespace) -> int:
    max_size = arguments.max_size or (QUICK_MAX_SIZE if arguments.quick else MAX_SIZE)
    pace = bench.QUICK if arguments.quick else bench.CAREFUL
    try:
        if arguments.storage:
            storages = importlib.import_module("instep.bench.storages")
            size = arguments.max_size or (QUICK_MAX_SIZE if arguments.quick else STORAGE_SIZE)
            rounds = QUICK_ROUNDS if arguments.quick else ROUNDS
            storages.run(size, arguments.threads, rounds)
            return 0
        bench.run(
            *(arguments.dtype, arguments.threads, max_size, pace),
            *(arguments.out, arguments.json, arguments.between),
        )
    except MemoryError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m instep")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="train a network on real data, with NumPy and with instep",
        description="Train the course's network on scikit-learn's digits, twice per rule: with the "
        "NumPy update loop and with instep. Exit status 1 when the two differ in one bit.",
    )
    demo.add_argument(
        "--host",
        choices=("course", "cs231n", "dlfs", "nnfs", "sklearn"),
        default="course",
        help="whose rules, in whose format: the deep-learning course, CS231n, Deep Learning from "
        "Scratch, Neural Networks from Scratch, scikit-learn's perceptrons (default: course)",
    )
    demo.add_argument(
        "--hidden",
        type=_count,
        nargs="+",
        default=[128, 64],
        metavar="UNITS",
        help="units of each hidden layer (default: 128 64)",
    )
    demo.add_argument("--epochs", type=_count, help=f"passes over the data (default: {EPOCHS})")
    demo.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float64",
        help="of data, weights and state (default: float64)",
    )
    demo.add_argument(
        "--out",
        type=_file,
        default=Path("instep-demo.png"),
        metavar="PNG",
        help="where to draw loss curves and update times (default: instep-demo.png)",
    )
    demo.add_argument(
        "--quick", action="store_true", help=f"{QUICK_EPOCHS} epochs, unless --epochs is given"
    )
    demo.add_argument(
        "--storage",
        action="store_true",
        help="train in every way to store parameters and states in fewer bytes instead; --host and "
        "--dtype are ignored",
    )
    demo.add_argument(
        "--mpi",
        action="store_true",
        help="train with Adam over the ranks of mpiexec instead, and once more in one process; "
        "--host, --storage and --out are ignored",
    )
    bench = commands.add_parser(
        "bench",
        help="time a step of Adam against the memory limit and other libraries",
        description="Time one step of Adam on one array. These take turns: instep, a loop that "
        "only moves the bytes, the formula in NumPy, and torch, numba, numexpr, JAX with optax, "
        "and Thinc, where installed (pip install 'instep[peers]'). Figures are steady only on a "
        "machine that does nothing else.",
    )
    bench.add_argument(
        "--max-size",
        type=_size,
        metavar="N",
        help=f"elements of the largest array; the others go up to it from {MIN_SIZE}, two for each "
        f"power of ten (default: {MAX_SIZE:,}, some minutes on two cores; 50,000,000 takes "
        "some 15 GB of memory in float64 and twice the time)",
    )
    bench.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        nargs="+",
        default=["float32", "float64"],
        help="of the arrays (default: both)",
    )
    bench.add_argument(
        "--threads",
        type=_count,
        nargs="+",
        metavar="N",
        help="numbers of threads (default: 1, and as many as there are)",
    )
    bench.add_argument(
        "--between",
        choices=("nothing", "matmul"),
        default="nothing",
        help="what is done between steps, and not counted: a matrix product, first with NumPy's "
        "BLAS on one thread, then on all of its threads (default: nothing)",
    )
    bench.add_argument(
        "--out",
        type=_file,
        default=Path("instep-bench.png"),
        metavar="PNG",
        help="where to draw the time per element (default: instep-bench.png)",
    )
    bench.add_argument(
        "--json", type=_file, metavar="PATH", help="where to write all medians (default: nowhere)"
    )
    bench.add_argument(
        "--quick",
        action="store_true",
        help=f"only try it: turns too short to mean much, and up to {QUICK_MAX_SIZE:,} elements, "
        "unless --max-size is given",
    )
    bench.add_argument(
        "--storage",
        action="store_true",
        help="time steps of arrays in fewer bytes, instead: one array of --max-size elements "
        f"(default: {STORAGE_SIZE:,}); only prints",
    )
    run = commands.add_parser(
        "run",
        help="run a script with scikit-learn's perceptrons, or torch.optim, stepped by instep",
        description="Run a Python script without changes, after instep.sklearn.patch(). At the "
        "end, print to standard error how many steps instep did. Processes that the script starts "
        "are not patched.",
    )
    run.add_argument(
        "--torch", action="store_true", help="patch torch.optim too, with instep.torch.patch()"
    )
    run.add_argument("script", type=Path, help="the script")
    run.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="...", help="the script's own arguments"
    )
    commands.add_parser("info", help="print how this build of instep runs here")
    return parser


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of 1 or more")
    return number


def _size(text: str) -> int:
    size = _count(text)
    if size < MIN_SIZE:
        raise argparse.ArgumentTypeError(f"{text} is less than {MIN_SIZE}")
    return size


def _file(text: str) -> Path:
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; wanted the name of a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


if __name__ == "__main__":
    sys.exit(main())
