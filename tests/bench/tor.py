"""A private Tor network, to be measured side by side: 3 authorities that also relay, 2 relays, 3 exits, one client.

Its consensus carries the performance parameters of the public network's (as published; without the denial-of-service
limits, which would throttle a network whose clients all have one address). `live` is that; `vanilla` is the same with
`Schedulers Vanilla` on every node, which spares the scheduler's ticks and is Tor's best case here.
"""

import re
import shutil
import time
from pathlib import Path

from load import Way, fetch
from process import SEARCH_PATH, Failed, Process, Processes, run

AUTHORITIES = ["auth1", "auth2", "auth3"]
EXITS = ["r3", "r4", "r5"]
RELAYS = [*AUTHORITIES, "r1", "r2", *EXITS]
PINNED = {"guard": "r1", "middle": "r2", "exit": "r3"}
VOTING_INTERVAL, VOTE_DELAY = 20, 4  # seconds
START_TIMEOUT = 150.0
SCHEDULERS = {"live": "", "vanilla": "Schedulers Vanilla\n"}
NO_FINGERPRINT = "0" * 39


class Client:
    """A running Tor client, as a way for curl."""

    def __init__(self, network: "Tor", name: str, way: Way, kept: bool):
        self._network = network
        self._name = name
        self._kept = kept
        self.way = way
        self.process = network.start(name, way.host)

    def wait_ready(self) -> None:
        """Waits until a page comes through the network."""
        end = time.monotonic() + START_TIMEOUT
        while not fetch(self.way, self.way.new_user(), self._network.probe_url, 10).ok:
            if time.monotonic() > end or not self.process.alive():
                raise Failed(f"{self._name} fetched nothing in {START_TIMEOUT:.0f} s; see {self.process.log}")
            time.sleep(0.05)

    def make_room(self, circuits: int) -> None:
        """Tor has no bound on circuits that a run would reach."""

    def close(self) -> None:
        """Ends a client of one measurement; the long-lived ones go on, as they would on a person's machine."""
        if not self._kept:
            self._network.processes.end(self.process)


class Tor:
    """The private network in one of its configurations, and its long-lived clients."""

    def __init__(self, wires, processes: Processes, directory: Path, options, configuration: str, probe_url: str):
        self.wires = wires
        self.processes = processes
        self.probe_url = probe_url
        self.relays: dict[str, Process] = {}
        self._directory = directory / "tor"
        self._scheduler = SCHEDULERS[configuration]
        self._clients: dict[str, Client] = {}
        self._ports = {name: (wires.port(wires.host(name)), wires.port(wires.host(name))) for name in RELAYS}
        self._fingerprints: dict[str, str] = {}
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir()

    def up(self, _relays: int) -> None:
        for name in RELAYS:
            self._make_keys(name)
        authorities = "".join(self._authority_line(name) for name in AUTHORITIES)
        self._authority_lines = authorities
        for name in RELAYS:
            with open(self._torrc(name), "a") as torrc:
                torrc.write(authorities)
            self.relays[name] = self.start(name, self.wires.host(name))
        self.client()

    def down(self) -> None:
        running = [*(client.process for client in self._clients.values()), *self.relays.values()]
        for process in running:
            process.signal(15)
        for process in running:
            self.processes.end(process)
        self._clients.clear()
        self.relays.clear()

    def launch_client(self) -> Client:
        """Starts a client with an empty data directory, and does not wait until it is ready."""
        return self._launch("fresh", "", kept=False)

    def client(self) -> Client:
        """The client with Tor's own choice of paths."""
        return self._kept("client", "")

    def path_client(self) -> Client:
        """A client all of whose circuits go through the same three relays, without conflux."""
        pins = zip(("EntryNodes", "MiddleNodes", "ExitNodes"), PINNED.values())
        lines = [f"{option} ${self._fingerprints[name]}" for option, name in pins]
        return self._kept("pinned", "\n".join([*lines, "StrictNodes 1", "ConfluxEnabled 0", ""]))

    def roles(self) -> dict[str, list[Process]]:
        """Which processes carry the bytes of the path client."""
        guard, middle, exit_relay = (self.relays[name] for name in PINNED.values())
        return {"guard and middle": [guard, middle], "exit": [exit_relay]}

    def start(self, name: str, host) -> Process:
        return self.processes.start(host, name, ["tor", "-f", str(self._torrc(name))])

    def _kept(self, name: str, extra: str) -> Client:
        if name not in self._clients:
            self._clients[name] = self._launch(name, extra, kept=True)
            self._clients[name].wait_ready()
        return self._clients[name]

    def _launch(self, name: str, extra: str, kept: bool) -> Client:
        shutil.rmtree(self._directory / name, ignore_errors=True)
        host = self.wires.host("client")
        way = Way(host, f"127.0.0.1:{self.wires.port(host)}")
        self._write_torrc(name, f"SocksPort {way.socks}\n{extra}{self._authority_lines}")
        return Client(self, name, way, kept)

    def _make_keys(self, name: str) -> None:
        or_port, dir_port = self._ports[name]
        ip = self.wires.host(name).ip
        text = RELAY.format(ip=ip, or_port=or_port, exit=int(name in EXITS))
        text += EXIT if name in EXITS else ""
        if name in AUTHORITIES:
            text += AUTHORITY.format(ip=ip, dir_port=dir_port, name=name, interval=VOTING_INTERVAL, delay=VOTE_DELAY)
        self._write_torrc(name, text)
        if name in AUTHORITIES:
            self._make_certificate(name, f"{ip}:{dir_port}")
        nobody = f"nobody orport=9 v3ident={NO_FINGERPRINT}1 127.0.0.1:9 {NO_FINGERPRINT}2"
        command = ["tor", "-f", str(self._torrc(name)), "--list-fingerprint", "--DirAuthority", nobody]
        run([*command, "--Log", "err stderr"])
        self._fingerprints[name] = (self._directory / name / "fingerprint").read_text().split()[1]

    def _make_certificate(self, name: str, address: str) -> None:
        keys = self._directory / name / "keys"
        keys.mkdir(mode=0o700)
        command = ["tor-gencert", "--create-identity-key", "--passphrase-fd", "0", "-m", "12", "-a", address]
        command += ["-i", str(keys / "authority_identity_key"), "-s", str(keys / "authority_signing_key")]
        run([*command, "-c", str(keys / "authority_certificate")], text_in="x\n")

    def _authority_line(self, name: str) -> str:
        certificate = (self._directory / name / "keys" / "authority_certificate").read_text()
        identity = re.search(r"^fingerprint (\S+)", certificate, re.M)
        if identity is None:
            raise Failed(f"tor-gencert wrote no fingerprint for {name}")
        or_port, dir_port = self._ports[name]
        place = f"{self.wires.host(name).ip}:{dir_port} {self._fingerprints[name]}"
        return f"DirAuthority {name} orport={or_port} no-v2 v3ident={identity[1]} {place}\n"

    def _write_torrc(self, name: str, text: str) -> None:
        home = self._directory / name
        home.mkdir(mode=0o700)
        self._torrc(name).write_text(COMMON.format(home=home, name=name) + self._scheduler + text)

    def _torrc(self, name: str) -> Path:
        return self._directory / name / "torrc"


