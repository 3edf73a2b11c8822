"""Whatever comes in, every function of adit._rust gives a result or names what is wrong: no panic crosses into Python.

Arguments are made by the name of the parameter (`made`), and some are then spoilt. A function or parameter that is
new fails here until `made` knows it.
"""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adit import _rust
from adit.errors import AditError

FUNCTIONS = {name: value for name, value in vars(_rust).items() if inspect.isbuiltin(value)}
METHODS = {name: value for name, value in vars(_rust.Crystals).items() if name[0] != "_"}
CALLED = [*FUNCTIONS, "Crystals", *(f"Crystals.{name}" for name in METHODS)]

ODD_FLOATS = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-320, 1e-9, 1e9, 1e16, 1e300, -1e300])
ODD_SCALARS = [
    None,
    -1,
    0,
    1,
    2**31,
    2**63,
    2**70,
    -(2**70),
    0.5,
    np.nan,
    np.inf,
    -np.inf,
    1e300,
    1e-300,
    True,
    "",
    b"x",
]
ODD_OBJECTS = ["text", "\ud800", [], {}, object(), 1j, np.array("a"), np.array([object()]), np.zeros((0, 3)), (True,)]
FORMULAS = ["NaCl", "Ca3(PO4)2", "Fe2O3", "SiO2"]
ODD_FORMULAS = ["", "(", ")", "C0", "Xx", "C99999999999999999999", "(" * 50_000, "H" * 50_000, "é", "\0"]
TEXTS = ["", "a title", "two\nlines", "\0", "$$$$", "é" * 100]


class Batch:
    """Molecules or crystals, packed; every `spice` of them has something odd about it."""

    def __init__(self, seed: int, systems: int, spice: str | None) -> None:
        self.rng = np.random.default_rng(seed)
        self.sizes = self.rng.integers(0 if spice == "empty" else 1, 7, systems)
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        atoms = int(self.offsets[-1])
        self.numbers = self.rng.choice([1, 6, 7, 8, 11, 17], atoms).astype(np.uint8)
        self.cells = 4 * np.eye(3) + self.rng.normal(size=(systems, 3, 3))
        self.positions = 3 * self.rng.normal(size=(atoms, 3))
        self.periodic = self.rng.random(systems) < 0.7
        if spice == "floats":
            for array in (self.positions, self.cells):
                mask = self.rng.random(array.shape) < self.rng.choice([0.02, 0.5])
                array[mask] = self.rng.choice(ODD_FLOATS, mask.sum())
        elif spice == "singular":
            self.cells[:, 2] = self.cells[:, 0] * self.rng.choice([0, 1, 1 + 1e-9])
        elif spice == "numbers":
            self.numbers = self.rng.choice([0, 1, 6, 118, 119, 255], atoms).astype(np.uint8)
        elif spice == "together":
            self.positions *= 0
        elif spice == "scales":
            self.cells *= 10.0 ** self.rng.uniform(-12, 12, size=(systems, 3, 1))
            self.positions *= 10.0 ** self.rng.uniform(-12, 12)


SPICES = [None, "empty", "floats", "singular", "numbers", "together", "scales"]


