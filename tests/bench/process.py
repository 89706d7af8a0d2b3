"""Processes that a run starts: each is ended by its own handle, and read through /proc.

Nothing here signals a process that it did not start.
"""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

END_TIMEOUT = 5.0  # seconds between SIGTERM and SIGKILL
TICK = os.sysconf("SC_CLK_TCK")
SEARCH_PATH = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"  # nginx and ip are there
CLEAN_ENVIRONMENT = {"PATH": SEARCH_PATH}


@dataclass(frozen=True)
class Host:
    """Where a process runs: its IPv4 address, and the command prefix that enters its network namespace."""

    name: str
    ip: str
    enter: tuple[str, ...] = ()


class Failed(Exception):
    """The run cannot go on; the text says what happened and what to do."""


class Process:
    """A running program of this run, with its output in a log file."""

    def __init__(self, host: Host, command: list[str], log: Path):
        self.name = log.stem
        self.log = log
        end_with_us = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv", path=SEARCH_PATH) else []
        with open(log, "wb") as output:
            self._handle = subprocess.Popen(
                [*host.enter, *end_with_us, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=CLEAN_ENVIRONMENT,
                start_new_session=True,  # a Ctrl-C reaches the run only, which then ends everything in order
            )
        self.pid = self._handle.pid  # the prefixes exec, so this is the program itself

    def alive(self) -> bool:
        return self._handle.poll() is None

    def wait_for(self, text: str, timeout: float) -> None:
        """Waits until the log contains `text`; fails when the process ends or `timeout` seconds pass first."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if text in self.output():
                return
            if not self.alive():
                raise Failed(f"{self.name} ended at once; {self.last_words()}")
            time.sleep(0.01)
        raise Failed(f"{self.name} did not print {text!r} in {timeout:.0f} s; {self.last_words()}")

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def last_words(self) -> str:
        return f"its output ends with:\n{self.output()[-2000:]}"

    def signal(self, number: int) -> None:
        self._handle.send_signal(number)  # does nothing once the process has been waited for

    def end(self) -> None:
        """Asks the process to end, waits, and kills it if it does not."""
        self._handle.terminate()
        try:
            self._handle.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            print(f"{self.name} was still there {END_TIMEOUT:.0f} s after SIGTERM: killed", flush=True)
            self._handle.kill()
            self._handle.wait()

    def cpu_ns(self) -> int:
        """CPU time of all its threads, in nanoseconds. Threads that have ended are not counted."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except OSError:
                continue  # the thread ended between the two reads
        return total

    def ticks(self) -> int:
        """CPU time with that of its ended threads, in clock ticks."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return 0
        return int(fields[11]) + int(fields[12])

    def rss(self) -> int:
        """Resident memory now, in bytes."""
        return self._status("VmRSS")

    def heap_rss(self) -> int:
        """Resident memory now that is no file's, in bytes: what the kernel drops of the program text is not missed."""
        return self._status("RssAnon")

    def peak_rss(self) -> int:
        """The most resident memory since `forget_peak`, in bytes."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def written(self) -> int:
        """Bytes it has handed to write(2); for curl that is the body it has received."""
        lines = Path(f"/proc/{self.pid}/io").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))

    def _status(self, key: str) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))


@dataclass
class Processes:
    """All processes of a run, ended together in the reverse order of their start."""

    logs: Path
    running: list[Process] = field(default_factory=list)

    def start(self, host: Host, name: str, command: list[str]) -> Process:
        process = Process(host, command, self.logs / f"{name}.log")
        self.running.append(process)
        return process

    def end(self, process: Process) -> None:
        process.end()
        self.running.remove(process)

    def end_all(self) -> None:
        for process in reversed(self.running):
            process.signal(15)  # all at once; `end` below then waits for each
        while self.running:
            self.end(self.running[-1])


class ForeignCpu:
    """Measures the share of the machine's CPU time that went to processes outside this run, from 0 to 1."""

    def __init__(self, processes: Processes):
        self._processes = processes
        self.share = 0.0

    def __enter__(self) -> "ForeignCpu":
        self._start = (time.monotonic(), machine_ticks() - self._own_ticks())
        return self

    def __exit__(self, *_: object) -> None:
        began, before = self._start
        capacity = (time.monotonic() - began) * TICK * (os.cpu_count() or 1)
        self.share = max(0.0, (machine_ticks() - self._own_ticks() - before) / capacity)

    def _own_ticks(self) -> float:
        waited_for = sum(os.times()[:4]) * TICK  # this program, and its children that have ended (every curl)
        return waited_for + sum(process.ticks() for process in self._processes.running)


def machine_ticks() -> int:
    """Clock ticks that all processors have spent in processes (user, nice, system) since the machine's start."""
    with open("/proc/stat") as stat:
        return sum(int(ticks) for ticks in stat.readline().split()[1:4])


def run(command: list[str], timeout: float = 60.0, text_in: str | None = None) -> str:
    """Runs a short command to its end and gives what it printed; fails with that text if it fails."""
    try:
        done = subprocess.run(
            command, input=text_in, capture_output=True, text=True, timeout=timeout, env=CLEAN_ENVIRONMENT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{' '.join(command)}: {error}") from error
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
