"""adit: invents 3D molecules and crystals with one latent diffusion model.

    >>> import adit
    >>> generator = adit.Generator.from_pretrained()
    >>> molecules = generator.sample(10, system="molecule", seed=0)
    >>> adit.write("molecules.sdf", molecules)
    10

Names are imported when they are first used, so `import adit` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adit import bonds, features, matching, neighbors, symmetry, validity
    from adit.convert.files import read
    from adit.convert.writers import write
    from adit.data.packed import PackedDataset
    from adit.data.prepare import load as load_dataset
    from adit.errors import AditError
    from adit.eval.summary import summarise
    from adit.generate import Generator
    from adit.matching import StructureMatcher
    from adit.neighbors import neighbor_list
    from adit.system import AtomicSystem

_HOMES = {
    "AditError": "adit.errors",
    "AtomicSystem": "adit.system",
    "Generator": "adit.generate",
    "PackedDataset": "adit.data.packed",
    "StructureMatcher": "adit.matching",
    "load_dataset": "adit.data.prepare",
    "neighbor_list": "adit.neighbors",
    "read": "adit.convert.files",
    "summarise": "adit.eval.summary",
    "write": "adit.convert.writers",
}

_MODULES = ("bonds", "features", "matching", "neighbors", "symmetry", "validity")

__all__ = [
    "AditError",
    "AtomicSystem",
    "Generator",
    "PackedDataset",
    "StructureMatcher",
    "__version__",
    "bonds",
    "features",
    "load_dataset",
    "matching",
    "neighbor_list",
    "neighbors",
    "read",
    "summarise",
    "symmetry",
    "validity",
    "write",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("adit")
    if name in _MODULES:
        return import_module(f"adit.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'adit' has no attribute {name!r}; known: {', '.join(__all__)}")
    module = import_module(_HOMES[name])
    return module.load if name == "load_dataset" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
