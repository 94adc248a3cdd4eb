"""Every error Omnisky raises on purpose, drawn as a tree. Catch broadly at the top, narrowly below.

    OmniskyError                    everything below
    ├── ObservationError            the data handed in
    │   ├── BandMismatch            other bands than the codec or model was made for
    │   ├── ShapeMismatch           arrays that do not fit each other, or the model
    │   ├── TooSmall                an image or spectrum shorter than one token
    │   ├── BadPixels               NaN or infinity where a number is needed
    │   ├── MissingModality         the part asked for is not in the observation
    │   └── CorruptFile             a file that is truncated or not what its name says
    ├── ModelError                  weights and what they are asked to do
    │   ├── UnknownModel            no model or recipe of that name
    │   ├── UnknownLayout           a checkpoint whose keys or shapes we do not know
    │   ├── UnsafePickle            a checkpoint that wants to run code
    │   ├── ContextOverflow         more tokens than the model has positions for
    │   └── ProvenanceError         artefacts made by different models, refused together
    ├── ConfigError                 a run that cannot be built
    │   ├── UnknownKey              an edit of a field that does not exist
    │   └── BadValue                an edit or argument of the wrong type or range
    ├── TrainingError               a run that cannot go on
    │   ├── NonFiniteLoss           the loss became NaN or infinite
    │   ├── OutOfMemory             the smallest piece of a batch does not fit
    │   └── ResumeMismatch          the checkpoint in the folder belongs to another run
    ├── StorageError                the disk would not take what we wrote
    ├── ServiceError                a server that did not answer
    │   ├── TooMuch                 more bytes, rows or pixels than the server takes
    │   ├── Busy                    more requests than can wait
    │   ├── NotAllowed              no key, or another one
    │   └── Failed                  the model broke down over it
    └── MissingExtra                an optional dependency is not installed (also an ImportError)

Each says what we saw, what we want, and what to try.
"""

from __future__ import annotations

from typing import Any


class OmniskyError(Exception):
    """An error with three parts: `saw`, `want`, and `hint` (what to try)."""

    def __init__(self, message: str = "", *, saw: Any = None, want: Any = None, hint: str = "") -> None:
        self.saw, self.want, self.hint = saw, want, hint
        parts = [message] if message else []
        said = [f"{word} {_plain(value)}" for word, value in (("saw", saw), ("want", want)) if value is not None]
        if said:
            parts.append("; ".join(said))
        if hint:
            parts.append(f"Try: {hint}")
        super().__init__(". ".join(part.rstrip(".") for part in parts))


def _plain(value: Any) -> str:
    """`('g', 'r')` reads as `g r`; everything else as it is."""
    if isinstance(value, tuple | list) and all(isinstance(item, str) for item in value):
        return " ".join(value) if value else "nothing"
    return str(value)


class ObservationError(OmniskyError, ValueError):
    """The data handed in cannot be used as it is."""


class BandMismatch(ObservationError):
    """Other bands than the codec or model was made for."""


class ShapeMismatch(ObservationError):
    """Arrays that do not fit each other, or the model."""


class TooSmall(ObservationError):
    """An image or spectrum shorter than one token."""


class BadPixels(ObservationError):
    """NaN or infinity where a number is needed."""


class MissingModality(ObservationError):
    """The part asked for is not in the observation."""


class CorruptFile(ObservationError):
    """A file that is truncated or not what its name says. The file is named in the message."""


class ModelError(OmniskyError):
    """Weights, and what they are asked to do."""


class UnknownModel(ModelError, LookupError):
    """No model or recipe of that name."""


class UnknownLayout(ModelError):
    """A checkpoint whose keys or shapes we do not know."""


class UnsafePickle(ModelError):
    """A checkpoint that wants to run code. It was not run."""


class ContextOverflow(ModelError, ValueError):
    """More tokens than the model has positions for."""


class ProvenanceError(ModelError):
    """Artefacts made by different models, refused together."""


class ConfigError(OmniskyError, ValueError):
    """A run that cannot be built."""


class UnknownKey(ConfigError):
    """An edit of a field that does not exist."""


class BadValue(ConfigError):
    """An edit or argument of the wrong type or range."""


class TrainingError(OmniskyError, RuntimeError):
    """A run that cannot go on."""


class NonFiniteLoss(TrainingError):
    """The loss became NaN or infinite. The last good checkpoint is kept."""


class OutOfMemory(TrainingError):
    """The smallest piece of a batch does not fit into memory."""


class ResumeMismatch(TrainingError):
    """The checkpoint in the folder belongs to another run."""


class StorageError(OmniskyError, OSError):
    """The disk would not take what we wrote. Nothing half-written is left."""


class ServiceError(OmniskyError, RuntimeError):
    """A server that did not answer, or not in time."""


class TooMuch(ServiceError, ValueError):
    """More bytes, rows or pixels than the server takes."""


class Busy(ServiceError):
    """More requests than can wait. Ask again in a moment."""


class NotAllowed(ServiceError):
    """No key, or another one."""


class Failed(ServiceError):
    """The model broke down over it: what was asked, or our fault."""


class MissingExtra(OmniskyError, ImportError):
    """An optional dependency is not installed."""
