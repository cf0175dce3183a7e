"""Output files that are either whole or absent: renamed when they are finished."""

import os
from pathlib import Path

from midflow.errors import VideoError


class TargetExistsError(VideoError):
    """The output is there already."""


class PartialFile:
    """A file in the making, by default `.name.partial.ext` in the folder of the final one.

    Args:
        path: the final name; a symbolic link is followed.
        overwrite: whether a file of that name may be replaced.
        source: the file that is read, which the output must not be.
        partial: the name until it is whole, on the same disk.

    Raises:
        VideoError: the name is taken, is the input, or its folder is missing or may not be written.
    """

    def __init__(
        self,
        path: Path,
        overwrite: bool = False,
        source: Path | None = None,
        partial: Path | None = None,
    ) -> None:
        self.final = check_target(path, overwrite, source)
        self.path = partial or self.final.with_name(
            f".{self.final.stem}.partial{self.final.suffix}"
        )
        try:
            self.path.open("wb").close()
        except OSError as error:
            raise _unwritable(path, error) from error

    def commit(self) -> None:
        """Give the file its final name, in one step, once all of it is on the disk."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(self.final)
        sync_folder(self.final.parent)

    def discard(self) -> None:
        """Remove what has been written."""
        self.path.unlink(missing_ok=True)


def check_target(path: Path, overwrite: bool = False, source: Path | None = None) -> Path:
    """The file that an output's name leads to; arguments as for `PartialFile`.

    Raises:
        VideoError: it may not be written.
    """
    try:
        final = Path(os.path.realpath(path))
        if final.is_dir():
            raise VideoError(f"{path} is a folder: give a file name for the output")
        if os.path.lexists(final) and not final.is_file():  # nor may it be replaced
            raise VideoError(f"{path} is a pipe, a device or a broken link: give a file name")
        if not final.parent.is_dir():
            raise VideoError(f"the folder of {path} does not exist: create it first")
        if source is not None and final.exists() and os.path.samefile(source, final):
            raise VideoError(f"{path} is the input itself: give the output another name")
        if final.exists() and not overwrite:
            raise TargetExistsError(
                f"{path} exists already: give another name, or allow overwriting"
            )
    except OSError as error:
        raise _unwritable(path, error) from error
    return final


def sync_folder(folder: Path) -> None:
    """See that names given or taken in a folder outlast a loss of power, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> VideoError:
    reason = error.strerror or str(error)
    return VideoError(f"{path} cannot be written ({reason}): choose another name or folder")
