"""What a run found: rows of samples, as JSON and as Markdown tables with the systems side by side."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

FOREIGN_SHOWN = 0.10  # share of the machine's CPU used by others from which a cell says so


@dataclass(frozen=True)
class Row:
    """The samples of one figure on one system. `foreign`: share of the machine's CPU that others used meanwhile."""

    section: str
    figure: str
    system: str
    unit: str
    samples: list[float]
    failed: int
    foreign: float


@dataclass
class Results:
    """All rows of a run."""

    machine: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        print(f"  {row.system}: {row.figure}: {cell(row)} {row.unit}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def write_json(self, path: Path) -> None:
        everything = {"machine": self.machine, "rows": [asdict(row) for row in self.rows], "notes": self.notes}
        path.write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n")

    def markdown(self) -> str:
        parts = ["\n".join(f"- {name}: {value}" for name, value in self.machine.items())]
        for section in dict.fromkeys(row.section for row in self.rows):
            parts.append(f"### {section}\n\n{table([row for row in self.rows if row.section == section])}")
        parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(part for part in parts if part)


def table(rows: list[Row]) -> str:
    """One line for each figure, one column for each system."""
    systems = list(dict.fromkeys(row.system for row in rows))
    lines = ["| figure | unit | " + " | ".join(systems) + " |", "|---" * (len(systems) + 2) + "|"]
    for figure, unit in dict.fromkeys((row.figure, row.unit) for row in rows):
        cells = {row.system: cell(row) for row in rows if row.figure == figure}
        lines.append(f"| {figure} | {unit} | " + " | ".join(cells.get(system, "not run") for system in systems) + " |")
    return "\n".join(lines)


def cell(row: Row) -> str:
    """Median, the 95th percentile of times in ms, range, count; and what spoils the figure, if anything does."""
    remarks = [f"{row.failed} failed"] if row.failed else []
    remarks += [f"others used {row.foreign:.0%} of the CPU"] if row.foreign > FOREIGN_SHOWN else []
    if not row.samples:
        return "; ".join(["none", *remarks])
    middle = f"**{short(statistics.median(row.samples))}**"
    if row.unit == "ms":
        middle += f" / {short(percentile(row.samples, 95))}"
    if len(row.samples) == 1:
        return "; ".join([middle, *remarks])
    spread = f"{short(min(row.samples))}–{short(max(row.samples))}, n={len(row.samples)}"
    return f"{middle} ({'; '.join([spread, *remarks])})"


def percentile(samples: list[float], percent: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))]


def short(number: float) -> str:
    """Three significant digits, or all digits before the point."""
    size = abs(number)
    return f"{number:.0f}" if size >= 100 else f"{number:.1f}" if size >= 10 else f"{number:.2f}"


def describe_machine(programs: dict[str, list[str]]) -> dict[str, str]:
    """The machine and the versions of the programs, as far as they tell."""
    cpu = first_match("/proc/cpuinfo", "model name") or platform.machine()
    memory = (first_match("/proc/meminfo", "MemTotal") or "0").split()[0]
    system = first_match("/etc/os-release", "PRETTY_NAME", "=") or platform.system()
    congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    described = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{cpu}, {os.cpu_count()} processors, {int(memory) / 1e6:.0f} GB",
        "system": f"{system.strip(chr(34))}, Linux {platform.release()}, TCP {congestion.read_text().strip()}",
    }
    return {**described, **{name: first_line(command) for name, command in programs.items()}}


def first_match(path: str, key: str, separator: str = ":") -> str | None:
    with open(path) as lines:
        return next((line.split(separator, 1)[1].strip() for line in lines if line.startswith(key)), None)


def first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "not there"
    return ((done.stdout + done.stderr).strip().splitlines() or ["unknown"])[0]
