//! Plain aligned columns for people.

use std::io::{self, Write};

/// Spaces between columns.
const GAP: usize = 2;

/// Rows under a heading. Widths follow the rows; those written by an earlier [`Table::flush`] keep
/// theirs, so a long table can be written in pieces.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    has_heading: bool,
}

#[derive(Debug)]
struct Column {
    heading: String,
    is_number: bool,
    width: usize,
}

impl Table {
    /// A table with these headings; one that begins with `>` heads a column of numbers, which are
    /// aligned to the right.
    pub(crate) fn new<S: AsRef<str>>(headings: &[S]) -> Self {
        let columns = headings.iter().map(|heading| {
            let heading = heading.as_ref();
            let bare = heading.trim_start_matches('>');
            Column {
                heading: bare.to_owned(),
                is_number: bare != heading,
                width: bare.chars().count(),
            }
        });
        Self {
            columns: columns.collect(),
            rows: Vec::new(),
            has_heading: false,
        }
    }

    /// Adds a row; missing cells are empty.
    pub(crate) fn push<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        debug_assert!(cells.len() <= self.columns.len(), "a cell without heading");
        for (column, cell) in self.columns.iter_mut().zip(&cells) {
            column.width = column.width.max(cell.chars().count());
        }
        self.rows.push(cells);
    }

    /// Rows that were added and not yet written.
    pub(crate) fn pending(&self) -> usize {
        self.rows.len()
    }

    /// Writes the heading, once, and the rows added since the last call.
    pub(crate) fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if !self.has_heading {
            self.has_heading = true;
            let headings: Vec<_> = self.columns.iter().map(|c| c.heading.clone()).collect();
            self.line(&headings, out)?;
        }
        for row in std::mem::take(&mut self.rows) {
            self.line(&row, out)?;
        }
        Ok(())
    }

    fn line(&self, cells: &[String], out: &mut dyn Write) -> io::Result<()> {
        let mut line = String::new();
        for (column, cell) in self.columns.iter().zip(cells) {
            let padding = " ".repeat(column.width.saturating_sub(cell.chars().count()));
            let (before, after) = if column.is_number {
                (padding.as_str(), "")
            } else {
                ("", padding.as_str())
            };
            line.extend([before, cell, after, &" ".repeat(GAP)]);
        }
        writeln!(out, "{}", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(table: &mut Table) -> String {
        let mut out = Vec::new();
        table.flush(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn words_stand_left_and_numbers_right() {
        let mut table = Table::new(&["NAME", ">COUNT", "NOTE"]);
        table.push(["é", "7", ""]);
        table.push(["longer", "1234567", "x"]);
        let expected = "NAME      COUNT  NOTE\né             7\nlonger  1234567  x\n";
        assert_eq!(written(&mut table), expected);
    }

    #[test]
    fn a_table_in_pieces_has_one_heading_and_keeps_its_widths() {
        let mut table = Table::new(&["A", "B"]);
        table.push(["wide cell", "1"]);
        assert_eq!(table.pending(), 1);
        assert_eq!(written(&mut table), "A          B\nwide cell  1\n");
        table.push(["x", "2"]);
        assert_eq!(written(&mut table), "x          2\n");
        assert_eq!(written(&mut table), "");
    }

    #[test]
    fn short_rows_are_fine() {
        let mut table = Table::new(&["A", "B"]);
        table.push(["x"]);
        assert_eq!(written(&mut table), "A  B\nx\n");
    }
}
