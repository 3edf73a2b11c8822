//! Charge neutrality against the enumeration of all choices; formulas.

use adit_core::validity::{Composition, OxidationStates, compositional, compositional_of_formulas, is_valid, parse};
use proptest::prelude::*;

const TABLES: [OxidationStates; 3] = [OxidationStates::Smact14, OxidationStates::Icsd16, OxidationStates::Icsd24];
/// Pauling electronegativities of some elements, none of them all metals.
const SCALE: [(u8, f64); 10] = [
    (1, 2.2),
    (3, 0.98),
    (7, 3.04),
    (8, 3.44),
    (9, 3.98),
    (15, 2.19),
    (16, 2.58),
    (26, 1.83),
    (29, 1.9),
    (46, 2.2), // as hydrogen
];

/// The definition: any choice of states that is neutral, and in which no anion is as little
/// electronegative as a cation.
fn by_enumeration(composition: &Composition, table: OxidationStates) -> bool {
    let mut choices: Vec<(i64, f64, f64)> = vec![(0, f64::NEG_INFINITY, f64::INFINITY)];
    for &(number, count) in composition {
        let scale = SCALE.iter().find(|entry| entry.0 == number).unwrap().1;
        let extended = choices.iter().flat_map(|&(sum, cation, anion)| {
            table.of(number).iter().map(move |&state| {
                let sum = sum + i64::from(state) * count as i64;
                let cation = if state > 0 { cation.max(scale) } else { cation };
                (sum, cation, if state < 0 { anion.min(scale) } else { anion })
            })
        });
        choices = extended.collect();
    }
    choices.iter().any(|&(sum, cation, anion)| sum == 0 && cation < anion)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn equals_the_enumeration(
        chosen in prop::sample::subsequence(SCALE.to_vec(), 2..6),
        counts in prop::collection::vec(prop_oneof![1..13u64, 1..3000u64], 6),
        table in 0..3usize,
    ) {
        let metals = [3, 26, 29, 46];
        prop_assume!(chosen.iter().any(|entry| !metals.contains(&entry.0)));
        let composition: Composition = chosen.iter().zip(&counts).map(|(entry, &count)| (entry.0, count)).collect();
        prop_assert_eq!(is_valid(&composition, TABLES[table]).unwrap(), by_enumeration(&composition, TABLES[table]));
    }

    #[test]
    fn multiples_are_judged_alike(numbers in prop::collection::vec(1..100u8, 1..9), times in 1..7usize) {
        let single = compositional(&numbers, &[0, numbers.len() as i64], OxidationStates::Icsd24, Some(1)).unwrap();
        let many = numbers.repeat(times);
        let offsets = [0, many.len() as i64];
        prop_assert_eq!(single, compositional(&many, &offsets, OxidationStates::Icsd24, Some(1)).unwrap());
    }

    #[test]
    fn any_numbers_end(numbers in prop::collection::vec(any::<u8>(), 0..40)) {
        for table in TABLES {
            prop_assert_eq!(compositional(&numbers, &[0, numbers.len() as i64], table, Some(1)).unwrap().len(), 1);
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in prop_oneof!["\\PC*", "([A-Z][a-z]?[0-9]{0,3}|[()\\[\\]{}]){0,12}"]) {
        if let Ok(composition) = parse(&text) {
            prop_assert!(composition.windows(2).all(|pair| pair[0].0 < pair[1].0));
            prop_assert!(composition.iter().all(|&(number, count)| number > 0 && count > 0));
        }
        let _ = compositional_of_formulas(&[text], OxidationStates::Smact14, Some(1));
    }
}

#[test]
fn formulas() {
    assert_eq!(parse("Ca3(PO4)2").unwrap(), [(8, 8), (15, 2), (20, 3)]);
    assert_eq!(parse("K4[Fe(CN)6] ").unwrap(), [(6, 6), (7, 6), (19, 4), (26, 1)]);
    assert_eq!(parse("NaCl Na2 D2O Cl0").unwrap(), [(1, 2), (8, 1), (11, 3), (17, 1)]);
    assert_eq!(parse("").unwrap(), []);
    for bad in ["na", "Xx", "Na)", "(Na", "(Na]", "Na-", "Na0.5", "é", "O4294967296", "(O65536)65536"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn nothing_is_not_valid_and_giants_are_refused() {
    assert!(!is_valid(&[], OxidationStates::Smact14).unwrap());
    let error = is_valid(&[(11, 1 << 24), (17, (1 << 24) + 1)], OxidationStates::Smact14).unwrap_err();
    assert!(error.to_string().contains("33554433 atoms"), "{error}");
    assert!(is_valid(&[(11, 1 << 40), (17, 1 << 40)], OxidationStates::Smact14).unwrap());
}
