"""A Trefoil network of real processes: one `trefoil-relay` for each relay, and `trefoil proxy` as the client."""

import shutil
import time
from pathlib import Path

from load import Way
from process import Failed, Process, Processes, run

EXITS = 3  # of a full network's relays; on a network of three relays the last one is the only exit
START_TIMEOUT = 20.0
LISTED_TIMEOUT = 300.0  # a relay's proof of work, once, and then everyone's check of everyone's
SETTLE = 10.0  # for the others to check what it lists
CIRCUITS_PER_CLIENT = 240  # a guard accepts 256 from one client; the rest is for those built ahead


class Client:
    """A running `trefoil proxy`, as a way for curl."""

    def __init__(self, network: "Trefoil"):
        self._network = network
        self._start()

    def wait_ready(self) -> None:
        self.process.wait_for("listening on", START_TIMEOUT)

    def make_room(self, circuits: int) -> None:
        """Starts the client anew when so many more circuits would go over what a guard accepts."""
        if self.way.users() + circuits > CIRCUITS_PER_CLIENT:
            self.close()
            self._start()
            self.wait_ready()

    def close(self) -> None:
        self._network.processes.end(self.process)

    def _start(self) -> None:
        host = self._network.wires.host("client")
        self.way = Way(host, f"127.0.0.1:{self._network.wires.port(host)}")
        self.process = self._network.start_proxy(self.way)


class Trefoil:
    """The network under test."""

    def __init__(self, wires, processes: Processes, directory: Path, options):
        self.wires = wires
        self.processes = processes
        self.relays: dict[str, Process] = {}
        self._directory = directory / "trefoil"
        self._binaries = options.binaries
        self._congestion = options.link_congestion
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir()

    def up(self, relays: int) -> None:
        names = [f"r{number}" for number in range(1, relays + 1)]
        exits = names[-EXITS:] if relays > EXITS else names[-1:]
        entries = [self._configure(name, name in exits) for name in names]
        same_netgroup = str(not self.wires.distinct_netgroups).lower()
        self._network_file().write_text(NETWORK.format(same_netgroup=same_netgroup) + "\n".join(entries))
        for name in names:
            command = [str(self._binaries / "trefoil-relay"), "--config", str(self._config(name))]
            self.relays[name] = self.processes.start(self.wires.host(name), name, command)
        for relay in self.relays.values():
            relay.wait_for("this relay is listed", LISTED_TIMEOUT)  # before, it works for its place in the network
        time.sleep(SETTLE)

    def down(self) -> None:
        for relay in self.relays.values():
            relay.signal(15)
        for relay in self.relays.values():
            self.processes.end(relay)
        self.relays.clear()

    def launch_client(self) -> Client:
        """Starts a client, and does not wait until it is ready."""
        return Client(self)

    def client(self) -> Client:
        """A client of its own for one measurement."""
        client = self.launch_client()
        client.wait_ready()
        return client

    def path_client(self) -> Client:
        """A client all of whose circuits go through the same three relays: with three relays, any."""
        return self.client()

    def roles(self) -> dict[str, list[Process]]:
        """Which processes carry a circuit's bytes. Of three relays, guard and middle change places by circuit."""
        *others, exit_relay = self.relays.values()
        return {"guard and middle": others, "exit": [exit_relay]}

    def start_proxy(self, way: Way) -> Process:
        command = [str(self._binaries / "trefoil"), "proxy", "--network", str(self._network_file())]
        congestion = ["--congestion", self._congestion] if self._congestion else []
        return self.processes.start(way.host, "client", [*command, "--socks", way.socks, *congestion])

    def _configure(self, name: str, is_exit: bool) -> str:
        """Writes a relay's configuration, makes its keys, and gives its entry for the network file."""
        host = self.wires.host(name)
        lines = [
            f'network = "{self._network_file()}"',
            f'data_dir = "{self._directory / name}"',
            f'listen = "{host.ip}:{self.wires.port(host)}"',
        ]
        lines += ['exit_policy = ["accept 127.0.0.0/8:*", "accept 10.77.0.0/24:*"]'] if is_exit else []
        lines += [f'congestion = "{self._congestion}"'] if self._congestion else []
        self._config(name).write_text("\n".join(lines) + "\n")
        command = [str(self._binaries / "trefoil-relay"), "--config", str(self._config(name)), "--show-relay"]
        return run([*host.enter, *command], START_TIMEOUT)

    def _config(self, name: str) -> Path:
        return self._directory / f"{name}.toml"

    def _network_file(self) -> Path:
        return self._directory / "network.toml"


def check(options) -> None:
    """Fails, saying what to do, when the programs are not built."""
    missing = [name for name in ("trefoil", "trefoil-relay") if not (options.binaries / name).exists()]
    if missing:
        raise Failed(f"no {' and '.join(missing)} in {options.binaries}: run `cargo build --release --workspace` first")


NETWORK = """[network]
name = "bench"
allow_loopback = true
allow_same_netgroup = {same_netgroup}

"""
