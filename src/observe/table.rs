//! How are rows of text brought into columns?

/// Rows whose cells begin in the same columns, two spaces between these; each
/// line begins with `indent`. Nothing trails a line.
pub fn table(indent: &str, rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        let cells = cells.collect::<Vec<_>>().join("  ");
        format!("{indent}{}\n", cells.trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_a_column_begin_at_the_same_place_and_no_line_ends_with_blanks() {
        let rows = [["a", "bcd", ""], ["efgh", "i", "j"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table("    ", &rows), "    a     bcd\n    efgh  i    j\n");
    }
}
