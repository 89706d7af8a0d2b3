#!/usr/bin/env python3
"""Measures Trefoil, and Tor beside it, as real processes on this machine. See README.md in this directory.

    run.py                              everything; the emulated links need root
    run.py --cases loopback --tor       no root; Tor's network is measured by the same load generator
    run.py --cases down,cpu --quick     two cases, just enough to see that they work
"""

import argparse
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cases
import tor
import trefoil
from direct import Direct
from net import Emulated, Loopback
from process import SEARCH_PATH, Failed, Processes
from report import Results, describe_machine
from web import Web, make_files

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "target" / "bench.json"
LOCK = Path(tempfile.gettempdir(), "trefoil-bench.lock")  # of the machine
DIRECTORY = "trefoil-bench-"
LOCK_TIMEOUT = 600.0  # seconds
FULL, PATH = 8, 3  # relays
CONGESTION = "tolerant/bbr,tolerant/cubic,cubic,bbr"
LINK_REQUESTS = 40  # at most, of each latency figure on emulated links
NEEDED = {"curl": "curl", "nginx": "nginx-light"}  # program: Debian's package
NEEDED_FOR_LINKS = {"ip": "iproute2", "cc": "gcc", "sysctl": "procps"}


@dataclass(frozen=True)
class Group:
    """Cases that share one network, brought up once for each system."""

    title: str
    cases: dict
    relays: int
    congestion: str | None = None  # QUIC/TCP of the emulated links, or one word for both; None = on loopback

    def hosts(self) -> list[str]:
        relays = {*tor.RELAYS, *(f"r{number}" for number in range(1, self.relays + 1))}
        return ["client", "server", *sorted(relays)]


def main() -> int:
    options = parse()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with it ignored
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        with machine_lock():
            return measure(options)
    except Failed as failure:
        print(f"run.py: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("run.py: interrupted; everything it started has been ended", file=sys.stderr)
        return 130


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="all", help="comma-separated: all, loopback, path, links, or names of cases")
    parser.add_argument("--tor", action="store_true", help="measure a private Tor network too, live and vanilla")
    parser.add_argument("--tor-only", action="store_true", help="measure only that")
    parser.add_argument("--runs", type=int, default=5, help="runs of each bulk transfer and start (default: 5)")
    parser.add_argument("--requests", type=int, default=200, help="requests of each latency (default: 200; links: 40)")
    parser.add_argument("--circuits", type=int, default=200, help="circuits for their cost (default and most: 200)")
    parser.add_argument("--congestion", default=CONGESTION, help=f"QUIC/TCP on emulated links (default: {CONGESTION})")
    parser.add_argument("--quick", action="store_true", help="1 run, 5 requests, 20 circuits: to try it out")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to write all samples")
    parser.add_argument("--binaries", type=Path, default=REPOSITORY / "target" / "release")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.requests, options.circuits = 1, 5, 20
    options.circuits = min(options.circuits, 200)
    options.binaries = options.binaries.absolute()
    options.systems = ["direct", *([] if options.tor_only else ["trefoil"])]
    options.systems += ["tor live", "tor vanilla"] if options.tor or options.tor_only else []
    options.link_congestion = None
    return options


def measure(options: argparse.Namespace) -> int:
    groups = chosen_groups(options)
    check(options, groups)
    results = Results(describe_machine(programs(options)))
    directory = make_directory()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    failed = False
    try:
        files = make_files(directory)
        for group in groups:
            failed |= not measure_group(group, options, results, directory, files)
            results.write_json(options.json)
    finally:
        with undisturbed():
            shutil.rmtree(directory, ignore_errors=True)
    print(results.markdown())
    return int(failed)


def make_directory() -> Path:
    """A directory of this run alone, in memory where there is such a place. Those of killed runs are removed."""
    parent = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())
    for stale in parent.glob(DIRECTORY + "*"):  # we hold the lock, so nobody uses them
        shutil.rmtree(stale, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=DIRECTORY, dir=parent))


def chosen_groups(options: argparse.Namespace) -> list[Group]:
    groups = [Group("loopback", cases.LOOPBACK, FULL), Group("path", cases.ONE_PATH, PATH)]
    groups += [Group(f"links, {word}", cases.LINKS, PATH, word) for word in options.congestion.split(",")]
    asked, known = set(options.cases.split(",")), {"all"}
    chosen = []
    for group in groups:
        name = group.title.split(",")[0]
        known |= {name, *group.cases}
        picked = {case: run for case, run in group.cases.items() if asked & {"all", name, case}}
        chosen += [Group(group.title, picked, group.relays, group.congestion)] if picked else []
    if asked - known:
        raise Failed(f"no case {', '.join(sorted(asked - known))}; there are {', '.join(sorted(known))}")
    return chosen


