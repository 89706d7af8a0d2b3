"""What is measured: each case drives one running network with the load generator and writes down its samples.

README.md beside this file says what each figure means.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import load
from direct import Direct
from load import Transfer, Way
from net import Emulated, Loopback
from process import ForeignCpu, Process, Processes
from report import Results, Row, percentile
from tor import Tor
from trefoil import Trefoil
from web import ENDLESS, FILES, KIB, Web

DELAY_MS = 25.0
LOSSES = (0.0, 1.0)  # percent
REST = 0.15  # seconds
SETTLE = 3.0  # seconds for circuits to be built ahead, or for memory to be given back
IDLE = 20.0  # seconds
BULK_LEAD = 4.0  # seconds that a bulk download runs before anything is measured beside it
BULK_LIMIT, REQUEST_LIMIT = 180.0, 30.0  # seconds
HOPS = 3
WARM_UP = 10  # circuits


@dataclass
class Bench:
    """One network under test, and where its samples go."""

    network: Trefoil | Tor | Direct
    wires: Loopback | Emulated
    web: Web
    processes: Processes
    system: str
    results: Results
    section: str
    runs: int
    requests: int
    circuits: int

    def add(self, figure: str, unit: str, samples: list[float], failed: int = 0, foreign: float = 0.0) -> None:
        self.results.add(Row(self.section, figure, self.system, unit, samples, failed, foreign))

    def foreign(self) -> ForeignCpu:
        return ForeignCpu(self.processes)


# --- throughput ---


def down(bench: Bench) -> None:
    one_stream(bench, "1 stream, 64 MiB down", "64m")


def up(bench: Bench) -> None:
    file = bench.web.files / "64m"

    def once(way: Way) -> tuple[list[Transfer], float]:
        user = ready_user(bench, way)
        began = time.perf_counter()
        sent = load.upload(way, user, bench.web.upload_url(), file, BULK_LIMIT)
        return [sent], time.perf_counter() - began

    throughput(bench, "1 stream, 64 MiB up", FILES["64m"], 1, once)


def down8(bench: Bench) -> None:
    own_circuits(bench, "8 × 16 MiB down, a circuit each", "16m", 8)


def down64(bench: Bench) -> None:
    own_circuits(bench, "64 × 2 MiB down, a circuit each", "2m", 64)


def down64same(bench: Bench) -> None:
    url = bench.web.url("2m")

    def once(way: Way) -> tuple[list[Transfer], float]:
        return load.fetch_on_one_circuit(way, ready_user(bench, way), url, 64, BULK_LIMIT)

    throughput(bench, "64 × 2 MiB down, one circuit", 64 * FILES["2m"], 1, once)


def one_stream(bench: Bench, figure: str, file: str) -> None:
    url = bench.web.url(file)

    def once(way: Way) -> tuple[list[Transfer], float]:
        return load.fetch_on_own_circuits(way, [ready_user(bench, way)], url, BULK_LIMIT)

    throughput(bench, figure, FILES[file], 1, once)


def own_circuits(bench: Bench, figure: str, file: str, streams: int) -> None:
    url = bench.web.url(file)

    def once(way: Way) -> tuple[list[Transfer], float]:
        users = [ready_user(bench, way) for _ in range(streams)]
        return load.fetch_on_own_circuits(way, users, url, BULK_LIMIT)

    throughput(bench, figure, streams * FILES[file], streams, once)


def throughput(
    bench: Bench, figure: str, size: int, circuits: int, once: Callable[[Way], tuple[list[Transfer], float]]
) -> None:
    """Runs `once` several times on new circuits that have carried one small request; MB (10^6 bytes) per second."""
    with closing(bench.network.client()) as client:
        speeds, failed = [], 0
        with bench.foreign() as foreign:
            for _ in range(bench.runs):
                client.make_room(circuits)
                transfers, seconds = once(client.way)
                if all(transfer.ok for transfer in transfers) and sum(transfer.bytes for transfer in transfers) == size:
                    speeds.append(size / seconds / 1e6)
                else:
                    failed += 1
        bench.add(figure, "MB/s", speeds, failed, foreign.share)


# --- time to the first byte ---


def ttfb(bench: Bench) -> None:
    with closing(bench.network.client()) as client:
        latency(bench, client.way, "first byte, ready circuit, back to back")
        latency(bench, client.way, "first byte, ready circuit, 150 ms rest before each", rest=REST)


def ttfb_fresh(bench: Bench) -> None:
    with closing(bench.network.client()) as client:
        time.sleep(SETTLE)
        latency(bench, client.way, "first byte, fresh circuit, back to back", user=client.way.new_user)


def latency(
    bench: Bench, way: Way, figure: str, rest: float = 0.0, user: Callable[[], str] | None = None
) -> list[float]:
    """The times to the first byte of 1 KiB, in ms; all on one ready circuit unless `user` names one for each."""
    url, times, failed = bench.web.url("1k"), [], 0
    ready = None if user else ready_user(bench, way)
    with bench.foreign() as foreign:
        for _ in range(bench.requests):
            time.sleep(rest)
            fetched = load.fetch(way, ready or user(), url, REQUEST_LIMIT)
            if fetched.ok and fetched.bytes == KIB:
                times.append(fetched.first_byte * 1000)
            else:
                failed += 1
    bench.add(figure, "ms", times, failed, foreign.share)
    return times


# --- CPU and memory ---


def idle(bench: Bench) -> None:
    """Must come first on its network: these processes have carried nothing yet."""
    with closing(bench.network.client()) as client:
        time.sleep(SETTLE)
        relays = list(bench.network.relays.values())
        bench.add("RSS of an idle relay", "MB", [relay.rss() / 1e6 for relay in relays])
        bench.add("peak RSS of a relay since its start", "MB", [relay.peak_rss() / 1e6 for relay in relays])
        bench.add("RSS of an idle client", "MB", [client.process.rss() / 1e6])
        *of_relays, of_client = idle_cpu([*relays, client.process])
        bench.add("CPU of an idle relay", "ms/s", of_relays)
        bench.add("CPU of an idle client", "ms/s", [of_client])


def idle_cpu(processes: list[Process]) -> list[float]:
    """Milliseconds of CPU that each spends in a second of doing nothing."""
    before = [process.cpu_ns() for process in processes]
    time.sleep(IDLE)
    return [(process.cpu_ns() - start) / 1e6 / IDLE for process, start in zip(processes, before)]


def cpu(bench: Bench) -> None:
    """256 MiB on one stream, and what each role spent on it."""
    with closing(bench.network.path_client()) as client:
        roles = {"client": [client.process], **bench.network.roles()}
        everyone = [process for processes in roles.values() for process in processes]
        for process in everyone:
            process.forget_peak()
        spent, speeds = [], []
        with bench.foreign() as foreign:
            for _ in range(bench.runs):
                if run := cpu_of_one_download(bench, client.way, everyone):
                    spent.append(run[0])
                    speeds.append(run[1])
        failed = bench.runs - len(spent)
        bench.add("1 stream, 256 MiB down, one path", "MB/s", speeds, failed, foreign.share)
        for role, processes in roles.items():
            each = "" if len(processes) == 1 else ", each"
            samples = [sum(run[process.pid] for process in processes) / len(processes) for run in spent]
            bench.add(f"CPU of {role}{each}", "ns/byte", samples, failed, foreign.share)
            bench.add(f"peak RSS of {role}{each}", "MB", [process.peak_rss() / 1e6 for process in processes])
        together = [sum(run.values()) for run in spent]
        bench.add("CPU of client and three relays together", "ns/byte", together, failed, foreign.share)


def cpu_of_one_download(bench: Bench, way: Way, everyone: list[Process]) -> tuple[dict[int, float], float] | None:
    """Each process's CPU in ns per byte, and the speed in MB/s; None if the download failed."""
    user, size = ready_user(bench, way), FILES["256m"]
    before = {process.pid: process.cpu_ns() for process in everyone}
    fetched = load.fetch(way, user, bench.web.url("256m"), BULK_LIMIT)
    if not fetched.ok or fetched.bytes != size:
        return None
    spent = {process.pid: (process.cpu_ns() - before[process.pid]) / size for process in everyone}
    return spent, size / fetched.total / 1e6


