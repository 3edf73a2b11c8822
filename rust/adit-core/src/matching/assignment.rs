//! The assignment of least cost: Jonker and Volgenant's shortest augmenting paths.
//!
//! R. Jonker, A. Volgenant, Computing 38, 325 (1987), with their column reduction. Often each row
//! has its least cost in a column of its own, which is seen at once.

const FREE: usize = usize::MAX;

/// Work space, kept between calls.
#[derive(Debug, Default)]
pub struct Assignment {
    row_of: Vec<usize>,
    column_of: Vec<usize>,
    row_potential: Vec<f64>,
    column_potential: Vec<f64>,
    distance: Vec<f64>,
    previous: Vec<usize>,
    done: Vec<bool>,
}

impl Assignment {
    /// The column of each row, least in total cost. `costs` holds n rows of n; infinity forbids.
    /// `None`: every assignment is forbidden.
    pub fn solve(&mut self, costs: &[f64], n: usize) -> Option<&[usize]> {
        if self.by_least(costs, n)? {
            return Some(&self.column_of);
        }
        self.reduce_columns(costs, n);
        self.reduce_rows(costs, n);
        for row in 0..n {
            if self.column_of[row] == FREE {
                self.augment(costs, n, row)?;
            }
        }
        Some(&self.column_of)
    }

    /// Potentials to begin with: the least cost of each column, then what is left of each row; rows take free
    /// columns that cost nothing more.
    fn reduce_columns(&mut self, costs: &[f64], n: usize) {
        self.row_of.clear();
        self.row_of.resize(n, FREE);
        self.column_of.fill(FREE);
        self.column_potential.clear();
        self.column_potential.resize(n, f64::INFINITY);
        for row in costs.chunks_exact(n) {
            for (least, &cost) in self.column_potential.iter_mut().zip(row) {
                *least = least.min(cost);
            }
        }
        // A column that no row may take leaves no assignment; `augment` will find that.
        self.column_potential.iter_mut().filter(|least| !least.is_finite()).for_each(|least| *least = 0.0);
        self.row_potential.clear();
        for (index, row) in costs.chunks_exact(n).enumerate() {
            let (mut least, mut best) = (f64::INFINITY, FREE);
            for (column, (&cost, &potential)) in row.iter().zip(&self.column_potential).enumerate() {
                if cost - potential < least {
                    (least, best) = (cost - potential, column);
                }
            }
            self.row_potential.push(least);
            if best != FREE && self.row_of[best] == FREE {
                self.row_of[best] = index;
                self.column_of[index] = best;
            }
        }
    }

    /// Each free row takes its cheapest column, from another row if need be, and lowers that column's potential by
    /// what the second cheapest would cost more; the other row goes on in its place.
    fn reduce_rows(&mut self, costs: &[f64], n: usize) {
        for start in 0..n {
            let mut row = start;
            for _ in 0..n {
                if self.column_of[row] != FREE {
                    break;
                }
                let (mut least, mut second, mut best) = (f64::INFINITY, f64::INFINITY, FREE);
                for (column, (&cost, &potential)) in
                    costs[row * n..][..n].iter().zip(&self.column_potential).enumerate()
                {
                    let reduced = cost - potential;
                    if reduced < least {
                        (second, least, best) = (least, reduced, column);
                    } else if reduced < second {
                        second = reduced;
                    }
                }
                // Where two cost the same, or only one can be had, the search for a path has to decide.
                if !(least < second && second.is_finite()) {
                    break;
                }
                self.column_potential[best] -= second - least;
                self.row_potential[row] = second;
                let other = std::mem::replace(&mut self.row_of[best], row);
                self.column_of[row] = best;
                if other == FREE {
                    break;
                }
                self.column_of[other] = FREE;
                row = other;
            }
        }
    }

    /// Each row takes its cheapest column. `Some(true)`: no two the same; `None`: a row has none.
    fn by_least(&mut self, costs: &[f64], n: usize) -> Option<bool> {
        self.column_of.clear();
        self.done.clear();
        self.done.resize(n, false);
        let mut distinct = true;
        for row in costs.chunks_exact(n.max(1)) {
            let (mut least, mut best) = (f64::INFINITY, FREE);
            for (column, &cost) in row.iter().enumerate() {
                if cost < least {
                    (least, best) = (cost, column);
                }
            }
            let taken = self.done.get_mut(best)?;
            distinct &= !*taken;
            *taken = true;
            self.column_of.push(best);
        }
        Some(distinct)
    }

    /// Dijkstra from a free row to the nearest free column; then the path is turned over.
    fn augment(&mut self, costs: &[f64], n: usize, start: usize) -> Option<()> {
        self.distance.clear();
        self.distance.resize(n, f64::INFINITY);
        self.previous.clear();
        self.previous.resize(n, FREE);
        self.done.fill(false);
        let (mut row, mut travelled) = (start, 0.0);
        let last = loop {
            let (mut least, mut next) = (f64::INFINITY, FREE);
            for column in 0..n {
                if self.done[column] {
                    continue;
                }
                let reduced = costs[row * n + column] - self.row_potential[row] - self.column_potential[column];
                if travelled + reduced < self.distance[column] {
                    self.distance[column] = travelled + reduced;
                    self.previous[column] = row;
                }
                let here = self.distance[column];
                if here < least {
                    (least, next) = (here, column);
                }
            }
            if next == FREE {
                return None;
            }
            travelled = least;
            self.done[next] = true;
            if self.row_of[next] == FREE {
                break next;
            }
            row = self.row_of[next];
        };
        self.row_potential[start] += travelled;
        for column in 0..n {
            if self.done[column] && column != last {
                let rest = travelled - self.distance[column];
                self.row_potential[self.row_of[column]] += rest;
                self.column_potential[column] -= rest;
            }
        }
        let mut column = last;
        loop {
            let row = self.previous[column];
            self.row_of[column] = row;
            let before = std::mem::replace(&mut self.column_of[row], column);
            if row == start {
                return Some(());
            }
            column = before;
        }
    }
}
