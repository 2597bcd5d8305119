//! How figures are summed up and set: medians, parts of sorted times, and tables that read well as text, too. Knows numbers,
//! not what they mean.

use std::time::Duration;

/// Lines of cells as a table: words to the left, numbers to the right.
pub(crate) fn markdown(head: &[&str], lines: &[Vec<String>]) -> String {
    let columns: Vec<Column> = (0..head.len())
        .map(|at| Column::of(head[at], lines.iter().map(|line| line[at].as_str())))
        .collect();
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let padded = |cells: &mut dyn Iterator<Item = &str>| {
        let both = columns.iter().zip(cells);
        line(both.map(|(column, cell)| column.padded(cell)).collect())
    };
    let mut text = padded(&mut head.iter().copied());
    text += &line(columns.iter().map(Column::rule).collect());
    for cells in lines {
        text += &padded(&mut cells.iter().map(String::as_str));
    }
    text
}

/// How a column is set.
struct Column {
    width: usize,
    is_number: bool,
}

impl Column {
    fn of<'a>(head: &'a str, mut cells: impl Iterator<Item = &'a str> + Clone) -> Self {
        let widths = cells.clone().chain([head]).map(|cell| cell.chars().count());
        Self {
            width: widths.max().unwrap_or(0),
            is_number: cells.all(|cell| cell.is_empty() || cell.parse::<f64>().is_ok()),
        }
    }

    fn padded(&self, cell: &str) -> String {
        let width = self.width;
        match self.is_number {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        }
    }

    fn rule(&self) -> String {
        match self.is_number {
            true => format!("{}:", "-".repeat(self.width - 1)),
            false => "-".repeat(self.width),
        }
    }
}

/// The middle one; of an even number, the mean of both.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// The time that this part of the sorted ones does not exceed.
pub(crate) fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last as f64 * part) as usize)
        .copied()
        .unwrap_or_default()
}

/// As milliseconds, with so many digits.
pub(crate) fn ms(time: Duration, digits: usize) -> String {
    format!("{:.digits$}", time.as_secs_f64() * 1e3)
}

/// KiB as MiB.
pub(crate) fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}
