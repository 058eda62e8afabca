"""What every HTML page of ours must do in a browser, whoever opens it: `browser` is the fixture of that name."""

from pathlib import Path

VIEWPORTS = ((1280, "light"), (390, "light"), (1280, "dark"))
# Videos outside the window are paused by the browser: each is brought into it before it is asked.
ALL_PLAY = """async () => {
  const still = [];
  for (const video of document.querySelectorAll("video")) {
    video.scrollIntoView({block: "center"});
    await video.play();
    const before = video.currentTime;
    for (let tries = 0; tries < 400 && video.currentTime === before; tries++)
      await new Promise((done) => setTimeout(done, 50));
    if (video.readyState < 2 || video.currentTime === before) still.push(video.getAttribute("aria-label"));
  }
  return still;
}"""


def check_opens_quietly_and_fits(browser, path: Path, width: int, scheme: str) -> None:
    """No console line, no request besides the file itself, no sideways scrolling."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_load_state("networkidle")
    assert said == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def check_all_videos_play(browser, path: Path) -> int:
    """How many videos there are, once each has been seen to move."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(path.as_uri())
    assert page.evaluate(ALL_PLAY) == []
    count: int = page.evaluate("document.querySelectorAll('video').length")
    page.close()
    return count
