"""PoseBusters, energies, distributions, coverage and reconstruction as stages of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adit.convert.base import BrokenEntry
from adit.data.packed import PackedDataset
from adit.errors import BackendUnavailableError, CheckpointError, InvalidInputError
from adit.eval import evaluate, reference_statistics
from adit.eval.coverage import neighbour_coverage
from adit.eval.distributions import crystal_distances, molecule_distances
from adit.eval.evaluation import Stage
from adit.eval.pose_stages import EnergyRatioStage, StrainStage
from adit.eval.posebusters import CHECKS, energy_check, geometry_checks
from adit.eval.reconstruction import ReconstructionStage, crystals
from adit.eval.reference import Reference
from adit.eval.results import Evaluation
from adit.eval.statistics import bootstrap_quantile
from adit.eval.strain import mmff_strain, xtb_strain
from adit.system import AtomicSystem
from adit.train.reconstruct import load_vae, rebuild
from adit.weights.store import BUILT_IN


def quick(systems: Sequence[object], stages: Sequence[Stage] = (), **options: object) -> Evaluation:
    return evaluate(systems, protocols=["adit-rust"], stages=stages, **options)  # type: ignore[arg-type]


def values(found: Evaluation, protocol: str) -> dict[str, float]:
    return {metric.name: metric.value for metric in found.metrics if metric.protocol == protocol}


def test_posebusters_judges_all_molecules(shaken: list[AtomicSystem]) -> None:
    systems = shaken[:40]
    broken = BrokenEntry("x.sdf[41]", "no atoms", periodic=False)
    found, checks = quick([*systems, broken]), geometry_checks(systems, workers=0)
    assert 0 < checks.passed.sum() < 40
    metric = found.metric("molecules", "all checks", "posebusters")
    assert (metric.value, metric.of) == (pytest.approx(checks.passed.sum() / 41), 41)
    assert metric.low < metric.value < metric.high
    for column, name in enumerate(CHECKS):
        share = (checks.verdicts[:, column] == 1).sum() / 41
        assert found.metric("molecules", name, "posebusters").value == pytest.approx(share)
    assert [row["posebusters"]["passed"] for row in found.rows] == checks.passed.tolist()
    assert [row["posebusters"]["why"] for row in found.rows] == list(checks.reasons)
    assert "has not passed" in found.protocols["posebusters"]


def test_the_energy_ratio_of_a_sample(qm9: list[AtomicSystem]) -> None:
    systems = qm9[:8]
    found, checked = quick(systems, [EnergyRatioStage(3)], seed=5), energy_check(systems, 3, seed=5)
    held = values(found, "energy ratio")
    assert (held["drawn"], held["judged"], held["not judged"]) == (3, checked.judged, 3 - checked.judged)
    assert held["passed"] == pytest.approx(checked.rate)
    assert held["median ratio"] == pytest.approx(np.nanmedian(checked.ratios))
    judged = [k for k, row in enumerate(found.rows) if row["energy_ratio"] is not None]
    assert judged == checked.indices.tolist()
    assert "3 molecules drawn with seed 5" in found.protocols["energy ratio"]


@pytest.mark.parametrize("method", ["mmff", pytest.param("xtb", marks=pytest.mark.slow)])
def test_strain(qm9: list[AtomicSystem], method: str) -> None:
    systems = sorted(qm9[:30], key=len)[:4]
    stage = StrainStage(method, 2 if method == "xtb" else None)  # type: ignore[arg-type]
    found = quick(systems, [stage], seed=1)
    drawn = [k for k, row in enumerate(found.rows) if row[f"strain_{method}"] is not None]
    strain = mmff_strain(systems) if method == "mmff" else xtb_strain([systems[k] for k in drawn], None)
    held = values(found, f"strain, {strain.method}")
    assert len(drawn) == held["drawn"] == (2 if method == "xtb" else 4)
    assert held["median"] == pytest.approx(strain.median)
    assert held["lower quartile"] <= held["median"] <= held["upper quartile"]
    assert held["median RMSD"] == pytest.approx(strain.median_rmsd)
    assert (held["judged"], held["not judged"]) == (len(drawn), 0)
    assert [found.rows[k][f"strain_{method}"]["energy"] for k in drawn] == pytest.approx(strain.energies.tolist())


def test_what_cannot_be_judged_is_counted() -> None:
    tin = AtomicSystem([50, 1, 1, 1, 1], 1.7 * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]))
    held = values(quick([tin], [StrainStage("mmff")]), "strain, MMFF94")
    assert (held["judged"], held["not judged"]) == (0, 1)
    assert np.isnan(held["median"])


def test_samples_must_hold_something(monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (lambda: EnergyRatioStage(0), lambda: StrainStage("mmff", -1), lambda: StrainStage("dft")):  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError):
            make()
    monkeypatch.setitem(__import__("sys").modules, "tblite.ase", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install adit\[xtb\]"):
        StrainStage("xtb")


def test_distributions_of_molecules(qm9: list[AtomicSystem]) -> None:
    known = PackedDataset.from_systems(qm9[50:])
    found = quick(qm9[:50], reference=Reference("half", known))
    held, expected = values(found, "distances"), molecule_distances(qm9[:50], known)
    assert held["atoms in a molecule"] == pytest.approx(expected.atom_count)
    assert held["elements"] == pytest.approx(expected.elements)
    assert held["bond lengths"] == pytest.approx(expected.bond_lengths.wasserstein)
    assert held["shape of bond angles"] == pytest.approx(expected.bond_angles.jensen_shannon)
    assert found.metric("molecules", "bond angles", "distances").unit == "degrees"
    assert max(values(quick(list(known), reference=Reference("half", known)), "distances").values()) < 1e-9


def test_distributions_and_coverage_of_crystals(mp20: list[AtomicSystem], damaged: list[AtomicSystem]) -> None:
    known = PackedDataset.from_systems(mp20[60:])
    samples = [*mp20[:50], *damaged[:10]]
    found = quick(samples, reference=Reference("part", known))
    sound = [row["protocols"]["cdvae"]["structure"] for row in found.rows]
    assert 50 <= sum(sound) < 60
    expected = crystal_distances([s for s, good in zip(samples, sound, strict=True) if good], known)
    held = values(found, "distances")
    assert held["density"] == pytest.approx(expected.density)
    assert held["space groups"] == pytest.approx(expected.spacegroups)
    assert held["elements in a crystal"] == pytest.approx(expected.n_elements)
    reach = neighbour_coverage(samples, known)
    assert values(found, "coverage") == pytest.approx(
        {"coverage": reach.coverage, "coverage to be expected": reach.expected, "precision": reach.precision}
    )
    assert [row["within_reference"] for row in found.rows] == reach.within.tolist()


def test_a_reference_is_measured_once(
    qm9: list[AtomicSystem], mp20: list[AtomicSystem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADIT_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(reference_statistics, "WORTH_KEEPING", 1)
    known = Reference("both", PackedDataset.from_systems([*qm9, *mp20]))
    first = [reference_statistics.known_molecules(known), reference_statistics.known_crystals(known, 0.1)]
    kept = {path.name.split("-")[0]: path for path in (tmp_path / "statistics").iterdir()}
    assert set(kept) == {"molecules", "crystals"}
    monkeypatch.setattr(reference_statistics, "molecule_statistics", None)  # not to be called again
    again = reference_statistics.known_molecules(known)
    assert molecule_distances(again, first[0]).bond_angles.jensen_shannon == 0
    assert {key: value.tolist() for key, value in again.lengths.items()} == {
        key: value.tolist() for key, value in first[0].lengths.items()
    }
    np.savez(kept["crystals"], spacegroups=np.full(len(mp20), 7))
    assert set(reference_statistics.known_crystals(known, 0.1).spacegroups) == {7}
    assert len(set(reference_statistics.known_crystals(known, 0.01).spacegroups)) > 5
    kept["crystals"].write_bytes(kept["crystals"].read_bytes()[:100])
    assert reference_statistics.known_crystals(known, 0.1).spacegroups.tolist() == first[1].spacegroups.tolist()


def through(change: Callable[[AtomicSystem], AtomicSystem | None], kind: str) -> ReconstructionStage:
    def apply(systems: Sequence[AtomicSystem], advance: Callable[[int], None]) -> list[AtomicSystem | None]:
        advance(len(systems))
        return [change(system) for system in systems]

    return ReconstructionStage(apply, "a test", kind)  # type: ignore[arg-type]


def turned(system: AtomicSystem) -> AtomicSystem:
    rotation = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    return replace(system, positions=system.positions @ rotation.T + 5)


def shaken_by(amount: float) -> Callable[[AtomicSystem], AtomicSystem]:
    """Moves atoms at random, by `amount` Angstrom along each axis."""
    rng = np.random.default_rng(0)
    return lambda s: replace(s, positions=s.positions + amount * rng.normal(size=s.positions.shape))


def test_molecules_come_back(qm9: list[AtomicSystem]) -> None:
    same = values(quick(qm9[:20], [through(turned, "molecules")]), "reconstruction")
    assert same["match rate, 0.01 A"] == same["match rate, 0.1 A"] == same["atoms of the right element"] == 1
    assert same["RMSD"] < 1e-6
    found = quick(qm9[:20], [through(shaken_by(0.03), "molecules")])
    near = values(found, "reconstruction")
    assert near["match rate, 0.01 A"] == 0 and near["match rate, 0.1 A"] == 1
    assert 0.03 < near["RMSD"] < 0.06  # sqrt(3) 0.03, less what the superposition takes
    sizes = [metric for metric in found.metrics if metric.name.startswith("match rate, 0.1 A, ")]
    assert sum(metric.of for metric in sizes) == 20
    lost = values(quick(qm9[:4], [through(lambda s: None, "molecules")]), "reconstruction")
    assert lost["match rate, 0.1 A"] == lost["atoms of the right element"] == 0 and np.isnan(lost["RMSD"])

    def wrong(s: AtomicSystem) -> AtomicSystem:
        return replace(s, numbers=np.where(np.arange(len(s)) == 0, 9, s.numbers))

    held = values(quick(qm9[:4], [through(wrong, "molecules")]), "reconstruction")
    assert held["match rate, 0.1 A"] == 0 and 0.9 < held["atoms of the right element"] < 1


def test_crystals_come_back(mp20: list[AtomicSystem]) -> None:
    same = values(quick(mp20[:20], [through(lambda s: s, "crystals")]), "reconstruction")
    assert same["match rate"] == 1 and same["RMSD"] < 1e-5
    far = values(quick(mp20[:20], [through(shaken_by(2.0), "crystals")]), "reconstruction")
    assert far["match rate"] < 0.5
    hydrogen = replace(mp20[0], numbers=np.ones(len(mp20[0]), dtype=np.int64))
    other = crystals(mp20[:2], [hydrogen, None])
    assert np.isnan(other.rmsd).all() and other.accuracy[1] == 0


def test_the_shipped_autoencoder(mp20: list[AtomicSystem], qm9: list[AtomicSystem]) -> None:
    import torch

    vae = load_vae("joint-tiny", torch.device("cpu"))
    systems = [*mp20[:30], *qm9[:10], AtomicSystem([], np.zeros((0, 3)))]
    done: list[int] = []
    made = rebuild(vae, systems, done.append)
    assert sum(done) == len(systems) and made[-1] is None
    assert [len(m) for m in made[:-1] if m is not None] == [len(s) for s in systems[:-1]]
    assert np.isfinite(crystals(systems[:30], made[:30]).rmsd).mean() > 0.8


def test_where_an_autoencoder_is_looked_for(tmp_path: Path) -> None:
    import torch

    here = torch.device("cpu")
    by_name, by_folder = load_vae("joint-tiny", here), load_vae(BUILT_IN / "joint-tiny", here)
    for name, tensor in by_name.state_dict().items():
        assert torch.equal(tensor, by_folder.state_dict()[name])
    with pytest.raises(CheckpointError, match="holds no checkpoint of an autoencoder; name weights"):
        load_vae(tmp_path / "none", here)


def test_intervals_of_quantiles() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(100):
        low, high = bootstrap_quantile(rng.exponential(size=60), 0.5, seed=seed)
        hits += low <= np.log(2) <= high
    assert 88 <= hits <= 100
    assert bootstrap_quantile([3.0], 0.25) == (3, 3)
    assert np.isnan(bootstrap_quantile([], 0.5)).all()
    with pytest.raises(InvalidInputError, match="`share`"):
        bootstrap_quantile([1.0], 1)
