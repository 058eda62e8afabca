"""An S3 endpoint on loopback, and a proxy before it that counts bytes, slows down and breaks connections off."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from components import object_store

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
SLOW_DOWN = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n"
UNSET = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL_S3")


@contextmanager
def server() -> Iterator[str]:
    """URL of a running moto server."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        running.stop()


def use(url: str, monkeypatch: Any, **more: str) -> None:
    """Point this process, and the workers it starts from now on, at an endpoint."""
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    settings = {**KEYS, "AWS_ENDPOINT_URL": url, "AWS_EC2_METADATA_DISABLED": "true", **more}
    for name, value in {
        **settings,
        "AWS_CONFIG_FILE": "/none",
        "AWS_SHARED_CREDENTIALS_FILE": "/none",
    }.items():
        monkeypatch.setenv(name, value)
    forget()


def forget() -> None:
    """Clients of this process, and the server that workers are forked from, know the environment they began with."""
    from multiprocessing import forkserver

    object_store.client.cache_clear()
    forkserver._forkserver._stop()


@contextmanager
def enforced(url: str) -> Iterator[None]:
    """Within the block the server checks credentials and permissions."""
    _set_free_requests(url, "0")
    try:
        yield
    finally:
        _set_free_requests(url, "inf")


def _set_free_requests(url: str, count: str) -> None:
    plain = {"Content-Type": "text/plain"}
    with urlopen(Request(f"{url}/moto-api/reset-auth", count.encode(), plain, method="POST")):
        pass


def client(url: str) -> Any:
    """A client that is not ours, for what tests put into buckets and look for there."""
    import boto3

    return boto3.session.Session().client("s3", endpoint_url=url)


def user_with(url: str, policy: str) -> SimpleNamespace:
    """Keys of a user who may do what the policy says."""
    import boto3

    iam = boto3.session.Session().client("iam", endpoint_url=url)
    name = f"user-{len(iam.list_users()['Users'])}"
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return SimpleNamespace(key=made["AccessKeyId"], secret=made["SecretAccessKey"])


def user_with_nothing(url: str) -> SimpleNamespace:
    """Keys of a user who may look at buckets of others only."""
    nothing = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}]}'
    )
    return user_with(url, nothing)


@dataclass
class Proxy:
    """Passes connections on to a server. `breaks(request)` says after how many bytes of the answer to break off."""

    target: str
    breaks: Callable[[bytes], int | None] = lambda _request: None
    refuses: int = 0  # requests for content that are answered by 503, before any is passed on
    upload_pause: float = 0.0  # seconds before each piece that a client sends
    received: int = 0  # bytes from the server
    sent: int = 0  # bytes to the server
    broken: int = 0
    _listener: socket.socket = field(default_factory=socket.socket)

    def __enter__(self) -> Self:
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(ours,), daemon=True).start()

    def _serve(self, ours: socket.socket) -> None:
        there = urlsplit(self.target)
        with closing(ours), closing(socket.create_connection((there.hostname, there.port))) as theirs:
            left: list[int | None] = [None]  # of the answer that is under way
            threading.Thread(target=self._send, args=(ours, theirs, left), daemon=True).start()
            with suppress(OSError):
                while piece := theirs.recv(1 << 14):
                    self.received += len(piece)
                    if left[0] is not None and len(piece) > left[0]:
                        self.broken += 1
                        ours.sendall(piece[: left[0]])
                        break
                    if left[0] is not None:
                        left[0] -= len(piece)
                    ours.sendall(piece)
            for end in (ours, theirs):  # closing alone would wait for the thread that reads from it
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _send(self, ours: socket.socket, theirs: socket.socket, left: list[int | None]) -> None:
        with suppress(OSError):
            while piece := ours.recv(1 << 16):
                if piece.startswith((b"GET ", b"HEAD ", b"PUT ", b"POST ")):
                    left[0] = self.breaks(piece)
                if self.refuses and is_for_content(piece):
                    self.refuses -= 1
                    ours.sendall(SLOW_DOWN)
                    continue
                self.sent += len(piece)
                threading.Event().wait(self.upload_pause)
                theirs.sendall(piece)
            theirs.shutdown(socket.SHUT_WR)


def is_for_content(request: bytes) -> bool:
    """True for a request for the bytes of an object."""
    return request.startswith(b"GET ") and b"\r\nrange:" in request.lower()


def first(count: int, after: int) -> Callable[[bytes], int | None]:
    """Breaks off the first `count` answers with an object's content, after so many bytes."""
    lock, seen = threading.Lock(), [0]

    def breaks(request: bytes) -> int | None:
        if not is_for_content(request):
            return None
        with lock:
            seen[0] += 1
            return after if seen[0] <= count else None

    return breaks