def check(options: argparse.Namespace, groups: list[Group]) -> None:
    """Fails, saying what to do, before anything is started."""
    links = any(group.congestion for group in groups)
    needed = {**NEEDED, **(NEEDED_FOR_LINKS if links else {})}
    packages = [package for program, package in needed.items() if not shutil.which(program, path=SEARCH_PATH)]
    if packages:
        raise Failed(f"programs are missing: `apt-get install {' '.join(packages)}` first")
    if links and os.getuid() != 0:
        raise Failed("emulated links need root (network namespaces): run as root, or with `--cases loopback,path`")
    if "trefoil" in options.systems:
        trefoil.check(options)
    if "tor live" in options.systems:
        tor.check(options)


def measure_group(group: Group, options: argparse.Namespace, results: Results, directory: Path, files: Path) -> bool:
    """Measures every system on wires of this kind. False if anything failed; the rest goes on."""
    good = True
    for system in options.systems:
        picked = [name for name in group.cases if system != "direct" or name in cases.WITHOUT_NETWORK]
        if not picked:
            continue
        print(f"{group.title}: {system}", file=sys.stderr, flush=True)
        try:
            with network(group, system, options, directory, files) as parts:
                bench = cases.Bench(
                    *parts,
                    system=system,
                    results=results,
                    section=group.title,
                    runs=options.runs,
                    requests=min(options.requests, LINK_REQUESTS) if group.congestion else options.requests,
                    circuits=options.circuits,
                )
                good &= all([run_case(name, group.cases[name], bench) for name in picked])
        except Failed as failure:
            note_failure(results, f"{group.title}, {system}: did not come up: {failure}")
            good = False
    return good


def run_case(name: str, case: Callable[[cases.Bench], None], bench: cases.Bench) -> bool:
    """Runs one case. False if it failed."""
    try:
        case(bench)
        return True
    except (Failed, OSError) as failure:  # OSError: a process ended while its figures were read
        note_failure(bench.results, f"{bench.section}, {bench.system}: case {name} failed: {failure}")
        return False


def note_failure(results: Results, text: str) -> None:
    results.note(text)
    print(f"  {text}", file=sys.stderr, flush=True)


@contextmanager
def network(group: Group, system: str, options: argparse.Namespace, directory: Path, files: Path):
    """Brings up wires, servers and one system; takes everything down again whatever happens."""
    logs = directory / "logs"
    logs.mkdir(exist_ok=True)
    processes = Processes(logs)
    wires = None
    try:
        quic, _, tcp = (group.congestion or "").partition("/")
        options.link_congestion = quic or None
        if group.congestion:
            wires = Emulated(group.hosts(), tcp or quic, processes, directory)
            wires.set_links(cases.DELAY_MS, 0)
        else:
            wires = Loopback(group.hosts())
        web = Web(wires, processes, directory, files)
        under_test = make_system(system, wires, web, processes, directory, options)
        under_test.up(group.relays)
        yield under_test, wires, web, processes
    finally:
        with undisturbed():
            processes.end_all()
            if wires:
                wires.down()


def make_system(system: str, wires, web: Web, processes: Processes, directory: Path, options: argparse.Namespace):
    if system == "direct":
        return Direct(wires)
    if system == "trefoil":
        return trefoil.Trefoil(wires, processes, directory, options)
    return tor.Tor(wires, processes, directory, options, system.removeprefix("tor "), web.url("1k"))


def programs(options: argparse.Namespace) -> dict[str, list[str]]:
    """How to ask each program for its version."""
    asked = {
        "commit": ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"],
        "trefoil": [str(options.binaries / "trefoil"), "--version"],
        "curl": ["curl", "--version"],
        "nginx": ["nginx", "-v"],
    }
    return {**asked, **({"tor": ["tor", "--version"]} if "tor live" in options.systems else {})}


@contextmanager
def machine_lock():
    """One benchmark at a time on a machine."""
    with open(LOCK, "w") as lock:
        end = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Failed(f"another benchmark has held {LOCK} for {LOCK_TIMEOUT:.0f} s") from None
                time.sleep(1)
        yield


@contextmanager
def undisturbed():
    """Signals that would end this program wait until the cleaning up is done."""
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