def made(name: str, batch: Batch, owner: str) -> Any:
    """A fit argument for the parameter `name` of the function `owner`."""
    rng, systems = batch.rng, len(batch.sizes)
    if owner in BLOCKS:
        return made_for_blocks(name, batch, owner)
    if name in ("numbers", "positions", "cells", "offsets", "periodic"):
        return getattr(batch, name)
    if name in ("self", "other", "against"):
        return crystals(batch)
    if name == "charges":
        return rng.integers(-3, 4, systems).astype(np.int32)
    if name in ("titles", "items"):
        return [str(rng.choice(TEXTS)) for _ in range(systems)]
    if name == "pbc":
        return (
            batch.periodic[:, None] & (rng.random((systems, 3)) < 0.8)
            if owner.endswith("batch")
            else (True, False, True)
        )
    if name == "counts":
        rows = [np.bincount(rng.choice([1, 6, 99], size) - 1, minlength=100) for size in batch.sizes]
        return np.array(rows, dtype=np.int64).reshape(systems, 100)
    simple = {
        "logits": lambda: rng.normal(size=(len(batch.numbers), 100)).astype(np.float32),
        "quantities": lambda: "".join(rng.choice(list("ijSdD"), rng.integers(1, 6))),
        "cell": lambda: batch.cells[0] if systems else None,
        "cutoff": lambda: rng.choice([0.5, 3.0, 6.0]).item(),
        "algorithm": lambda: str(rng.choice(["auto", "brute", "cells"])),
        "indices": lambda: rng.integers(0, max(systems, 1), 5),
        "width": lambda: int(batch.sizes.max(initial=0)),
        "sizes": lambda: batch.sizes.astype(np.int64),
        "order": lambda: rng.permutation(systems),
        "token_budget": lambda: 20,
        "max_systems": lambda: 3,
        "widths": lambda: np.array([2, 4, 8]),
        "symprec": lambda: 10.0 ** rng.uniform(-6, 0),
        "max_displacement": lambda: rng.uniform(0, 0.5),
        "max_strain": lambda: rng.uniform(0, 0.2),
        "oxidation_states": lambda: str(rng.choice(["smact14", "icsd16", "icsd24"])),
        "formula": lambda: str(rng.choice(FORMULAS)),
        "formulas": lambda: [str(rng.choice(FORMULAS)) for _ in range(3)],
        "seed": lambda: int(rng.integers(2**63)),
        "count": lambda: 5,
        "values": lambda: batch.positions.ravel(),
        "frequencies": lambda: 3,
        "pairs": lambda: rng.integers(0, max(systems, 1), (4, 2)),
        "ltol": lambda: rng.choice([0.2, 0.9]).item(),
        "stol": lambda: rng.choice([0.3, 2.0]).item(),
        "angle_tol": lambda: rng.choice([5.0, 44.0]).item(),
        "convention": lambda: str(rng.choice(["symmetric", "pymatgen"])),
        "threads": lambda: int(rng.integers(1, 4)),
    }
    flags = {
        "half",
        "primitive",
        "rotate_crystals",
        "primitive_cell",
        "scale",
        "attempt_supercell",
        "prefilter",
        "anonymous",
    }
    return bool(rng.random() < 0.5) if name in flags else simple[name]()


BLOCKS = ("gate_adaln", "attention", "gelu")
HEADS, SIZE = 2, 16


def made_for_blocks(name: str, batch: Batch, owner: str) -> Any:
    rng, tokens, systems, width = batch.rng, len(batch.numbers), len(batch.sizes), HEADS * SIZE
    if name in ("heads", "qk_norm", "threads"):
        return {"heads": HEADS, "qk_norm": bool(rng.random() < 0.5), "threads": int(rng.integers(1, 4))}[name]
    if name in ("offsets", "rows"):
        return (batch.offsets if name == "offsets" else rng.integers(0, 3, systems)).astype(np.int32)
    whole = {"x": tokens, "y": tokens, "out": tokens, "gate": 3, "scale": 3, "shift": 3}
    shape = (whole[name], width) if name in whole else {"qkv": (tokens, 3 * width), "values": (tokens, width)}.get(name)
    if name == "bias":
        shape = (3 * width if owner == "attention" else width,)
    assert shape is not None, name
    return rng.normal(size=shape).astype(np.float32)


def crystals(batch: Batch) -> _rust.Crystals:
    return _rust.Crystals(
        batch.numbers,
        batch.positions,
        batch.cells,
        batch.offsets,
        ltol=0.3,
        stol=0.5,
        angle_tol=10,
        primitive_cell=True,
        scale=True,
        attempt_supercell=False,
        convention="symmetric",
    )


def spoilt(value: Any, rng: np.random.Generator) -> Any:
    """Something that is like `value`, or not at all."""
    if rng.random() < 0.25:
        return ODD_OBJECTS[rng.integers(len(ODD_OBJECTS))]
    if isinstance(value, np.ndarray):
        return spoilt_array(value, rng)
    if isinstance(value, str):
        return str(rng.choice([*TEXTS, *ODD_FORMULAS, "no such name", value * 1000]))
    if isinstance(value, list | tuple):
        odd = str(rng.choice([*TEXTS, *ODD_FORMULAS]))
        forms = [value[:-1], [*value, *value], [None], ["a", 1], "ab", [*value[:-1], odd], [*value[:-1], "\ud800"]]
        return forms[rng.integers(len(forms))]
    return ODD_SCALARS[rng.integers(len(ODD_SCALARS))]


