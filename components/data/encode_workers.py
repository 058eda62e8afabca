"""Several processes that make the shards of an encode, each with a device of its own.

Each takes the next piece when it has finished one. A process that dies ends the stage with the name of the shard it
was at: what is finished is kept, and the next run makes the rest. When the stage is killed, they end themselves.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from components.data.encode_pieces import EncodeJob, Maker, Piece, missing
from components.errors import UserError
from components.progress import progress
from components.runtime import worker_device


def make_shards(pieces: Sequence[Piece], job: EncodeJob, workers: int, *, title: str) -> None:
    """Make the pieces that are not there yet, here or in `workers` processes; the bytes are the same.

    Raises `UserError` where a process fails; shards that are finished stay.
    """
    waiting = missing(pieces, job)
    workers = min(workers, len(waiting))
    with progress(title, sum(piece.size for piece in waiting)) as advance:
        if workers <= 1:
            maker = Maker(job, worker_device(0))
            for piece in waiting:
                piece.make(maker)
                advance(piece.size, piece.file)
            return
        readers = replace(job.limits, workers=-(-job.limits.workers // workers))
        _share(waiting, replace(job, limits=readers), workers, advance)


def _share(waiting: list[Piece], job: EncodeJob, workers: int, advance: Any) -> None:
    queue = waiting[::-1]
    crew = [_Process(job, index) for index in range(workers)]
    try:
        while any(process.piece for process in crew) or queue:
            for process in crew:
                if process.piece is None and queue:
                    process.give(queue.pop())
            wait([process.pipe for process in crew if process.piece])
            for process in crew:
                if process.piece and process.pipe.poll():
                    done = process.finished()
                    advance(done.size, done.file)
    finally:
        for process in crew:
            process.stop()


class _Process:
    """One process, its pipe, and the piece it is at."""

    def __init__(self, job: EncodeJob, index: int) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, job, index, torch.get_num_threads()), name=f"encode-{index}"
        )
        self.process.start()
        theirs.close()
        self.piece: Piece | None = None

    def give(self, piece: Piece) -> None:
        self.piece = piece
        self.pipe.send(piece)

    def finished(self) -> Piece:
        """The piece that is done. Raises what went wrong in the process."""
        piece, self.piece = self.piece, None
        assert piece is not None
        try:
            problem = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise UserError(
                f"the process that encoded {piece.file} ended with {_how(self.process.exitcode)};"
                " lower `encode.*.batch` if memory ran out, and run the stage again: finished shards are kept"
            ) from None
        if isinstance(problem, UserError):
            raise problem
        if problem is not None:
            raise RuntimeError(f"encoding {piece.file} failed in a process\n{problem}")
        return piece

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _how(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _serve(pipe: Connection, job: EncodeJob, index: int, threads: int) -> None:
    """The life of a process: make pieces until the pipe is closed. Threads as in one process: so are the sums."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    maker = Maker(job, worker_device(index))
    while True:
        try:
            piece: Piece = pipe.recv()
        except EOFError:
            return
        try:
            piece.make(maker)
        except UserError as error:
            pipe.send(error)
        except Exception as error:
            pipe.send(traceback.format_exc())
            raise SystemExit(1) from error
        else:
            pipe.send(None)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
