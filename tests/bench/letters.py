#!/usr/bin/env python3
"""Measures letters between two people on `trefoil testnet`, as real processes on this machine.

    cargo build --release --workspace
    tests/bench/letters.py                  30 letters; from `send` to the reader's screen, accepted, delivered

Every wait has a limit, and what was started is ended by its own handle.
"""

import argparse
import json
import os
import selectors
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds
RELAYS = 8


class Program:
    """A running program, whose lines are waited for. Ended with the stack."""

    def __init__(self, stack: ExitStack, command: list[str]):
        self._handle = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._text = b""
        stack.callback(self.end)

    def wait_for(self, words: str) -> None:
        """Waits until it has printed this."""
        end = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(self._handle.stdout, selectors.EVENT_READ)
            while words.encode() not in self._text:
                if not selector.select(end - time.monotonic()):
                    raise SystemExit(f"no {words!r} in time: {self._text.decode()}")
                some = os.read(self._handle.stdout.fileno(), 65536)
                if not some:
                    raise SystemExit(f"it ended: {self._text.decode()}")
                self._text += some

    def end(self) -> None:
        self._handle.terminate()
        try:
            self._handle.wait(5)
        except subprocess.TimeoutExpired:
            self._handle.kill()
            self._handle.wait()


class Person:
    """Somebody with a profile."""

    def __init__(self, name: str, directory: Path, options):
        passphrase = directory / f"{name}.txt"
        passphrase.write_text("correct horse\n")
        passphrase.chmod(0o600)
        self._trefoil = str(options.binaries / "trefoil")
        where = ["--network", directory / "net" / "network.toml", "--data-dir", directory / name]
        self._whose = [str(part) for part in [*where, "--passphrase-file", passphrase]]
        self.run("id", "new")

    def command(self, *arguments: str) -> list[str]:
        return [self._trefoil, *arguments, *self._whose]

    def run(self, *arguments: str) -> str:
        return subprocess.run(self.command(*arguments), check=True, timeout=PATIENCE, stdout=subprocess.PIPE).stdout

    def up(self, stack: ExitStack) -> None:
        Program(stack, self.command("up", "--socks", "127.0.0.1:0")).wait_for("letters of the profile")


def befriend(alice: Person, bob: Person) -> None:
    """An invite makes contacts of them."""
    invite = json.loads(bob.run("invite", "create", "--name", "alice", "--json"))["invite"]["link"]
    alice.run("contact", "add", invite, "bob")
    end = time.monotonic() + PATIENCE
    for person in (alice, bob):
        while json.loads(person.run("contact", "list", "--json"))["contacts"][0]["standing"] != "accepted":
            if time.monotonic() > end:
                raise SystemExit("they did not become contacts in time")


def measure(options) -> None:
    with tempfile.TemporaryDirectory(prefix="trefoil-letters-") as name, ExitStack() as stack:
        directory, start = Path(name), time.monotonic()
        net = str(directory / "net")
        network = Program(stack, [str(options.binaries / "trefoil"), "testnet", "--relays", str(RELAYS), "--dir", net])
        network.wait_for(f"{RELAYS} relays are running")
        alice, bob = (Person(name, directory, options) for name in ("alice", "bob"))
        alice.up(stack)
        bob.up(stack)
        befriend(alice, bob)
        screen = Program(stack, bob.command("inbox", "--follow"))
        alice.run("send", "bob", "the first")
        screen.wait_for("the first")
        print(f"the first letter, {time.monotonic() - start:.1f} s after nothing was running\n")
        print("| | median | p95 | n |\n|---|---:|---:|---:|")
        screens, accepted, delivered = [], [], []
        for number in range(options.letters):
            begun = time.monotonic()
            alice.run("send", "bob", f"number {number}.")
            screen.wait_for(f"number {number}.")
            screens.append(time.monotonic() - begun)
            for wanted, times in (("accepted", accepted), ("delivered", delivered)):
                begun = time.monotonic()
                alice.run("send", "bob", f"{wanted} {number}", "--wait", wanted, "--timeout", f"{PATIENCE:.0f}s")
                times.append(time.monotonic() - begun)
        for what, times in (("on the screen", screens), ("accepted", accepted), ("delivered", delivered)):
            times.sort()
            late = times[min(len(times) - 1, int(len(times) * 0.95))]
            print(f"| {what} | {statistics.median(times) * 1000:.0f} ms | {late * 1000:.0f} ms | {len(times)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--letters", type=int, default=30, help="of each kind")
    parser.add_argument("--binaries", type=Path, default=REPOSITORY / "target" / "release", help="where `trefoil` is")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