def circuits(bench: Bench) -> None:
    """What a circuit costs its relays: CPU to make it, memory to keep it."""
    relays, hops = list(bench.network.relays.values()), bench.circuits * HOPS
    with closing(bench.network.client()) as client:
        client.make_room(bench.circuits + WARM_UP)
        way, url, ready = client.way, bench.web.url("1k"), ready_user(bench, client.way)
        for _ in range(WARM_UP):
            ready_user(bench, way)  # what is allocated only once is not counted
        time.sleep(SETTLE)
        with bench.foreign() as foreign:
            requests = relays_cpu(relays, lambda: load.fetch(way, ready, url, REQUEST_LIMIT), bench.circuits)
            before = sum(relay.heap_rss() for relay in relays)
            fresh = relays_cpu(relays, lambda: ready_user(bench, way), bench.circuits)
            memory = sum(relay.heap_rss() for relay in relays) - before
        handshake = (fresh - requests) / hops / 1e3
        bench.add("relay CPU for one hop of a new circuit", "µs", [handshake], 0, foreign.share)
        bench.add("relay memory for one idle circuit", "KiB", [memory / hops / KIB])


def relays_cpu(relays: list[Process], action: Callable[[], object], times: int) -> float:
    """CPU that all relays together spent on so many actions and the rest after them, in ns."""
    before = sum(relay.cpu_ns() for relay in relays)
    for _ in range(times):
        action()
    time.sleep(SETTLE)
    return sum(relay.cpu_ns() for relay in relays) - before


