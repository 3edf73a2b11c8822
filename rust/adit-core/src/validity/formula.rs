//! Chemical formulas.

use std::collections::BTreeMap;

use crate::elements::SYMBOLS;

/// Atomic number and how many atoms of it: by number, each once, none of them 0.
pub type Composition = Vec<(u8, u64)>;

const MAX_DEPTH: usize = 32;

type Amounts = BTreeMap<u8, u64>;

/// Reads element symbols, whole numbers, and brackets of any kind, with blanks between; D and T are
/// hydrogen. An element may come more than once.
///
/// # Errors
/// What a formula should be.
pub fn parse(formula: &str) -> Result<Composition, &'static str> {
    let text: Vec<char> = formula.chars().filter(|c| !c.is_whitespace()).collect();
    // One level for each open bracket, each with the bracket that closes it.
    let mut levels: Vec<(char, Amounts)> = vec![(' ', Amounts::new())];
    let mut rest = &text[..];
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let added = match first {
            '(' | '[' | '{' if levels.len() <= MAX_DEPTH => {
                let closing = if first == '(' {
                    ')'
                } else if first == '[' {
                    ']'
                } else {
                    '}'
                };
                levels.push((closing, Amounts::new()));
                continue;
            }
            ')' | ']' | '}' if levels.len() > 1 && levels[levels.len() - 1].0 == first => {
                levels.pop().map_or_else(Amounts::new, |level| level.1)
            }
            'A'..='Z' => {
                let mut symbol = String::from(first);
                if let Some((&second @ 'a'..='z', after)) = rest.split_first() {
                    symbol.push(second);
                    rest = after;
                }
                Amounts::from([(number_of(&symbol).ok_or("be made of known element symbols")?, 1)])
            }
            _ => return Err("be element symbols, whole numbers and matching brackets"),
        };
        let times = whole_number(&mut rest)?;
        let level = levels.len() - 1;
        for (number, count) in added {
            let sum =
                count.checked_mul(times).and_then(|new| levels[level].1.get(&number).unwrap_or(&0).checked_add(new));
            levels[level].1.insert(number, sum.filter(|&sum| u32::try_from(sum).is_ok()).ok_or("have fewer atoms")?);
        }
    }
    if levels.len() > 1 {
        return Err("close its brackets");
    }
    Ok(levels.remove(0).1.into_iter().filter(|&(_, count)| count > 0).collect())
}

fn number_of(symbol: &str) -> Option<u8> {
    if symbol == "D" || symbol == "T" {
        return Some(1);
    }
    SYMBOLS.iter().position(|known| *known == symbol).map(|number| number as u8)
}

/// The number that comes next; 1 if none does.
fn whole_number(rest: &mut &[char]) -> Result<u64, &'static str> {
    let digits = rest.iter().take_while(|c| c.is_ascii_digit()).count();
    let (number, after) = rest.split_at(digits);
    *rest = after;
    if after.first() == Some(&'.') {
        return Err("have whole numbers of atoms");
    }
    if digits == 0 {
        return Ok(1);
    }
    number.iter().collect::<String>().parse().map_err(|_| "have fewer atoms")
}
