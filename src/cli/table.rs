//! Rows under headings, for a terminal. Pure.

/// A column, and on which side its cells are flush.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    heading: &'static str,
    is_number: bool,
}

impl Column {
    /// Flush left.
    pub(super) const fn text(heading: &'static str) -> Self {
        Self { heading, is_number: false }
    }

    /// Flush right.
    pub(super) const fn number(heading: &'static str) -> Self {
        Self { heading, is_number: true }
    }
}

/// A cell wider than this does not push the columns of all other rows away.
const WIDEST: usize = 48;

/// Headings, then rows, with a line end after each. Cells have no line ends.
pub(super) fn table<const N: usize>(columns: [Column; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = std::iter::once(columns.map(|column| column.heading.to_owned())).chain(rows).collect();
    let widths: [usize; N] = std::array::from_fn(|at| {
        let wide = rows.iter().map(|row| row[at].chars().count()).filter(|width| *width <= WIDEST);
        wide.max().unwrap_or_default()
    });
    let mut shown = String::new();
    for row in &rows {
        let mut line = String::new();
        for (at, (cell, column)) in row.iter().zip(&columns).enumerate() {
            let width = widths[at];
            line.push_str(&match column.is_number {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            });
            line.push_str("  ");
        }
        shown.push_str(line.trim_end());
        shown.push('\n');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_a_very_long_one_moves_only_its_own_row() {
        let long = "x".repeat(WIDEST + 1);
        let rows = [["/a", "7", "on"], ["größe", "12345", "off"], [&long, "1", "on"]];
        let rows = rows.map(|row| row.map(str::to_owned)).into_iter();
        let columns = [Column::text("NAME"), Column::number("N"), Column::text("STATE")];
        let expected =
            format!("NAME       N  STATE\n/a         7  on\ngröße  12345  off\n{long}      1  on\n");
        assert_eq!(table(columns, rows), expected);
    }
}
