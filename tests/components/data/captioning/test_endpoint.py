"""The endpoint client against a real server on loopback: what it sends, and what it makes of bad answers."""

import base64
import contextlib
import itertools
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from caption_server import SLOW, Reply, caption, serving

from components.data.captioning.endpoint import Endpoint, Server
from components.data.config import VisionConfig
from components.data.pool import RejectedError
from components.errors import UserError

PICTURES = [b"first picture", b"second picture"]
CONFIG = VisionConfig(model="tiny-vision", prompt="What is seen?", max_tokens=50)


def ask(log, *, retries=2, seconds=1.0, pause=0.02, key=None, config=CONFIG, times=1):
    endpoint = Endpoint(Server(log.url, key, seconds, retries, pause), config)
    try:
        return [endpoint(PICTURES) for _ in range(times)]
    finally:
        endpoint.close()


def reason(log, **how):
    with pytest.raises(RejectedError) as rejected:
        ask(log, **how)
    return str(rejected.value.reason)


def test_a_request_is_the_published_protocol_with_the_frames_as_pictures():
    with serving(lambda *_: caption("a cat")) as log:
        assert ask(log, key="secret") == ["a cat"]
    (request,) = log.requests
    assert request["path"] == "/v1/chat/completions"
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("tiny-vision", 50, 0)
    *pictures, text = request["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is seen?"}
    prefix = "data:image/jpeg;base64,"
    urls = [picture["image_url"]["url"] for picture in pictures]
    assert [base64.b64decode(url.removeprefix(prefix)) for url in urls] == PICTURES
    assert log.keys == ["Bearer secret"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 408])
def test_a_busy_server_is_asked_again_with_growing_pauses(status):
    with serving(lambda n, _: Reply(status, {}) if n < 3 else caption("a dog")) as log:
        assert ask(log, retries=3, pause=0.05) == ["a dog"]
    pauses = [later - earlier for earlier, later in itertools.pairwise(log.times)]
    for index, pause in enumerate(pauses):
        assert 0.05 * 2**index <= pause < 0.05 * 2**index * 1.5 + 0.5


def test_a_server_says_when_to_come_back():
    busy = Reply(429, {}, headers={"Retry-After": "0.4"})
    with serving(lambda n, _: busy if n == 0 else caption("a dog")) as log:
        ask(log, pause=0.01)
    assert log.times[1] - log.times[0] >= 0.4


def test_a_server_that_stays_busy_costs_the_clip_its_caption():
    with serving(lambda *_: Reply(503, {})) as log:
        assert reason(log, retries=2) == "caption_unavailable"
    assert len(log.requests) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"<html>gateway</html>",
        {"choices": []},
        {"choices": [{"message": {"content": None}}]},
        [1],
        {"error": "x"},
    ],
    ids=str,
)
def test_an_answer_that_is_no_caption_is_asked_for_again_and_then_named(body):
    with serving(lambda n, _: Reply(200, body) if n == 0 else caption("a fox")) as log:
        assert ask(log) == ["a fox"]
    with serving(lambda *_: Reply(200, body)) as log:
        assert reason(log) == "caption_malformed"


def test_a_request_that_takes_too_long_is_given_up_and_sent_again():
    slow = caption("too late")
    slow.seconds = SLOW
    with serving(lambda n, _: slow if n == 0 else caption("in time")) as log:
        assert ask(log, seconds=0.3) == ["in time"]
    with serving(lambda *_: slow) as log:
        assert reason(log, seconds=0.2, retries=1) == "caption_timed_out"


def test_a_clip_that_the_server_will_not_take_is_not_sent_twice():
    with serving(lambda *_: Reply(400, {"error": "picture too large"})) as log:
        assert reason(log) == "caption_refused"
    assert len(log.requests) == 1


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "REELFORGE_CAPTION_API_KEY"), (403, "REELFORGE_CAPTION_API_KEY"), (404, "tiny-vision")],
)
def test_what_waiting_does_not_mend_stops_the_stage_with_the_way_out(status, said):
    with serving(lambda *_: Reply(status, {"error": "no"})) as log, pytest.raises(UserError, match=said):
        ask(log)
    assert len(log.requests) == 1


def test_a_key_is_never_in_a_message():
    with serving(lambda *_: Reply(401, {"error": "no"})) as log, pytest.raises(UserError) as refused:
        ask(log, key="very-secret")
    assert "very-secret" not in str(refused.value)


def test_nobody_at_the_address_is_said_by_name():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = Server(f"http://127.0.0.1:{free.getsockname()[1]}/v1", None, 1.0, 1, 0.01)
    endpoint = Endpoint(server, CONFIG)
    with pytest.raises(UserError, match="does not answer"):
        for _ in range(5):
            with pytest.raises(RejectedError):
                endpoint(PICTURES)
    endpoint.close()


@pytest.mark.parametrize("gone", [Reply(502, {}), Reply(200, b"<html>starting</html>")], ids=["502", "page"])
def test_a_server_that_is_gone_for_long_in_the_middle_ends_the_stage(gone):
    """Else each of the millions of clips that are left is asked about in vain, with all its pauses."""
    with serving(lambda n, _: caption("a dog") if n < 2 else gone) as log:
        endpoint = Endpoint(Server(log.url, None, 0.3, 1, 0.01, patience=0.4), CONFIG)
        assert [endpoint(PICTURES) for _ in range(2)] == ["a dog"] * 2
        with pytest.raises(UserError, match=r"(?s)no caption for .*What it has said is kept"):
            for _ in range(200):
                with contextlib.suppress(RejectedError):
                    endpoint(PICTURES)
        endpoint.close()
    assert 4 < len(log.requests) < 200


def test_an_answer_now_and_then_keeps_the_stage_going():
    with serving(lambda n, _: caption("a dog") if n % 4 == 3 else Reply(503, {})) as log:
        endpoint = Endpoint(Server(log.url, None, 0.3, 3, 0.05, patience=0.8), CONFIG)
        assert [endpoint(PICTURES) for _ in range(4)] == ["a dog"] * 4  # 0.35 s of pauses for each
        endpoint.close()


def test_as_many_requests_are_under_way_as_there_are_threads():
    """The client's own limit is 100; `runtime.caption_requests` may ask for more of a large server."""
    slow = caption("a dog")
    slow.seconds = 2.5
    with serving(lambda *_: slow) as log, ThreadPoolExecutor(120) as pool:
        endpoint = Endpoint(Server(log.url, None, 30.0, 0), CONFIG)
        asked = []
        for _ in range(120):
            asked.append(pool.submit(endpoint, PICTURES))
            time.sleep(0.005)
        assert [each.result() for each in asked] == ["a dog"] * 120
        endpoint.close()
    assert log.most > 100


def test_the_budget_counts_every_request_and_is_never_exceeded():
    config = CONFIG.model_copy(update={"max_requests": 4})
    with serving(lambda n, _: Reply(500, {}) if n % 2 == 0 else caption("ok")) as log:
        assert reason(log, config=config, times=3) == "caption_over_budget"
    assert len(log.requests) == 4
