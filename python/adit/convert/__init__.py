"""To and from ASE, pymatgen, RDKit and files."""

from adit.convert.base import BrokenEntry
from adit.convert.files import iread, read
from adit.convert.writers import Writer, open_writer, write

__all__ = ["BrokenEntry", "Writer", "iread", "open_writer", "read", "write"]
