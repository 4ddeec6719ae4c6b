//! Rows under headings, for a terminal. Pure.

/// A column: its heading, what stands in its cells, and on which side they are flush.
#[derive(Debug)]
pub(super) struct Column<T> {
    heading: &'static str,
    is_number: bool,
    cell: fn(&T) -> String,
}

impl<T> Column<T> {
    /// Flush left.
    pub(super) fn text(heading: &'static str, cell: fn(&T) -> String) -> Self {
        Self { heading, is_number: false, cell }
    }

    /// Flush right.
    pub(super) fn number(heading: &'static str, cell: fn(&T) -> String) -> Self {
        Self { heading, is_number: true, cell }
    }
}

/// A cell wider than this does not push the columns of all other rows away.
const MAX_WIDTH: usize = 48;

/// Headings, then a row for each of `items`, with a line end after each. Cells have no line ends.
pub(super) fn table<T>(columns: &[Column<T>], items: &[T]) -> String {
    let headings: Vec<String> = columns.iter().map(|column| column.heading.to_owned()).collect();
    let row = |item: &T| columns.iter().map(|column| (column.cell)(item)).collect();
    let rows: Vec<Vec<String>> = std::iter::once(headings).chain(items.iter().map(row)).collect();
    let width_of = |at: usize| {
        let widths = rows.iter().map(|row| row[at].chars().count()).filter(|width| *width <= MAX_WIDTH);
        widths.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns.len()).map(width_of).collect();
    let mut shown = String::new();
    for row in &rows {
        let mut line = String::new();
        for (at, (cell, column)) in row.iter().zip(columns).enumerate() {
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
        let long = "x".repeat(MAX_WIDTH + 1);
        let rows = [["/a", "7", "on"], ["größe", "12345", "off"], [&long, "1", "on"]];
        let columns = [
            Column::text("NAME", |row: &[&str; 3]| row[0].to_owned()),
            Column::number("N", |row| row[1].to_owned()),
            Column::text("STATE", |row| row[2].to_owned()),
        ];
        let expected =
            format!("NAME       N  STATE\n/a         7  on\ngröße  12345  off\n{long}      1  on\n");
        assert_eq!(table(&columns, &rows), expected);
    }
}
