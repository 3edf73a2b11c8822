"""Lists of SMILES, such as a company's library: read from files, and in the form in which molecules are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adit.convert.files import format_of
from adit.data.conformers import Named, smiles_lines
from adit.errors import UnreadableFileError
from adit.eval.protocols import quiet_rdkit

if TYPE_CHECKING:
    from rdkit import Chem

_TABLES = (".csv", ".tsv")
_LISTS = (".smi", ".smiles", ".txt", *_TABLES)
_HYPERVALENT = (15, 16, 34)  # P, S, Se


def is_list(path: Path) -> bool:
    """Whether a file is a list of SMILES by its name: .smi, .smiles, .txt, .csv, .tsv, each also .gz."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(_LISTS) and format_of(name) is None and not path.is_dir()


def read_list(path: Path) -> list[Named]:
    """The SMILES of a file as they stand there, each named by its line, "library.smi:12", from 1.

    As `adit.data.conformers.smiles_lines` takes them; by its name a file is a table or is not.

    Raises:
        UnreadableFileError: the file is missing, torn, no text, or a table without that column, or RDKit can read
            none of the SMILES.
    """
    table = path.name.lower().removesuffix(".gz").endswith(_TABLES)
    words = ((number, text.split()) for number, _, text in smiles_lines(path, table) if not text.startswith("#"))
    found = [Named(f"{path.name}:{number}", held[0]) for number, held in words if held]
    if not any(known_forms([named.smiles])[0] for named in found):
        detail = f"; the first of {len(found):,}: {found[0].id} {found[0].smiles}" if found else ""
        raise UnreadableFileError(f"{path} holds no SMILES that RDKit can read; expected one a line{detail}")
    return found


def known_forms(smiles: Sequence[str]) -> list[str]:
    """What counts as known for each SMILES: canonical SMILES without stereochemistry, separated by spaces.

    Each piece of a salt or mixture counts as it stands and, if it bears charges, neutralised by RDKit's Uncharger
    (a quaternary nitrogen keeps its charge), with S=O and P=O in place of [S+][O-] and [P+][O-]: as `adit.bonds` draws
    what it finds. Isotopes and atom maps are removed. "" for what RDKit cannot read.
    """
    with quiet_rdkit():
        return [" ".join(dict.fromkeys(_forms(entry))) for entry in smiles]


def _forms(smiles: str) -> Iterator[str]:
    from rdkit import Chem

    try:
        molecule = Chem.MolFromSmiles(smiles, sanitize=False)
        if molecule is None:
            return
        for atom in molecule.GetAtoms():
            atom.SetIsotope(0)  # before hydrogens are removed: deuterium would stay
            atom.SetAtomMapNum(0)
        Chem.RemoveStereochemistry(molecule)  # so would the hydrogen of an imine
        Chem.SanitizeMol(molecule)
        molecule = Chem.RemoveHs(molecule)
        pieces = Chem.GetMolFrags(molecule, asMols=True) if "." in smiles else [molecule]
        for piece in pieces:
            charged = any(atom.GetFormalCharge() for atom in piece.GetAtoms())
            for form in (piece, _neutral(piece)) if charged else (piece,):
                yield Chem.MolToSmiles(form, isomericSmiles=False)
    except (ValueError, RuntimeError):  # no chemistry; one of RDKit's invariants
        return


def _neutral(molecule: Chem.Mol) -> Chem.Mol:
    """Without the charges that protons or the double bonds of hypervalent atoms can take away."""
    from rdkit import Chem

    made = Chem.RWMol(molecule)
    for bond in made.GetBonds():
        low, high = sorted((bond.GetBeginAtom(), bond.GetEndAtom()), key=lambda atom: int(atom.GetFormalCharge()))
        if low.GetFormalCharge() < 0 < high.GetFormalCharge() and high.GetAtomicNum() in _HYPERVALENT:
            bond.SetBondType(Chem.BondType.DOUBLE)
            low.SetFormalCharge(low.GetFormalCharge() + 1)
            high.SetFormalCharge(high.GetFormalCharge() - 1)
    Chem.SanitizeMol(made)
    neutral: Chem.Mol = _uncharger().uncharge(made)
    Chem.SanitizeMol(neutral)  # aromaticity may go with the charge
    return neutral


@lru_cache
def _uncharger() -> Any:
    from rdkit.Chem.MolStandardize import rdMolStandardize

    return rdMolStandardize.Uncharger()
