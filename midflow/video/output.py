"""Output files that are either whole or absent: renamed when they are finished."""

import os
from pathlib import Path

from midflow.errors import VideoError


class PartialFile:
    """A file in the making, `.name.partial.ext` in the folder of the final one.

    Args:
        path: the final name; a symbolic link is followed.
        overwrite: whether a file of that name may be replaced.
        source: the file that is read, which the output must not be.

    Raises:
        VideoError: the name is taken, is the input, or its folder is missing or may not be written.
    """

    def __init__(self, path: Path, overwrite: bool = False, source: Path | None = None) -> None:
        try:
            self.path = self._claim(path, overwrite, source)
        except OSError as error:
            reason = error.strerror or str(error)
            raise VideoError(
                f"{path} cannot be written ({reason}): choose another name or folder"
            ) from error

    def _claim(self, path: Path, overwrite: bool, source: Path | None) -> Path:
        """Check the name and create the partial file."""
        self.final = Path(os.path.realpath(path))
        folder = self.final.parent
        if self.final.is_dir():
            raise VideoError(f"{path} is a folder: give a file name for the output")
        if not folder.is_dir():
            raise VideoError(f"the folder of {path} does not exist: create it first")
        if source is not None and self.final.exists() and os.path.samefile(source, self.final):
            raise VideoError(f"{path} is the input itself: give the output another name")
        if self.final.exists() and not overwrite:
            raise VideoError(f"{path} exists already: give another name, or allow overwriting")
        partial = folder / f".{self.final.stem}.partial{self.final.suffix}"
        partial.open("wb").close()
        return partial

    def commit(self) -> None:
        """Give the file its final name, in one step."""
        self.path.replace(self.final)

    def discard(self) -> None:
        """Remove what has been written."""
        self.path.unlink(missing_ok=True)
