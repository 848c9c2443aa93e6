//! Aligned columns under upper-case headings.

use std::fmt;

/// Rows of text.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

const GAP: usize = 3;

impl Table {
    /// A table with these headings and no rows.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row; it should have as many cells as there are headings.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Sorts the rows below the headings by their cells, from the left.
    pub(crate) fn sorted(mut self) -> Self {
        self.rows[1..].sort();
        self
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        let width = |at: usize| self.rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<0$}", width + GAP));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_rows_are_sorted() {
        let mut table = Table::new(&["NAME", "IP"]);
        table.row(["web-long-name".to_owned(), "10.0.0.1".to_owned()]);
        table.row(["a".to_owned(), "10.0.0.2".to_owned()]);
        let text = table.sorted().to_string();
        assert_eq!(text, "NAME            IP\na               10.0.0.2\nweb-long-name   10.0.0.1\n");
    }
}
