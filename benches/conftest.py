from typing import Any

import instep
import numpy as np
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--smoke", action="store_true", help="only the smallest net, only a few rounds"
    )


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info["instep"] = instep.config()


def microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:,.1f}"


@pytest.hookimpl(trylast=True)  # after pytest-benchmark's tables
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "ratio"
    ]
    if not rows:
        return
    config = instep.config()
    terminalreporter.section("median microseconds per step")
    terminalreporter.write_line(
        f"NumPy {np.__version__}; instep {config['version']}, {config['isa']}, "
        f"{config['threads']} thread(s)"
    )
    line = "{:9} {:8} {:24} {:>13} {:>13} {:>7}"
    terminalreporter.write_line(line.format("rule", "dtype", "net", "NumPy", "instep", "ratio"))
    for rule, dtype, net, by_numpy, by_instep, ratio in rows:
        terminalreporter.write_line(
            line.format(
                rule, dtype, net, microseconds(by_numpy), microseconds(by_instep), f"{ratio:.1f}"
            )
        )
