"""Shows the time each chapter took, which no test asserts: machines differ."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "on Colab":
                terminalreporter.write_line(f"on Colab, {value}")
