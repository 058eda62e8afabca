"""Work that a training run hands to a thread: at most one piece at a time, tried again when the disk or store fails.

Training goes on meanwhile. What went wrong for good is said at the next step, in the thread that trains.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from components.errors import UserError

log = logging.getLogger(__name__)
PAUSES = (5.0, 30.0, 120.0, 300.0)  # seconds before another try: a full disk is cleared, a store comes back


class Background:
    """A thread for one piece of work at a time."""

    def __init__(self, pauses: Sequence[float] = PAUSES) -> None:
        self.pauses = tuple(pauses)
        self.closing = threading.Event()  # no more pauses: the run is over
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._what = ""

    def start(self, work: Callable[[], None], what: str, way_out: str) -> None:
        """Begin `work`, which can be done again from its start; waits for the piece before it."""
        self.wait()
        self._what, self._way_out = what, way_out
        self._thread = threading.Thread(target=self._do, args=(work,), name="checkpoint", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> bool:
        """True where a piece was given up."""
        return self._failure is not None

    def check(self) -> None:
        """Raises `UserError` saying what could not be done, and the way out."""
        if self._failure is None:
            return
        error, self._failure = self._failure, None
        if not isinstance(error, OSError):
            raise error
        raise UserError(
            f"{self._what} failed {len(self.pauses) + 1} times, at last with: {error}. {self._way_out}"
        )

    def wait(self) -> None:
        """Until nothing is under way; then as `check`."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def close(self) -> None:
        """Let what is under way finish, without pauses, and say of a failure only in the log."""
        self.closing.set()
        try:
            self.wait()
        except (UserError, OSError) as error:
            log.error("%s", error)

    def _do(self, work: Callable[[], None]) -> None:
        for tries, pause in enumerate((*self.pauses, None), start=1):
            try:
                work()
            except OSError as error:
                if pause is None:
                    self._failure = error
                    return
                log.warning("%s: %s; try %d of %d failed", self._what, error, tries, len(self.pauses) + 1)
                if self.closing.wait(pause):
                    log.warning("%s: the run is over; one last try", self._what)
            except BaseException as error:  # noqa: BLE001  # a defect of ours: raised where the run can see it
                self._failure = error
                return
            else:
                return
