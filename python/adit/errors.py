"""Every error that adit raises on purpose. Catch `AditError` to catch them all."""


class AditError(Exception):
    """Base class. The message names the thing, what was expected, what came, and the remedy."""


class InvalidInputError(AditError, ValueError):
    """An argument has the wrong shape, range or name."""


class UnreadableFileError(AditError, ValueError):
    """A file is missing, truncated, or not what its name claims."""


class BackendUnavailableError(AditError, RuntimeError):
    """An implementation or library that was asked for by name cannot run here."""


class CheckpointError(AditError, RuntimeError):
    """Weights or a checkpoint are missing, damaged, or of an unknown format version."""


class TrainingDivergedError(AditError, RuntimeError):
    """A loss or gradient became NaN or infinite."""
