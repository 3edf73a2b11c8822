from __future__ import annotations

import json
import math

import numpy as np

from adit.eval.molecules import connected, validity
from adit.eval.stability import edm_stability
from adit.eval.summary import percent, summarise
from adit.system import AtomicSystem
from adit.validity import compositional, structural


def test_mixed_systems_keep_their_places(qm9, mp20):
    molecules, crystals = qm9[:6], mp20[:5]
    mixed = [molecules[0], crystals[0], molecules[1], molecules[2], *crystals[1:], *molecules[3:]]
    whole, alone = summarise(mixed), summarise(molecules)
    assert whole.molecules == alone.molecules
    assert whole.crystals == summarise(crystals).crystals
    places = [index for index, system in enumerate(mixed) if not system.is_periodic]
    assert whole.valid[places].tolist() == alone.valid.tolist()
    assert [whole.notes[index] for index in places] == list(alone.notes)


def test_figures_are_those_of_the_single_metrics(shaken, mp20):
    summary = summarise([*shaken, *mp20])
    smiles = validity(shaken)
    valid = [entry for entry in smiles if entry is not None]
    assert summary.molecules.valid == len(valid) / len(shaken)
    assert summary.molecules.unique == len(set(valid)) / len(valid)
    assert summary.molecules.connected == connected(shaken).mean()
    assert summary.molecules.atom_stability == edm_stability(shaken).atom_stability
    both = structural(mp20) & compositional(mp20)
    assert summary.crystals.valid == both.mean()
    assert summary.valid[len(shaken) :].tolist() == both.tolist()


def test_json_has_no_nan(nonsense):
    summary = summarise([nonsense["one carbon"]])
    assert math.isnan(summary.molecules.unique)
    text = json.dumps(summary.to_dict(), allow_nan=False)
    assert json.loads(text)["molecules"]["unique"] is None
    assert "crystals" not in summary.to_dict()
    assert ("unique of valid", "-") in summary.rows()


def test_reasons_name_what_is_wrong():
    clash = AtomicSystem.from_fractional([11, 17], [[0, 0, 0], [0.01, 0, 0]], 4 * np.eye(3))
    odd = AtomicSystem.from_fractional([3, 9, 9], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]], 4 * np.eye(3))
    assert summarise([clash, odd]).notes == ("atoms overlap", "composition fails SMACT")


def test_nonsense_is_summarised(nonsense):
    summary = summarise(list(nonsense.values()))
    assert summary.molecules.count == len(nonsense) == len(summary.valid) == len(summary.notes)


def test_nothing_to_summarise():
    summary = summarise([])
    assert (summary.molecules, summary.crystals, summary.rows(), summary.to_dict()) == (None, None, [], {})


def test_percent():
    assert (percent(0.98765), percent(float("nan")), percent(1)) == ("98.8 %", "-", "100.0 %")


def test_one_system_will_do(qm9, mp20):
    assert summarise(qm9[0]).notes == summarise(qm9[:1]).notes == summarise(iter(qm9[:1])).notes
    assert summarise(mp20[0].to_ase()).crystals == summarise(mp20[:1]).crystals
