"""The errors midflow raises on purpose: what is required, what came and what to do.

MidflowError
├── OptionError (also a ValueError)         an option or argument outside its range
├── UnknownModelError                       no release or model of that name
├── CheckpointError                         a file that is not the weights it should be
├── VideoError                              a clip or picture that cannot be read or written
└── MissingExtraError (also an ImportError) an optional package is not installed
"""


class MidflowError(Exception):
    """Base of every error midflow raises on purpose."""


class OptionError(MidflowError, ValueError):
    """An option or argument is outside its range."""


class UnknownModelError(MidflowError):
    """No release or model has the given name."""


class CheckpointError(MidflowError):
    """A file does not hold the weights it should hold, or cannot be read safely."""


class VideoError(MidflowError):
    """A clip or picture cannot be read or written."""


class MissingExtraError(MidflowError, ImportError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: run pip install 'midflow[{extra}]'")
