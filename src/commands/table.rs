//! Columns for people.

use super::visible::one_line;

/// Rows under a heading, columns as wide as their widest cell, the last one free. Cells may hold what servers wrote.
pub(super) fn table(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines: Vec<Vec<String>> = vec![heading.iter().map(|cell| (*cell).to_owned()).collect()];
    lines.extend(rows.map(|row| row.iter().map(|cell| one_line(cell)).collect()));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let written: Vec<String> = lines
        .iter()
        .map(|line| {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect();
    written.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "long text".into()], vec!["bbb".into(), String::new()]];
        assert_eq!(table(&["X", "TEXT"], rows.into_iter()), "X    TEXT\na    long text\nbbb");
    }
}