def start(bench: Bench) -> None:
    """A client's process is started, and asked for a page until one comes."""
    url, times, failed = bench.web.url("1k"), [], 0
    for _ in range(bench.runs):
        began = time.perf_counter()
        with closing(bench.network.launch_client()) as client:
            if until_fetched(client, url, began + 60):
                times.append(time.perf_counter() - began)
            else:
                failed += 1
    bench.add("client start to first byte", "s", times, failed)


def until_fetched(client, url: str, deadline: float) -> bool:
    while time.perf_counter() < deadline:
        if load.fetch(client.way, "start", url, 10).ok:
            return True
        time.sleep(0.01)
    return False


# --- long links ---


def links_down(bench: Bench) -> None:
    for_each_loss(bench, lambda loss: one_stream(bench, f"1 stream, 16 MiB down, {loss:g} % loss", "16m"))


def links_ttfb(bench: Bench) -> None:
    def measure(loss: float) -> None:
        with closing(bench.network.client()) as client:
            time.sleep(SETTLE)
            latency(bench, client.way, f"first byte, ready circuit, {loss:g} % loss")

    for_each_loss(bench, measure)


def links_ttfb_fresh(bench: Bench) -> None:
    def measure(loss: float) -> None:
        with closing(bench.network.client()) as client:
            time.sleep(SETTLE)
            latency(bench, client.way, f"first byte, fresh circuit, {loss:g} % loss", user=client.way.new_user)

    for_each_loss(bench, measure)


def links_beside(bench: Bench) -> None:
    """Small requests alone, and while another circuit through the same relays carries a bulk download."""

    def measure(loss: float) -> None:
        with closing(bench.network.path_client()) as client:
            time.sleep(SETTLE)
            alone = latency(bench, client.way, f"small request alone, one path, {loss:g} % loss")
            user = ready_user(bench, client.way)
            bulk = load.start_endless(client.way, user, bench.web.url(ENDLESS), BULK_LIMIT, bench.processes)
            time.sleep(BULK_LEAD)
            began, written = time.perf_counter(), bulk.written()
            beside = latency(bench, client.way, f"small request beside a bulk download, {loss:g} % loss")
            speed = (bulk.written() - written) / (time.perf_counter() - began) / 1e6 if bulk.alive() else None
            bench.processes.end(bulk)
            bench.add(f"that bulk download, {loss:g} % loss", "MB/s", [speed] if speed else [], int(speed is None))
            if alone and beside:
                ratio = percentile(beside, 95) / percentile(alone, 95)
                bench.add(f"small request, p95 beside ÷ p95 alone, {loss:g} % loss", "×", [ratio])

    for_each_loss(bench, measure)


def for_each_loss(bench: Bench, measure: Callable[[float], None]) -> None:
    for loss in LOSSES:
        bench.wires.set_links(DELAY_MS, loss)
        measure(loss)
        bench.results.note(f"emulator, {bench.section}, {bench.system}, {loss:g} % loss: {bench.wires.counters()}")
    bench.wires.set_links(DELAY_MS, 0)


def ready_user(bench: Bench, way: Way) -> str:
    """A SOCKS user whose circuit is there and has carried one request."""
    user = way.new_user()
    load.fetch(way, user, bench.web.url("1k"), REQUEST_LIMIT)
    return user


LOOPBACK = {
    "idle": idle,
    "ttfb": ttfb,
    "ttfb-fresh": ttfb_fresh,
    "down": down,
    "up": up,
    "down8": down8,
    "down64": down64,
    "down64same": down64same,
    "circuits": circuits,
    "start": start,
}
ONE_PATH = {"cpu": cpu}
LINKS = {
    "links-ttfb": links_ttfb,
    "links-ttfb-fresh": links_ttfb_fresh,
    "links-down": links_down,
    "links-beside": links_beside,
}
WITHOUT_NETWORK = {"ttfb", "down", "up", "links-ttfb", "links-down"}
