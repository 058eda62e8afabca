"""A captioning model behind an OpenAI-compatible server, as vLLM is: one request per clip, frames as pictures.

Servers are busy, restart and time out, so a request that may succeed later is sent again with growing pauses. What
will not get better by waiting (a wrong key, an unknown model) stops the stage with a sentence; what concerns one
clip becomes its reason.
"""

import base64
import logging
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from components.data.captions import CaptionProblem
from components.data.config import VisionConfig
from components.data.pool import RejectedError
from components.errors import UserError
from components.runtime import CAPTION_KEY

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)
BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
REFUSED_KEY = frozenset({401, 403})
LONGEST_PAUSE = 60.0  # seconds, whatever the server asks for
SILENT = 3  # clips in a row that nobody answered, before any was answered: the server is not there


@dataclass(frozen=True)
class Server:
    """Where the model is, and how patient to be. `pause`: seconds before the first repetition; then twice that.

    `patience`: seconds in which no request got what it asked for, after which the server is taken to be gone.
    """

    url: str  # as http://host:8000/v1
    key: str | None
    seconds: float
    retries: int
    pause: float = 1.0
    patience: float = 600.0


class Endpoint:
    """Callable from several threads. Counts requests against the budget."""

    def __init__(self, server: Server, config: VisionConfig) -> None:
        import httpx

        headers = {"Authorization": f"Bearer {server.key}"} if server.key else {}
        self.server = server
        self.config = config
        self.requests = 0
        self._answered = 0
        self._silent = 0
        # when requests were made of which nothing came, since the last caption
        self._in_vain: list[float] = []
        self._lock = threading.Lock()
        # `runtime.caption_requests` says how many are under way: the library would keep all but 100 waiting
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.Client(headers=headers, timeout=server.seconds, limits=limits, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def __call__(self, pictures: Sequence[bytes]) -> str:
        """The model's words. Raises `RejectedError` with a reason code, `UserError` if asking on is pointless."""
        problem = CaptionProblem.UNAVAILABLE
        for attempt in range(self.server.retries + 1):
            self._spend()
            try:
                response = self._post(pictures)
            except RejectedError as error:
                problem, pause = CaptionProblem(error.reason), None
            else:
                if response.status_code == 200:
                    text = _text_of(response)
                    if text is not None:
                        self._note(answered=True)
                        self._in_vain = []
                        return text
                    problem, pause = CaptionProblem.MALFORMED, None
                else:
                    self._note(answered=True)
                    self._raise_final(response)
                    problem, pause = CaptionProblem.UNAVAILABLE, _asked_pause(response)
            self._check_patience()
            if attempt < self.server.retries:
                time.sleep(self._pause(attempt, pause))
        raise RejectedError(problem, f"{self.server.retries + 1} requests without a caption")

    def _post(self, pictures: Sequence[bytes]) -> "httpx.Response":
        import httpx

        try:
            return self._client.post(
                f"{self.server.url.rstrip('/')}/chat/completions", json=message(pictures, self.config)
            )
        except httpx.TimeoutException as error:
            self._note(answered=False)
            raise RejectedError(CaptionProblem.TIMED_OUT, str(error)) from None
        except httpx.HTTPError as error:
            self._note(answered=False)
            raise RejectedError(CaptionProblem.UNAVAILABLE, str(error)) from None

    def _spend(self) -> None:
        with self._lock:
            if self.config.max_requests is not None and self.requests >= self.config.max_requests:
                raise RejectedError(CaptionProblem.OVER_BUDGET)
            self.requests += 1

    def _note(self, *, answered: bool) -> None:
        with self._lock:
            self._answered += answered
            self._silent += not answered
            if not self._answered and self._silent >= SILENT * (self.server.retries + 1):
                raise UserError(
                    f"{self.server.url} does not answer ({self._silent} requests): is the server up?"
                    " `runtime.caption_endpoint` says where it is, as http://host:8000/v1"
                )

    def _check_patience(self) -> None:
        """Raise where nothing has come of any request for long: a gateway answers for a server that is gone."""
        with self._lock:
            self._in_vain.append(time.monotonic())
            seconds, requests = self._in_vain[-1] - self._in_vain[0], len(self._in_vain)
        patience = max(self.server.patience, self.server.seconds)
        if seconds > patience and requests > SILENT * (self.server.retries + 1):
            raise UserError(
                f"{self.server.url} has given no caption for {seconds / 60:.0f} min: is the server up? What it"
                " has said is kept: `reelforge run` goes on from there"
            )

    def _raise_final(self, response: "httpx.Response") -> None:
        """Raise where another try would end the same way."""
        status, said = response.status_code, " ".join(response.text.split())[:300]
        if status in REFUSED_KEY:
            how = "the key was refused" if self.server.key else f"it wants a key: set {CAPTION_KEY}"
            raise UserError(
                f"{self.server.url}: {how} (HTTP {status}, environment variable {CAPTION_KEY}): {said}"
            )
        if status == 404:
            raise UserError(
                f"{self.server.url} has no model `{self.config.model}`, or is no OpenAI-compatible endpoint"
                f" (HTTP 404): {said}; see `caption.vision.model` and `runtime.caption_endpoint`"
            )
        if status not in BUSY:
            self._in_vain = []
            raise RejectedError(CaptionProblem.REFUSED, f"HTTP {status}: {said}")

    def _pause(self, attempt: int, asked: float | None) -> float:
        """Twice as long each time, and up to half more by chance, so that clients do not come back together."""
        if asked is not None:
            return min(asked, LONGEST_PAUSE)
        doubled: float = self.server.pause * 2.0**attempt
        return min(doubled, LONGEST_PAUSE) * (1 + random.random() / 2)


def message(pictures: Sequence[bytes], config: VisionConfig) -> dict[str, Any]:
    """The request of one clip; the answer of a server is as repeatable as it can make it."""
    shown = [
        {
            "type": "image_url",
            "image_url": {"url": f"data:image/jpeg;base64,{base64.b64encode(one).decode()}"},
        }
        for one in pictures
    ]
    content = [*shown, {"type": "text", "text": config.prompt}]
    return {
        "model": config.model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": config.max_tokens,
        "temperature": 0,
        "seed": 0,
    }


def _text_of(response: "httpx.Response") -> str | None:
    """The caption in an answer; None where it is not what the protocol promises."""
    try:
        text = response.json()["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        return None
    return text if isinstance(text, str) and text.strip() else None


def _asked_pause(response: "httpx.Response") -> float | None:
    """Seconds of a `Retry-After` header, which holds a number or a date."""
    value = response.headers.get("Retry-After", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
