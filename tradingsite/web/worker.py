"""Gunicorn's threaded worker, but a thread sees a request only once all of it is here.

Its own takes a thread for whoever connects, and as many clients as there are threads that send
slowly, or never finish, keep everybody else out: the kill switch too. Here one loop receives from
all of them and a thread is taken for what can be answered at once.
"""

import re
import selectors
import socket
import struct
import time
from functools import partial
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

WHOLE_WITHIN_SECONDS = 10.0
"""From a connection, or the last answer on it, to the last byte of a request."""
MOST_HEADER_BYTES = 64 * 1024
MOST_BODY_BYTES = 1024 * 1024
SEND_SECONDS = 5
"""In which a client must take something of its answer."""
SEND_BUFFER_BYTES = 1024 * 1024  # as much of it as the kernel allows: a page leaves its thread
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue", re.IGNORECASE)
_TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Arriving(TConn):
    """A connection with what has come of its next request."""

    received = b""
    whole_until = 0.0
    is_told_to_go_on = False


class BufferingWorker(ThreadWorker):
    """Receive requests in the loop, answer them in threads."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._arriving: set[Arriving] = set()

    def accept(self, listener: socket.socket) -> None:
        """Take a connection up without a thread."""
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        seconds = struct.pack("ll", SEND_SECONDS, 0)
        for name in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            client.setsockopt(socket.SOL_SOCKET, name, seconds)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.nr_conns += 1
        self._await(Arriving(self.cfg, client, address, listener.getsockname()))

    def on_client_socket_readable(self, conn: Arriving, client: socket.socket) -> None:
        """Receive the next request of a connection that was kept."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._await(conn)
        self._receive(conn, client)

    def handle(self, conn: Arriving) -> Any:
        """Answer a request that is here, in a thread."""
        conn.init()
        received, conn.received = conn.received, b""
        conn.parser.unreader.unread(received)
        conn.data_ready = True
        return super().handle(conn)

    def finish_request(self, conn: Arriving, fs: Any) -> None:
        """Go on with a connection; what came behind a request is the beginning of the next."""
        if not fs.cancelled() and fs.exception() is None and fs.result() is True:
            rest = conn.parser.unreader.take_buffered()
            if rest:
                conn.sock.setblocking(False)
                self._await(conn, rest)
                return
        super().finish_request(conn, fs)

    def murder_pending(self) -> None:
        """Close what has not become a request in time; all of it when the worker stops."""
        super().murder_pending()
        now = time.monotonic()
        for conn in [each for each in self._arriving if now > each.whole_until or not self.alive]:
            self._drop(conn)

    def _await(self, conn: Arriving, received: bytes = b"") -> None:
        conn.received, conn.is_told_to_go_on = received, False
        conn.whole_until = time.monotonic() + WHOLE_WITHIN_SECONDS
        self._arriving.add(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._receive, conn))
        if received:
            self._look(conn)

    def _receive(self, conn: Arriving, client: socket.socket) -> None:
        try:
            data = client.recv(MOST_HEADER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(conn)
            return
        conn.received += data
        self._look(conn)

    def _look(self, conn: Arriving) -> None:
        """Hand a whole request to a thread, and end one that is too large."""
        head, is_complete, body = conn.received.partition(b"\r\n\r\n")
        found = _LENGTH.search(head + b"\r\n")
        length = int(found[1]) if found else 0
        if max(length, len(body)) > MOST_BODY_BYTES or len(head) > MOST_HEADER_BYTES:
            conn.sock.send(_TOO_LARGE)
            self._drop(conn)
            return
        if not is_complete:
            return
        is_here = body.endswith(b"0\r\n\r\n") if _CHUNKED.search(head) else len(body) >= length
        if not is_here:
            if _EXPECTS.search(head) and not conn.is_told_to_go_on:
                conn.is_told_to_go_on = True
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        self._arriving.discard(conn)
        self.poller.unregister(conn.sock)
        self.enqueue_req(conn)

    def _drop(self, conn: Arriving) -> None:
        self._arriving.discard(conn)
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()
