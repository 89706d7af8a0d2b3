"""sink.py IP PORT: takes HTTP uploads, throws their bytes away, answers 200 when all have come."""

import re
import socket
import sys
import threading

HEADERS_MAX = 65_536
READ = 1 << 18
IDLE_TIMEOUT = 120.0  # seconds


def main() -> None:
    with socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=256) as server:
        print("listening", flush=True)
        while True:
            connection, _ = server.accept()
            connection.settimeout(IDLE_TIMEOUT)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


def serve(connection: socket.socket) -> None:
    with connection:
        headers, body = read_headers(connection)
        length = re.search(rb"(?i)content-length: *(\d+)", headers)
        if length is None:
            return
        left = int(length.group(1)) - len(body)
        buffer = bytearray(READ)
        while left > 0:
            count = connection.recv_into(buffer)
            if count == 0:
                return
            left -= count
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def read_headers(connection: socket.socket) -> tuple[bytes, bytes]:
    """The request's headers, and what has come of its body with them."""
    received = b""
    while b"\r\n\r\n" not in received and len(received) < HEADERS_MAX:
        piece = connection.recv(HEADERS_MAX)
        if not piece:
            break
        received += piece
    headers, _, body = received.partition(b"\r\n\r\n")
    return headers, body


if __name__ == "__main__":
    main()
