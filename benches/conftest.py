from collections.abc import Callable
from typing import Any, TypeAlias

import instep
import numpy as np
import pytest

from benches.figures import are_numbers

Show: TypeAlias = Callable[[str, dict[str, str]], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--smoke", action="store_true", help="only the smallest sizes, only a few rounds"
    )


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info["instep"] = instep.config()


@pytest.fixture
def show(benchmark: Any, record_property: Callable[[str, object], None]) -> Show:
    """Show a row in the table of that title, after the run and in its JSON."""

    def add(title: str, cells: dict[str, str]) -> None:
        benchmark.extra_info["row"] = {"title": title, "cells": cells}
        record_property("row", (title, cells))

    return add


@pytest.hookimpl(trylast=True)  # after pytest-benchmark's tables
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the rows that tests have recorded: a table for each title, a column for each key."""
    tables: dict[str, list[dict[str, str]]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "row":
                title, cells = value
                tables.setdefault(title, []).append(cells)
    config = instep.config()
    for title, rows in tables.items():
        terminalreporter.section(title)
        terminalreporter.write_line(
            f"NumPy {np.__version__}; instep {config['version']}, {config['isa']}, "
            f"{config['threads']} thread(s)"
        )
        lines = [dict(zip(rows[0], rows[0], strict=True)), *rows]
        widths = [max(len(line[column]) for line in lines) for column in rows[0]]
        for line in lines:
            texts = [
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(
                    line.values(), widths, are_numbers(rows), strict=True
                )
            ]
            terminalreporter.write_line("  ".join(texts).rstrip())
