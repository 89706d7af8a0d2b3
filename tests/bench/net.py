"""The wires of a run: loopback, or one network namespace per host with the emulator `wan.c` between them."""

import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from process import Failed, Host, Process, Processes, run

HERE = Path(__file__).parent
MTU = 1500
QUEUE = 60_000  # packets that the emulator holds at most
FIRST_PORT = 9001
PREFIX = "trefoil-bench-"  # of namespaces' names
ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")


class Loopback:
    """Every host on this machine's loopback, each on its own 127.N.0.1 so that netgroups differ."""

    distinct_netgroups = True

    def __init__(self, names: list[str]):
        self._hosts = {name: Host(name, f"127.{number}.0.1") for number, name in enumerate(names)}

    def host(self, name: str) -> Host:
        return self._hosts[name]

    def port(self, host: Host) -> int:
        """A port of `host` that is free for TCP and UDP now."""
        for _ in range(100):
            with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp, suppress(OSError):
                tcp.bind((host.ip, 0))
                udp.bind((host.ip, tcp.getsockname()[1]))
                return tcp.getsockname()[1]
        raise Failed(f"no free port on {host.ip}")

    def down(self) -> None:
        pass


class Emulated:
    """One namespace per host; a packet between two is held for a fixed time and lost with a fixed chance."""

    distinct_netgroups = False  # all of them in 10.77.0.0/24

    def __init__(self, names: list[str], congestion: str, processes: Processes, directory: Path):
        self._settings = directory / "wan.conf"
        self._counters = directory / "wan.counters"
        self._next_port = FIRST_PORT
        self._hosts = {}
        self._emulator: Process | None = None
        self._allowed = ALLOWED.read_text()
        try:
            ALLOWED.write_text(f"{self._allowed.strip()} {congestion}")  # else no namespace may choose it
            self._add_hosts(names)
            self._start_emulator(processes, directory)
            for host in self._hosts.values():
                self._configure(host, congestion)
        except BaseException:
            self.down()
            raise

    def host(self, name: str) -> Host:
        return self._hosts[name]

    def port(self, _host: Host) -> int:
        self._next_port += 1
        return self._next_port

    def set_links(self, delay_ms: float, loss_percent: float) -> None:
        """Sets every link's one-way delay and loss, and starts the emulator's counters at zero."""
        self._settings.write_text(f"{int(delay_ms * 1000)} {int(loss_percent * 10_000)} {QUEUE}\n")
        if self._emulator:
            self._emulator.signal(signal.SIGHUP)
            time.sleep(0.3)

    def counters(self) -> str:
        """The emulator's own account since `set_links`: how many packets, and how late it delivered them."""
        time.sleep(0.6)  # it writes them twice a second
        return self._counters.read_text().strip()

    def down(self) -> None:
        for name in self._hosts:
            run(["ip", "netns", "del", PREFIX + name])
        self._hosts.clear()
        ALLOWED.write_text(self._allowed)

    def _add_hosts(self, names: list[str]) -> None:
        for number, name in enumerate(names, start=1):
            namespace = PREFIX + name
            if Path("/run/netns", namespace).exists():
                run(["ip", "netns", "del", namespace])  # of a killed run; we hold the lock, so it is nobody's
            run(["ip", "netns", "add", namespace])
            self._hosts[name] = Host(name, f"10.77.0.{number}", ("ip", "netns", "exec", namespace))

    def _start_emulator(self, processes: Processes, directory: Path) -> None:
        program = directory / "wan"
        run(["cc", "-O2", "-Wall", "-o", str(program), str(HERE / "wan.c")])
        self.set_links(0, 0)
        ends = [f"{PREFIX}{name}:{host.ip.rsplit('.', 1)[1]}" for name, host in self._hosts.items()]
        outside = Host("emulator", "")
        command = [str(program), str(self._settings), str(self._counters), *ends]
        self._emulator = processes.start(outside, "wan", command)
        self._emulator.wait_for("ready", 5)
        os.sched_setscheduler(self._emulator.pid, os.SCHED_FIFO, os.sched_param(1))  # delays stay exact under load

    def _configure(self, host: Host, congestion: str) -> None:
        inside = ["ip", "-n", PREFIX + host.name]
        run([*inside, "link", "set", "lo", "up"])
        run([*inside, "addr", "add", f"{host.ip}/24", "dev", "t0"])
        run([*inside, "link", "set", "t0", "up", "mtu", str(MTU), "txqueuelen", "10000"])
        run([*host.enter, "sysctl", "-q", "-w", f"net.ipv4.tcp_congestion_control={congestion}"])
