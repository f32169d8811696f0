"""`gaussiantalker doctor`: what this machine has, what is missing, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gaussiantalker_ns import doctor
from gaussiantalker_ns.doctor import Finding


@dataclass
class Config:
    """Show what this machine has, with a line of advice for each thing missing."""


def table_of(findings: Sequence[Finding]) -> Table:
    """Lay the findings out as a table, advice included."""
    table = Table(title="gaussiantalker doctor", title_justify="left")
    table.add_column("what")
    table.add_column("state")
    table.add_column("found", overflow="fold")
    table.add_column("advice", overflow="fold")
    styles = {"ok": "green", "optional": "yellow", "missing": "bold red"}
    for finding in findings:
        table.add_row(
            Text(finding.subject),
            Text(finding.state, style=styles[finding.state]),
            Text(finding.found),
            Text(finding.advice),
        )
    return table


def run(config: Config) -> int:
    """Print the table; the exit status is 1 only when the product cannot run."""
    del config
    # Not Nerfstudio's console: this command is for machines on which Nerfstudio may not import.
    console = Console()
    findings = doctor.examine()
    console.print(table_of(findings))
    missing = [finding.subject for finding in findings if finding.state == "missing"]
    if missing:
        console.print(Text(f"GaussianTalker cannot run here: {', '.join(missing)}.", "bold red"))
        return 1
    console.print(Text("Everything GaussianTalker needs is here.", "green"))
    return 0
