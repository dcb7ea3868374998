//! Plain tables, and what is said of several rounds.

use std::fmt;

/// Figures of one thing, one per round.
#[derive(Debug, Clone, Default)]
pub struct Rounds(pub Vec<f64>);

impl Rounds {
    /// The median; 0 without rounds.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value below which this part of the rounds lies (nearest rank; the median of an even number
    /// is the mean of the two in the middle).
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1) as f64;
        let at = |place: f64| sorted.get(place as usize).copied().unwrap_or(0.0);
        if part == 0.5 {
            return f64::midpoint(at((last / 2.0).floor()), at((last / 2.0).ceil()));
        }
        at((last * part).round())
    }

    /// Smallest and largest, each as `show` writes it.
    pub fn spread(&self, show: impl Fn(f64) -> String) -> String {
        format!("{}-{}", show(self.quantile(0.0)), show(self.quantile(1.0)))
    }

    /// This against another thing, round by round: neighbours met the same load of the machine.
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }
}

/// A table: the first column to the left, all others to the right.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names.
    pub fn new(head: &[&str]) -> Self {
        let head = head.iter().map(|&s| s.to_owned()).collect();
        Self { rows: vec![head] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = |c: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(c));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        for row in &self.rows {
            for (c, cell) in row.iter().enumerate() {
                let width = wide(c);
                match c {
                    0 => write!(f, "  {cell:<width$}")?,
                    _ => write!(f, "  {cell:>width$}")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// A count, in groups of three digits.
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let first = digits.len() % 3;
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && i % 3 == first {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Two digits after the point.
pub fn fine(value: f64) -> String {
    format!("{value:.2}")
}

/// Three digits after the point, for small ratios.
pub fn part(value: f64) -> String {
    format!("{value:.3}")
}

/// One digit after the point.
pub fn short(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_ratios_are_of_neighbours() {
        let (a, b) = (Rounds(vec![4.0, 1.0, 90.0]), Rounds(vec![2.0, 1.0, 30.0]));
        assert_eq!((a.median(), b.median()), (4.0, 2.0));
        assert_eq!(a.over(&b).0, [2.0, 1.0, 3.0]);
        assert_eq!(Rounds(vec![3.0, 1.0, 2.0, 10.0]).median(), 2.5);
        assert_eq!(a.spread(short), "1.0-90.0");
        assert_eq!(Rounds::default().median(), 0.0);
    }

    #[test]
    fn columns_stand_under_each_other() {
        let mut table = Table::new(&["what", "frames/s"]);
        table.row(["a longer name".to_owned(), grouped(1_234_567.4)]);
        assert_eq!(
            table.to_string(),
            "  what            frames/s\n  a longer name  1,234,567\n"
        );
        let shown = [0.0, 999.0, 1000.0, 12_345.0, 123_456.0].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "123,456"]);
    }
}