def spoilt_array(array: np.ndarray[Any, Any], rng: np.random.Generator) -> Any:
    if array.dtype.kind in "iu" and array.dtype != np.uint8 and rng.random() < 0.5:
        odd = array.copy()
        info = np.iinfo(array.dtype)
        if odd.size:
            odd.flat[rng.integers(odd.size)] = rng.choice([info.min, info.max, -1, 0, 1, 2, odd.size, odd.size + 1])
        return odd
    misaligned = np.frombuffer(b"\0" + array.tobytes(), dtype=np.uint8)[1:].view(array.dtype).reshape(array.shape)
    forms = [
        array[::-1],
        array[:-1],
        array[:0],
        np.concatenate([array, array]),
        np.asfortranarray(array),
        np.repeat(array, 2, axis=-1)[..., ::2],
        array[None],
        array.ravel(),
        array.astype(np.float32),
        array.astype(np.float16),
        array.astype(np.int32),
        array.astype(array.dtype.newbyteorder()),
        array.view(np.int8) if array.dtype == bool else array.astype(bool),
        array.tolist(),
        misaligned,
        np.broadcast_to(array[:1], array.shape) if len(array) else array,
        None,
    ]
    return forms[rng.integers(len(forms))]


def called(name: str, batch: Batch, spoil: int, **fixed: Any) -> Any:
    """Calls the function with fit arguments of which `spoil` have been spoilt, and others left out."""
    owner, _, method = name.rpartition(".")
    function = METHODS[method] if owner else getattr(_rust, name)
    parameters = inspect.signature(function).parameters
    arguments = {key: made(key, batch, name) for key in parameters}
    for key in batch.rng.choice(list(parameters), min(spoil, len(parameters)), replace=False) if parameters else []:
        if key != "self":
            arguments[key] = spoilt(arguments[key], batch.rng)
    arguments |= {key: value for key, value in fixed.items() if key in parameters}
    by_place = [arguments.pop(key) for key in ("self",) if key in arguments]
    result = function(*by_place, **arguments)
    return result if owner or name not in BLOCKS else [arguments.get(key) for key in ("x", "out", "values")]


def test_no_function_is_left_out():
    assert {name for name, value in vars(_rust).items() if callable(value)} == {*FUNCTIONS, "Crystals"}
    batch = Batch(0, 3, None)
    for name in CALLED:
        called(name, batch, 0)


@pytest.mark.filterwarnings("ignore:invalid value encountered", "ignore:overflow encountered")
@pytest.mark.parametrize("name", CALLED)
@settings(max_examples=100, deadline=timedelta(seconds=20), print_blob=True)
@given(seed=st.integers(0, 2**32), systems=st.integers(0, 4), spice=st.sampled_from(SPICES), spoil=st.integers(0, 2))
def test_a_result_or_a_named_mistake(name, seed, systems, spice, spoil):
    try:
        called(name, Batch(seed, systems, spice), spoil)
    except (AditError, TypeError, ValueError) as error:
        assert str(error)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


THREADED = [
    name for name in CALLED if "threads" in inspect.signature(METHODS.get(name[9:]) or getattr(_rust, name)).parameters
]


@pytest.mark.parametrize("name", THREADED)
@pytest.mark.parametrize("seed", range(2))
def test_the_number_of_threads_does_not_matter(name, seed):
    results = [called(name, Batch(seed, 60, None), 0, threads=threads) for threads in (1, 2, 4, None)]
    if name == "Crystals":
        results = [one.cells() for one in results]
    assert all(same(results[0], other) for other in results[1:])


@pytest.mark.parametrize("name", THREADED)
@pytest.mark.parametrize("threads", [0, -1, 1025, 2**70, 1.5, "two"])
def test_a_number_of_threads_that_cannot_be(name, threads):
    with pytest.raises(ValueError, match="`threads` must be"):
        called(name, Batch(0, 3, None), 0, threads=threads)
