"""TensorBoard's event files, written by a thread: a full or unreachable disk never blocks the run."""

import contextlib
import itertools
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import scalar

# Rows that wait for a disk that refuses; older ones are dropped then.
MOST_WAITING = 20_000
# Rows are written together at most so often, and tried again so long after a failure.
TOGETHER_SECONDS, RETRY_SECONDS = 1.0, 10.0
# A disk that does not answer keeps the end of a run for so long.
CLOSE_SECONDS = 10.0


class EventFiles:
    """Scalars in ``folder``. No method waits for the disk, but for ``close``, nor raises where it refuses."""

    def __init__(self, folder: Path, from_step: int, open_file: Callable[[Path], Any] | None = None):
        """What was written of steps after ``from_step`` is hidden. open_file: makes a writer in the folder."""
        self._folder, self._open_file = folder, open_file or _new_file
        self._waiting: deque[Event] = deque(maxlen=MOST_WAITING)
        self._changed, self._ended = threading.Condition(), threading.Event()
        self._file: Any = None
        self._warning: str | None = None
        self._has_failed = False
        self.rewind(from_step)
        self._thread = threading.Thread(target=self._write_all, name="event files", daemon=True)
        self._thread.start()

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        found = [scalar(f"{kind}/{name}", value).value for name, value in values.items()]
        self._add(Event(step=step, summary=Summary(value=itertools.chain.from_iterable(found))))

    def rewind(self, step: int) -> None:
        """Hides what was written of all steps after ``step``."""
        self._add(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def warning(self) -> str | None:
        """What there is to say of a disk that refuses: once, and None from then on."""
        warning, self._warning = self._warning, None
        return warning

    def close(self, is_gone: bool = False) -> None:
        """Writes what waits, once more if that has failed. is_gone: the folder is another's now, and gets no file."""
        self._ended.set()
        with self._changed:
            if is_gone and self._file is None:
                self._waiting.clear()
            self._changed.notify()
        self._thread.join(CLOSE_SECONDS)

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()  # which is shown, and nothing else
        with self._changed:
            self._waiting.append(event)
            self._changed.notify()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended.is_set())
                is_last, events = self._ended.is_set(), list(self._waiting)
                self._waiting.clear()
            failed = not self._written(events)
            if is_last:
                break
            self._ended.wait(RETRY_SECONDS if failed else TOGETHER_SECONDS)
        with contextlib.suppress(Exception):
            if self._file is not None:
                self._file.close()

    def _written(self, events: list[Event]) -> bool:
        try:
            if events:
                self._file = self._file or self._open_file(self._folder)
                for event in events:
                    self._file.write_event(event)
                self._file.flush()
            return True
        except Exception as error:  # whatever a disk, or what stands in for one, says
            # A record may be half written, after which readers take nothing from a file.
            file, self._file = self._file, None
            with contextlib.suppress(Exception):
                if file is not None:
                    file.close()
            if not self._has_failed:
                reason = " ".join(str(error).split())[:300]
                self._warning = (
                    f"warning: TensorBoard's events cannot be written to {self._folder} ({reason}); the run goes on, "
                    f"and they are written again once they can be"
                )
            self._has_failed = True
            with self._changed:  # the newest stay
                self._waiting = deque([*events, *self._waiting], maxlen=MOST_WAITING)
            return False


def _new_file(folder: Path) -> EventsWriter:
    folder.mkdir(exist_ok=True)
    # Of its own name, also where two are opened in one second: the library would write over the first.
    return EventsWriter(os.path.join(folder, "events"), f".{os.getpid()}.{secrets.token_hex(4)}")  # noqa: PTH118
