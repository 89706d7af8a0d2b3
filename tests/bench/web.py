"""What the load generator talks to: nginx with files of known sizes, and the upload sink."""

import os
import shutil
import sys
from pathlib import Path

from process import Host, Process, Processes

HERE = Path(__file__).parent
KIB, MIB = 1 << 10, 1 << 20
FILES = {"1k": KIB, "2m": 2 * MIB, "16m": 16 * MIB, "64m": 64 * MIB, "256m": 256 * MIB}
ENDLESS = "4g"  # longer than any run; a hole, so it takes no memory
NGINX = """daemon off; master_process off; {user} pid {home}/nginx.pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_timeout 30; default_type application/octet-stream;
    client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
    server {{ listen {ip}:{port}; root {files}; }}
}}
"""


def make_files(directory: Path) -> Path:
    """Writes the files to be served, once for all networks of a run."""
    files = directory / "www"
    files.mkdir()
    block = os.urandom(MIB)
    for name, size in FILES.items():
        with open(files / name, "wb") as file:
            for offset in range(0, size, MIB):
                file.write(block[: min(MIB, size - offset)])
    with open(files / ENDLESS, "wb") as file:
        file.truncate(4 << 30)
    return files


class Web:
    """The two servers on one host of a network."""

    def __init__(self, network, processes: Processes, directory: Path, files: Path):
        host: Host = network.host("server")
        self.files = files
        self._processes = processes
        self._base = f"http://{host.ip}:{network.port(host)}"
        self._sink = f"http://{host.ip}:{network.port(host)}/"
        self._servers = [self._start_nginx(host, directory), self._start_sink(host)]

    def url(self, name: str) -> str:
        return f"{self._base}/{name}"

    def upload_url(self) -> str:
        return self._sink

    def down(self) -> None:
        for server in self._servers:
            self._processes.end(server)

    def _start_nginx(self, host: Host, directory: Path) -> Process:
        home = directory / "nginx"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        user = "user root;" if os.getuid() == 0 else ""  # one process of our own, with our rights
        port = self._base.rsplit(":", 1)[1]
        configuration = NGINX.format(user=user, home=home, ip=host.ip, port=port, files=self.files)
        (home / "nginx.conf").write_text(configuration)
        command = ["nginx", "-e", "stderr", "-p", str(home), "-c", str(home / "nginx.conf")]
        return self._processes.start(host, "nginx", command)

    def _start_sink(self, host: Host) -> Process:
        ip, port = self._sink.removeprefix("http://").rstrip("/").rsplit(":", 1)
        sink = self._processes.start(host, "sink", [sys.executable, str(HERE / "sink.py"), ip, port])
        sink.wait_for("listening", 10)
        return sink
