"""The command line: ``python -m instep demo`` and ``python -m instep info``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from instep.configuration import show_config

EPOCHS, QUICK_EPOCHS = 40, 5
DEMO_EXTRA = ("matplotlib", "rich", "sklearn", "threadpoolctl")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    status : int
        The exit status: 0; 1 when the demo's weights differ; 2 when an extra is missing or the
        picture can't be written; 130 when it was interrupted.

    Raises
    ------
    SystemExit
        With status 2, and a message on the standard error, for arguments that make no sense.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command == "info":
        show_config()
        return 0
    try:
        from instep import demo
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in DEMO_EXTRA:
            raise
        print(f"The demo needs {missing}: pip install 'instep[demo]'", file=sys.stderr)
        return 2
    epochs = arguments.epochs or (QUICK_EPOCHS if arguments.quick else EPOCHS)
    try:
        # Before the training, not after it.
        arguments.out.open("ab").close()
        identical = demo.run(arguments.hidden, epochs, arguments.dtype, arguments.out)
    except OSError as error:
        print(f"The picture can't be written to {arguments.out}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0 if identical else 1


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


def _file(text: str) -> Path:
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; wanted the name of a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


if __name__ == "__main__":
    sys.exit(main())
