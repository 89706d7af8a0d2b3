"""The load generator: curl, the same for every system under test.

The clock of a transfer is curl's own and starts when curl starts, so that a SOCKS greeting counts; the clock of
several transfers at once runs from the first curl's start to the last one's end.
"""

import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from process import CLEAN_ENVIRONMENT, Host, Process, Processes

WRITE_OUT = "%{http_code} %{exitcode} %{size_download} %{size_upload} %{time_starttransfer} %{time_total}\n"


@dataclass(frozen=True)
class Transfer:
    """What became of one HTTP exchange; times in seconds."""

    ok: bool
    bytes: int
    first_byte: float
    total: float


LOST = Transfer(ok=False, bytes=0, first_byte=0.0, total=0.0)


@dataclass
class Way:
    """How curl reaches the web server: from which host, and by which SOCKS port (none: directly)."""

    host: Host
    socks: str | None = None
    _users: int = field(default=0)

    def new_user(self) -> str:
        """A SOCKS user not used before, and so a circuit of its own."""
        self._users += 1
        return f"user{self._users}"

    def users(self) -> int:
        return self._users

    def curl(self, user: str, limit: float, options: list[str]) -> list[str]:
        """The command, to be run on `host`: one transfer, or several, of at most `limit` seconds each."""
        command = ["curl", "-q", "--silent", "--max-time", str(limit), "--write-out", WRITE_OUT]
        proxy = ["--proxy", f"socks5h://{user}:x@{self.socks}"] if self.socks else []
        return [*command, *proxy, *options]


def fetch(way: Way, user: str, url: str, limit: float) -> Transfer:
    """Downloads one file within `limit` seconds."""
    return together(way.host, [way.curl(user, limit, ["--output", "/dev/null", url])], limit)[0][0]


def upload(way: Way, user: str, url: str, file: Path, limit: float) -> Transfer:
    """Uploads one file within `limit` seconds."""
    options = ["--output", "/dev/null", "--upload-file", str(file), "--header", "Expect:", url]
    return together(way.host, [way.curl(user, limit, options)], limit)[0][0]


def fetch_on_own_circuits(way: Way, users: list[str], url: str, limit: float) -> tuple[list[Transfer], float]:
    """Downloads a file once for each user at the same time; also gives the seconds from first start to last end."""
    commands = [way.curl(user, limit, ["--output", "/dev/null", url]) for user in users]
    return together(way.host, commands, limit)


def fetch_on_one_circuit(way: Way, user: str, url: str, times: int, limit: float) -> tuple[list[Transfer], float]:
    """Downloads a file several times at once on one circuit; also gives the seconds it took."""
    options = ["--parallel", "--parallel-immediate", "--parallel-max", str(times)]
    options += ["--output", "/dev/null", url] * times
    return together(way.host, [way.curl(user, limit, options)], limit)


def start_endless(way: Way, user: str, url: str, limit: float, processes: Processes) -> Process:
    """Starts a download that goes on in the background until it is ended."""
    return processes.start(way.host, "bulk", way.curl(user, limit, ["--output", "/dev/null", url]))


def together(host: Host, commands: list[list[str]], limit: float) -> tuple[list[Transfer], float]:
    """Runs curls on a host at the same time. One that outlives its own limit by 10 s is killed and counts as lost."""
    began = time.perf_counter()
    curls: list[subprocess.Popen[str]] = []
    transfers: list[Transfer] = []
    try:
        for command in commands:
            curls.append(start([*host.enter, *command]))
        for curl in curls:
            transfers += finish(curl, began + limit + 10)
        return transfers, time.perf_counter() - began
    finally:
        for curl in curls:
            curl.kill()  # does nothing to those that have been waited for
            curl.wait()


def start(command: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=CLEAN_ENVIRONMENT,
        start_new_session=True,
    )


def finish(curl: "subprocess.Popen[str]", deadline: float) -> list[Transfer]:
    try:
        output, _ = curl.communicate(timeout=max(0.1, deadline - time.perf_counter()))
    except subprocess.TimeoutExpired:
        return [LOST]
    return [parse(line) for line in output.splitlines()] or [LOST]


def parse(line: str) -> Transfer:
    code, exit_code, down, up, first_byte, total = line.split()
    ok = code == "200" and exit_code == "0"
    return Transfer(ok, max(int(down), int(up)), float(first_byte), float(total))
