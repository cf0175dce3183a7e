"""The hidden folder beside an output that holds what is finished of it.

    .out.mp4.midflow/
        lock            held by the process at work
        job.json        what the job is: a job that differs is refused
        timeline        the source's frames as they came, see `timeline.Timeline`
        000000.packets  a finished segment
        000001.claim    one that a process has taken on

Everything gets its name only when it is whole and on the disk, so that whatever ends the work, the
same command goes on from it.
"""

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from midflow.errors import VideoError
from midflow.video.output import sync_folder
from midflow.video.packets import read_note

log = logging.getLogger(__name__)

_JOB, _TIMELINE, _LOCK, _SUFFIX = "job.json", "timeline", "lock", ".packets"
_OURS = (_JOB, f"{_JOB}.partial", _TIMELINE, f"*{_SUFFIX}", f"*{_SUFFIX}.*partial", "*.claim")


class WorkFolder:
    """`with WorkFolder(target) as folder:` nobody else works on the output.

    Leaving the `with` by an exception keeps the folder where a segment is finished; otherwise it is
    removed.

    Args:
        target: the final file.

    Raises:
        VideoError: another process is at work on it, or the folder cannot be written.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        final = Path(os.path.realpath(target))
        self.path = final.with_name(f".{final.name}.midflow")
        self._lock: IO[bytes] | None = None
        self._has_begun = False

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(exist_ok=True)
            self._lock = _acquire(self.path / _LOCK)
        except OSError as error:
            raise VideoError(
                f"{self.path} cannot be written ({error.strerror}): choose another folder"
            ) from error
        if self._lock is None:
            raise VideoError(
                f"another midflow is at work on {self._target}: wait for it, or end it first"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        finished = self.finished() if kind is not None else {}
        keeps = bool(finished)
        if not keeps:
            self._clear()
        assert self._lock is not None
        # the lock is removed while it is held: who waits for it finds another file there, or none
        if not keeps:
            for path in (*self.path.glob(f"{self.joined.name}.*"), self.path / _LOCK):
                _remove(path)
        self._lock.close()
        if not keeps:
            try:
                self.path.rmdir()
            except OSError:
                log.debug("%s stays: it holds something else", self.path)
        if self._has_begun:
            _explain(error, sum(note["frames"] for note in finished.values()))

    def begin(self, job: dict[str, str], *, restart: bool) -> None:
        """Take up the job where it stopped, or begin it.

        Args:
            job: everything the bytes of the result depend on, by what a user calls it.
            restart: whether to throw away what is there.

        Raises:
            VideoError: what is there belongs to a job that differs, or cannot be written.
        """
        before = None if restart else self._read_job()
        self._has_begun = before == job
        if self._has_begun:
            self._clear(("*.claim", f"*{_SUFFIX}.*partial"))
            return
        if before is not None and self.finished():
            changes = ", ".join(
                f"{name} was {before.get(name)} and is {job.get(name)}"
                for name in sorted(before.keys() | job.keys())
                if before.get(name) != job.get(name)
            )
            raise VideoError(
                f"{self._target} was begun with other settings ({changes}): give them again to go"
                " on, or --restart to begin anew"
            )
        self._clear()
        self._has_begun = True
        try:
            self._write_job(job)
        except OSError as error:
            raise self.failure(error) from error

    def failure(self, error: OSError) -> VideoError:
        """What to raise where the folder refuses."""
        return VideoError(f"writing {self.path} failed: {error.strerror or error}")

    @property
    def timeline(self) -> Path:
        """The file of `Timeline`."""
        return self.path / _TIMELINE

    @property
    def joined(self) -> Path:
        """The name of the whole until it is finished, without an extension."""
        return self.path / "joined"

    def segment(self, number: int) -> Path:
        """The file of a segment."""
        return self.path / f"{number:06d}{_SUFFIX}"

    def claim(self, number: int) -> bool:
        """Take a segment on, unless another process of this job has done so."""
        try:
            (self.path / f"{number:06d}.claim").open("xb").close()
        except FileExistsError:
            return False
        except OSError as error:
            raise self.failure(error) from error
        return True

    def finished(self) -> dict[int, dict[str, Any]]:
        """The notes of all finished segments, by number."""
        notes = {}
        for path in sorted(self.path.glob(f"*{_SUFFIX}")):
            if path.stem.isdecimal() and (note := read_note(path)) is not None:
                notes[int(path.stem)] = note
        return notes

    def _read_job(self) -> dict[str, str] | None:
        try:
            job = json.loads((self.path / _JOB).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return job if isinstance(job, dict) else None

    def _write_job(self, job: dict[str, str]) -> None:
        partial = self.path / f"{_JOB}.partial"
        with partial.open("w", encoding="utf-8") as file:
            json.dump(job, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path / _JOB)
        sync_folder(self.path)

    def _clear(self, patterns: Iterable[str] = _OURS) -> None:
        """Remove what is midflow's own, and nothing else."""
        for pattern in patterns:
            for path in self.path.glob(pattern):
                _remove(path)


def _explain(error: BaseException | None, frames: int) -> None:
    """Says after an interruption what is kept, and how to go on."""
    kept = f"{frames} frames are kept, the same command goes on from there"
    if isinstance(error, KeyboardInterrupt) and not str(error):
        rest = kept if frames else "no segment was finished, the same command begins anew"
        raise KeyboardInterrupt(f"interrupted: {rest}") from error
    if isinstance(error, VideoError) and frames:
        raise VideoError(f"{error}; {kept}") from error


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _acquire(path: Path) -> IO[bytes] | None:
    """The lock file, held until it is closed or the process ends; None where another holds it."""
    file = path.open("ab")
    try:
        _lock(file)
        if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            return file
    except (BlockingIOError, PermissionError, FileNotFoundError):
        pass
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def _lock(file: IO[bytes]) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