def check(_options) -> None:
    """Fails, saying what to do, when Tor is not installed."""
    if not (shutil.which("tor", path=SEARCH_PATH) and shutil.which("tor-gencert", path=SEARCH_PATH)):
        raise Failed("no tor or tor-gencert here: `apt-get install tor`, or run without --tor")


COMMON = """TestingTorNetwork 1
PathsNeededToBuildCircuits 0.67
V3AuthNIntervalsValid 2
DataDirectory {home}
Nickname {name}
RunAsDaemon 0
ShutdownWaitLength 1
Log notice stdout
SafeLogging 0
"""

RELAY = """SocksPort 0
OrPort {ip}:{or_port}
Address {ip}
AssumeReachable 1
ExitRelay {exit}
ServerDNSDetectHijacking 0
ServerDNSTestAddresses
ServerDNSResolvConfFile /dev/null
"""

# "accept *:*" is what makes the summary of the policy usable; no client here asks for any other address.
EXIT = """ExitPolicyRejectPrivate 0
ExitPolicy accept 127.0.0.0/8:*
ExitPolicy accept private:*
ExitPolicy accept *:*
"""

CONSENSUS_PARAMETERS = (
    "CircuitPriorityHalflifeMsec=30000 ExtendByEd25519ID=1 KISTSchedRunInterval=3 NumNTorsPerTAP=100 "
    "UseOptimisticData=1 bwscanner_cc=1 cbttestfreq=10 cc_alg=2 cc_cwnd_full_gap=4 cc_cwnd_full_minpct=25 "
    "cc_cwnd_inc=1 cc_cwnd_inc_rate=31 cc_cwnd_min=124 cc_sscap_exit=600 cc_sscap_onion=475 "
    "cc_vegas_alpha_exit=186 cc_vegas_beta_onion=372 cc_vegas_delta_exit=310 cc_vegas_delta_onion=434 "
    "cc_vegas_gamma_onion=248 cfx_low_exit_threshold=5000 circ_max_cell_queue_size=1250 "
    "circ_max_cell_queue_size_out=1000 guard-n-primary-dir-guards-to-use=2 guard-n-primary-guards-to-use=2 "
    "hs_service_max_rdv_failures=1 hsdir_spread_store=4 sendme_accept_min_version=1"
)

AUTHORITY = (
    """DirPort {ip}:{dir_port}
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
ContactInfo {name}@test.test
TestingDirAuthVoteExit *
TestingDirAuthVoteGuard *
TestingDirAuthVoteHSDir *
TestingMinExitFlagThreshold 0
AuthDirFastGuarantee 1 KBytes
TestingV3AuthInitialVotingInterval {interval}
TestingV3AuthInitialVoteDelay {delay}
TestingV3AuthInitialDistDelay {delay}
V3AuthVotingInterval {interval}
V3AuthVoteDelay {delay}
V3AuthDistDelay {delay}
ConsensusParams """
    + CONSENSUS_PARAMETERS
    + "\n"
)
