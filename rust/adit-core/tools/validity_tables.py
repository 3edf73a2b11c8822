"""Writes src/validity/tables.rs, the facts behind compositional validity, from the installed smact.

    pip install smact==4.0.2
    python rust/adit-core/tools/validity_tables.py > rust/adit-core/src/validity/tables.rs

tests/test_validity.py says when the installed smact has other tables than these.
"""

from importlib.metadata import version

import smact

LAST = 103
SETS = {
    "smact14": "SMACT's own list, compiled by hand in 2014.",
    "icsd16": "Those in the Inorganic Crystal Structure Database of 2016.",
    "icsd24": "Those with more than 5 reports in the Inorganic Crystal Structure Database of 2024.",
}
HEAD = f"""\
//! Facts about the elements up to number {LAST}, by atomic number; entry 0 is a placeholder.
//!
//! Made by `tools/validity_tables.py` from smact {version("smact")} (github.com/WMD-group/SMACT), whose code and tables
//! are under the MIT licence, Copyright (c) 2026 The SMACT Developers. Not to be edited by hand.

/// Number of entries of each table.
pub const ENTRIES: usize = {LAST + 1};
"""


def print_table(doc: str, declaration: str, entries: list[str]) -> None:
    print(f"\n/// {doc}\n#[rustfmt::skip]\npub const {declaration}; ENTRIES] = [")
    line = "   "
    for entry in entries:
        if len(line) + len(entry) > 116:
            print(line)
            line = "   "
        line += f" {entry},"
    print(f"{line}\n];")


def main() -> None:
    symbols = smact.ordered_elements(1, LAST)
    elements = smact.element_dictionary(symbols)
    known = [elements[symbol] for symbol in symbols]
    print(HEAD, end="")
    scale = "Electronegativity on the Pauling scale; NaN where there is none."
    values = [repr(float("nan") if e.pauling_eneg is None else float(e.pauling_eneg)) for e in known]
    print_table(scale, "ELECTRONEGATIVITY: [f64", [value.replace("nan", "f64::NAN") for value in ["nan", *values]])
    metals = [str(symbol in smact.metals).lower() for symbol in symbols]
    print_table("What counts as a metal in an alloy.", "METAL: [bool", ["false", *metals])
    for name, doc in SETS.items():
        states = [sorted(getattr(element, f"oxidation_states_{name}") or ()) for element in known]
        print_table(f"Oxidation states. {doc}", f"{name.upper()}: [&[i8]", ["&[]", *(f"&{entry}" for entry in states)])


if __name__ == "__main__":
    main()
