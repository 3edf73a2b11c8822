use adit_core::bonds::{Bonds, Workspace, check_batch, flags, infer, infer_batch, sdf_batch};
use adit_core::cell::Vec3;
use adit_core::stability::stable_atoms;
use proptest::prelude::*;

fn found(numbers: &[u8], positions: &[Vec3], charge: Option<i32>) -> Bonds {
    infer(numbers, positions, charge, &mut Workspace::default()).unwrap()
}

fn valences(bonds: &Bonds) -> Vec<u8> {
    let mut valences = vec![0; bonds.charges.len()];
    for (ends, order) in bonds.pairs.iter().zip(&bonds.orders) {
        for &end in ends {
            valences[end as usize] += order;
        }
    }
    valences
}

/// A clump of atoms of the usual elements, at the density of molecules and above.
fn clump() -> impl Strategy<Value = (Vec<u8>, Vec<Vec3>)> {
    let element = prop::sample::select(vec![1u8, 1, 1, 5, 6, 6, 6, 7, 8, 9, 11, 15, 16, 17, 35, 80]);
    let atom = (element, prop::array::uniform3(-2.6..2.6f64));
    prop::collection::vec(atom, 0..26).prop_map(|atoms| atoms.into_iter().unzip())
}

/// Valence of an atom that is neither over-bonded nor open, from group, charge and unpaired electrons.
fn complete(number: u8, charge: i8, radicals: u8) -> Vec<i32> {
    let full: &[i32] = match number {
        1 | 9 => &[1],
        17 | 35 => &[1, 3, 5, 7],
        5 | 7 => &[3],
        6 => &[4],
        8 | 80 => &[2],
        15 => &[3, 5],
        16 => &[2, 4, 6],
        _ => &[0],
    };
    let shift = match (number, charge) {
        (_, 0) => 0,
        // A cation of carbon lacks an electron, an anion of boron has one more, others the other way.
        (6, charge) => -i32::from(charge.abs()),
        (5, charge) => -i32::from(charge),
        (1, _) => -1,
        (_, charge) => i32::from(charge),
    };
    full.iter().map(|valence| valence + shift - i32::from(radicals)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn no_valence_is_exceeded_and_all_gaps_are_flagged((numbers, positions) in clump(), charge in prop::option::of(-3..4i32)) {
        let bonds = found(&numbers, &positions, charge);
        for (atom, &valence) in valences(&bonds).iter().enumerate() {
            let allowed = complete(numbers[atom], bonds.charges[atom], bonds.radicals[atom]);
            prop_assert!(
                numbers[atom] == 15 && bonds.charges[atom] == -1 || numbers[atom] == 80 || numbers[atom] == 11
                    || allowed.contains(&i32::from(valence)),
                "{} with valence {valence}, charge {}, {} radicals", numbers[atom], bonds.charges[atom], bonds.radicals[atom]
            );
        }
        prop_assert_eq!(bonds.flags & flags::RADICAL != 0, bonds.radicals.iter().any(|&count| count > 0));
        prop_assert_eq!(bonds.flags & flags::FRAGMENTS != 0, bonds.fragments.iter().any(|&label| label > 0));
        let total: i32 = bonds.charges.iter().map(|&charge| i32::from(charge)).sum();
        prop_assert_eq!(bonds.flags & flags::CHARGE != 0, charge.is_some_and(|charge| charge != total));
        prop_assert!(bonds.pairs.iter().all(|pair| pair[0] < pair[1]) && bonds.pairs.is_sorted());
    }

    #[test]
    fn the_order_of_atoms_does_not_matter((numbers, positions) in clump(), seed in any::<u64>()) {
        let count = numbers.len();
        let mut places: Vec<usize> = (0..count).collect();
        // A shuffle by multiplication.
        places.sort_by_key(|&k| (k as u64 + 1).wrapping_mul(seed | 1));
        let first = found(&numbers, &positions, None);
        let moved_numbers: Vec<u8> = places.iter().map(|&k| numbers[k]).collect();
        let moved_positions: Vec<Vec3> = places.iter().map(|&k| positions[k]).collect();
        let second = found(&moved_numbers, &moved_positions, None);
        let mut back: Vec<([u32; 2], u8)> = second.pairs.iter().zip(&second.orders).map(|(pair, &order)| {
            let mut pair = pair.map(|end| places[end as usize] as u32);
            pair.sort_unstable();
            (pair, order)
        }).collect();
        back.sort_unstable();
        let forward: Vec<([u32; 2], u8)> = first.pairs.iter().copied().zip(first.orders.iter().copied()).collect();
        prop_assert_eq!(forward, back);
        prop_assert_eq!(first.flags, second.flags);
        for (new, &old) in places.iter().enumerate() {
            prop_assert_eq!(first.charges[old], second.charges[new]);
        }
    }

    #[test]
    fn turning_and_moving_does_not_matter((numbers, positions) in clump(), angle in 0.0..6.0f64, far in -50.0..50.0f64) {
        let (sin, cos) = angle.sin_cos();
        let moved: Vec<Vec3> = positions.iter().map(|p| [cos * p[0] - sin * p[2] + far, p[1] - far, sin * p[0] + cos * p[2]]).collect();
        let (first, second) = (found(&numbers, &positions, None), found(&numbers, &moved, None));
        // Rounding may decide a tie, but neither the cost nor what follows from it.
        prop_assert_eq!(first.pairs.len(), second.pairs.len());
        prop_assert_eq!(first.flags, second.flags);
        prop_assert_eq!(first.radicals.iter().map(|&c| u32::from(c)).sum::<u32>(), second.radicals.iter().map(|&c| u32::from(c)).sum::<u32>());
    }

    #[test]
    fn any_numbers_end_in_bonds_or_an_error(
        atoms in prop::collection::vec((any::<u8>(), prop::array::uniform3(any::<f64>())), 0..6),
        charge in prop::option::of(any::<i32>()),
    ) {
        let (numbers, positions): (Vec<u8>, Vec<Vec3>) = atoms.into_iter().unzip();
        let offsets = [0, numbers.len() as i64];
        let charges = charge.map(|charge| [charge]);
        let charges = charges.as_ref().map(|charges| &charges[..]);
        let _ = infer_batch(&numbers, &positions, &offsets, charges, Some(1));
        let _ = check_batch(&numbers, &positions, &offsets, charges, Some(1));
        let _ = sdf_batch(&numbers, &positions, &offsets, (&[String::new()], &[String::new()]), charges, Some(1));
        let _ = stable_atoms(&numbers, &positions, &offsets, Some(1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn dense_clumps_end((numbers, positions) in (
        prop::collection::vec(prop::sample::select(vec![1u8, 6, 7, 8, 15, 16]), 150),
        prop::collection::vec(prop::array::uniform3(0.0..9.0f64), 150),
    )) {
        let bonds = found(&numbers, &positions, Some(0));
        prop_assert_eq!(bonds.charges.len(), 150);
    }
}

fn octahedron(centre: u8, outer: u8, length: f64) -> (Vec<u8>, Vec<Vec3>) {
    let mut positions = vec![[0.0; 3]];
    for axis in 0..3 {
        for sign in [-1.0, 1.0] {
            let mut point = [0.0; 3];
            point[axis] = sign * length;
            positions.push(point);
        }
    }
    (std::iter::once(centre).chain([outer; 6]).collect(), positions)
}

fn line(atoms: &[(u8, f64)]) -> (Vec<u8>, Vec<Vec3>) {
    atoms.iter().map(|&(number, x)| (number, [x, 0.0, 0.0])).unzip()
}

#[test]
fn hypervalent_centres() {
    let (numbers, positions) = octahedron(16, 9, 1.56);
    assert_eq!((found(&numbers, &positions, None).flags, valences(&found(&numbers, &positions, None))[0]), (0, 6));
    let (numbers, positions) = octahedron(15, 9, 1.60);
    let phosphorus = found(&numbers, &positions, None);
    assert_eq!((phosphorus.flags, phosphorus.charges[0]), (0, -1));
    let (numbers, positions) = octahedron(6, 9, 1.35);
    let carbon = found(&numbers, &positions, Some(0));
    assert_eq!(valences(&carbon)[0], 4);
    assert_eq!(carbon.flags & flags::CROWDED, flags::CROWDED);
}

#[test]
fn small_molecules_have_the_bonds_of_textbooks() {
    for (atoms, orders, charges) in [
        (&[(7, 0.0), (7, 1.10)][..], &[3][..], &[0, 0][..]),
        (&[(6, 0.0), (8, 1.128)], &[3], &[-1, 1]),
        (&[(1, 0.0), (1, 0.74)], &[1], &[0, 0]),
        (&[(1, 0.0), (6, 1.07), (7, 2.22)], &[1, 3], &[0, 0, 0]),
        (&[(1, 0.0), (7, 1.0), (6, 2.17)], &[1, 3], &[0, 1, -1]),
        (&[(8, 0.0), (6, 1.16), (8, 2.32)], &[2, 2], &[0, 0, 0]),
        (&[(7, 0.0), (7, 1.18), (7, 2.36)], &[2, 2], &[-1, 1, -1]),
        (&[(7, 0.0), (7, 1.13), (8, 2.31)], &[2, 2], &[-1, 1, 0]),
        (&[(2, 0.0)], &[], &[0]),
        (&[(17, 0.0)], &[], &[-1]),
        (&[(11, 0.0), (17, 2.36)], &[], &[1, -1]),
    ] {
        let (numbers, positions) = line(atoms);
        let bonds = found(&numbers, &positions, None);
        if numbers == [7, 7, 8] {
            // Laughing gas is drawn both ways.
            assert_eq!(bonds.charges.iter().sum::<i8>(), 0);
            assert_eq!(bonds.charges[1], 1);
            continue;
        }
        assert_eq!((&bonds.orders[..], &bonds.charges[..]), (orders, charges), "{numbers:?}");
        assert_eq!(bonds.flags & (flags::RADICAL | flags::CHARGE | flags::CROWDED), 0);
    }
}

#[test]
fn a_charge_is_honoured_or_flagged() {
    let water = ([8u8, 1, 1], [[0.0; 3], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]);
    assert_eq!(found(&water.0, &water.1, Some(0)).flags, 0);
    assert_eq!(found(&water.0, &water.1, Some(-4)).flags & flags::CHARGE, flags::CHARGE);
    let hydroxide = line(&[(8, 0.0), (1, 0.97)]);
    assert_eq!(found(&hydroxide.0, &hydroxide.1, None).charges, [-1, 0]);
    let neutral = found(&hydroxide.0, &hydroxide.1, Some(0));
    assert_eq!((neutral.flags, &neutral.radicals[..]), (flags::RADICAL, &[1, 0][..]));
}

#[test]
fn methylene_is_a_radical_and_two_molecules_are_two_fragments() {
    let carbene = ([6u8, 1, 1], [[0.0; 3], [1.1, 0.0, 0.0], [-0.24, 1.07, 0.0]]);
    let bonds = found(&carbene.0, &carbene.1, None);
    assert_eq!((bonds.flags, bonds.radicals[0]), (flags::RADICAL, 2));
    let (numbers, positions) = line(&[(1, 0.0), (1, 0.74), (1, 5.0), (1, 5.74)]);
    let pair = found(&numbers, &positions, None);
    assert_eq!((pair.flags, &pair.fragments[..]), (flags::FRAGMENTS, &[0, 0, 1, 1][..]));
}

/// A sheet of graphene, without hydrogen.
fn graphene(side: usize) -> Vec<Vec3> {
    let (a, root) = (2.46, 3f64.sqrt());
    let cells = (0..side * side).map(|k| ((k / side) as f64, (k % side) as f64));
    let both = |(i, j): (f64, f64)| {
        let (x, y) = (a * (i + j / 2.0), a * root / 2.0 * j);
        [[x, y, 0.0], [x + a / 2.0, y + a / (2.0 * root), 0.0]]
    };
    cells.flat_map(both).collect()
}

#[test]
fn large_conjugated_systems_keep_their_valences() {
    for (side, most) in [(6, 30), (30, 140)] {
        let positions = graphene(side);
        let numbers = vec![6u8; positions.len()];
        let bonds = found(&numbers, &positions, None);
        assert!(valences(&bonds).iter().all(|&valence| valence <= 4));
        let open = bonds.radicals.iter().filter(|&&count| count > 0).count();
        assert!(open <= most, "{open} open valences at the rim of {side}");
    }
}

#[test]
fn threads_do_not_matter_and_messages_name_the_argument() {
    let (one, at) = line(&[(6, 0.0), (8, 1.2), (8, -1.2)]);
    let numbers: Vec<u8> = one.iter().copied().cycle().take(600).collect();
    let positions: Vec<Vec3> = at.iter().copied().cycle().take(600).collect();
    let offsets: Vec<i64> = (0..=200).map(|k| 3 * k).collect();
    let single = infer_batch(&numbers, &positions, &offsets, None, Some(1)).unwrap();
    assert_eq!(single, infer_batch(&numbers, &positions, &offsets, None, Some(3)).unwrap());
    let message = |numbers: &[u8], positions: &[Vec3]| {
        infer_batch(numbers, positions, &[0, 1], None, Some(1)).unwrap_err().to_string()
    };
    assert!(message(&[0], &[[0.0; 3]]).starts_with("`numbers[0]` must be an atomic number"));
    assert!(message(&[6], &[[f64::NAN; 3]]).starts_with("`positions[0]` must be finite"));
    assert!(message(&[6, 6], &[[0.0; 3]]).starts_with("`positions` must have one row"));
}

#[test]
fn records_are_v2000_and_large_ones_v3000() {
    let text = |numbers: Vec<u8>, positions: Vec<Vec3>| {
        let offsets = [0, numbers.len() as i64];
        let (titles, items) = (["name".to_owned()], ["> <a>\n1\n\n".to_owned()]);
        sdf_batch(&numbers, &positions, &offsets, (&titles, &items), None, Some(1)).unwrap().remove(0).0
    };
    let (numbers, positions) = line(&[(1, 0.0), (7, 1.0), (6, 2.17)]);
    let lines = "name\n  adit              3D\n\n  3  2  0  0  0  0  0  0  0  0999 V2000\n";
    let small = text(numbers, positions);
    assert!(small.starts_with(lines), "{small}");
    assert!(
        small.ends_with("  1  2  1  0\n  2  3  3  0\nM  CHG  2   2   1   3  -1\nM  END\n> <a>\n1\n\n$$$$\n"),
        "{small}"
    );
    let far = text(vec![8, 1], vec![[1e5, 0.0, 0.0], [1e5, 0.97, 0.0]]);
    assert!(far.contains("V3000") && far.contains("M  V30 1 O 100000.0000 0.0000 0.0000 0 CHG=-1\n"), "{far}");
}

#[test]
fn stability_counts_bonds_of_the_tables() {
    let (numbers, positions) = line(&[(6, 0.0), (8, 1.2), (8, -1.2)]);
    assert_eq!(stable_atoms(&numbers, &positions, &[0, 3], None).unwrap(), [3]);
    let stretched: Vec<Vec3> = positions.iter().map(|p| [p[0] * 1.06, 0.0, 0.0]).collect();
    assert_eq!(stable_atoms(&numbers, &stretched, &[0, 3], None).unwrap(), [0]);
    assert_eq!(stable_atoms(&[120], &[[0.0f32; 3]], &[0, 1], None).unwrap(), [0]);
}
