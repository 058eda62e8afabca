"""A captioning server on loopback that does what a test tells it to, over real HTTP."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SLOW = 3.0  # seconds, more than the tests wait


@dataclass
class Reply:
    status: int = 200
    body: Any = None  # JSON; bytes are sent as they are
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def caption(text: str) -> Reply:
    return Reply(body={"choices": [{"message": {"role": "assistant", "content": text}}]})


@dataclass
class Log:
    """What the server was asked, and how many requests were under way at most."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    most: int = 0
    running: int = 0


@contextmanager
def serving(answer: Callable[[int, dict[str, Any]], Reply]) -> Iterator[Log]:
    """Serve until the block ends. `answer(number of the request, its JSON)` is called in the order of arrival."""
    log, lock = Log(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(log.requests)
                log.requests.append({"path": self.path, **content})
                log.keys.append(self.headers.get("Authorization"))
                log.times.append(time.monotonic())
                log.running += 1
                log.most = max(log.most, log.running)
                reply = answer(number, content)
            time.sleep(reply.seconds)
            with lock:
                log.running -= 1
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            try:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # the client has gone
                return

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    log.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield log
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
