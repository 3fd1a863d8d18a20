//! What a drill or a benchmark has to say: checks and figures, as a table for people and as JSON for machines.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::{Map, Value};

/// Columns of text.
const TABLE_WIDTH: u16 = 140;

/// One thing that must be so.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Check {
    /// What it is.
    pub name: &'static str,
    /// What it must be, or the most or the least it may be.
    pub want: u64,
    /// What it is.
    pub got: u64,
    /// Whether it is so.
    pub ok: bool,
}

impl Check {
    /// Compares.
    pub fn equal(name: &'static str, want: u64, got: u64) -> Self {
        Self { name, want, got, ok: want == got }
    }

    /// Compares with the least that may be.
    pub fn at_least(name: &'static str, least: u64, got: u64) -> Self {
        Self { name, want: least, got, ok: got >= least }
    }

    /// Compares with the most that may be.
    pub fn at_most(name: &'static str, most: u64, got: u64) -> Self {
        Self { name, want: most, got, ok: got <= most }
    }
}

/// The outcome of a drill.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct DrillReport {
    /// Whether all checks hold.
    pub pass: bool,
    /// What must be so.
    pub checks: Vec<Check>,
    /// What is good to know besides.
    pub figures: Map<String, Value>,
}

impl DrillReport {
    /// Judges.
    pub fn new(checks: Vec<Check>, figures: Map<String, Value>) -> Self {
        Self { pass: checks.iter().all(|check| check.ok), checks, figures }
    }

    /// For people.
    pub fn table(&self) -> String {
        let rows = self.checks.iter().map(|check| {
            let verdict = if check.ok { "ok" } else { "FAILED" };
            [check.name.to_owned(), check.want.to_string(), check.got.to_string(), verdict.to_owned()]
        });
        let checks = table(["check", "want", "got", ""], rows);
        format!("{checks}\n\n{}", figures_table(&Value::Object(self.figures.clone())))
    }
}

/// One measured speed or cost, beside what the machine could do at best.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Measure {
    /// Median of several runs.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The machine's own limit in that unit, measured in the same run.
    pub limit: Option<f64>,
    /// How much of the limit is reached: 1 is all of it.
    pub ratio: Option<f64>,
    /// How it was measured, and what limits it.
    pub note: String,
}

/// The outcome of the benchmarks, by name.
pub type BenchReport = BTreeMap<&'static str, Measure>;

/// For people.
pub fn bench_table(report: &BenchReport) -> String {
    let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.2}"));
    let rows = report.iter().map(|(name, measure)| {
        let Measure { value, unit, limit, ratio, note } = measure;
        [(*name).to_owned(), format!("{value:.2}"), (*unit).to_owned(), number(*limit), number(*ratio), note.clone()]
    });
    table(["measure", "value", "unit", "limit", "ratio", "note"], rows)
}

/// For people: one row for each figure; those inside others get names with dots.
pub fn figures_table(figures: &Value) -> String {
    let mut rows = Vec::new();
    flatten("", figures, &mut rows);
    table(["figure", ""], rows.into_iter())
}

fn flatten(name: &str, value: &Value, rows: &mut Vec<[String; 2]>) {
    match value {
        Value::Object(inner) if name.is_empty() => inner.iter().for_each(|(own, value)| flatten(own, value, rows)),
        Value::Object(inner) => inner.iter().for_each(|(own, value)| flatten(&format!("{name}.{own}"), value, rows)),
        Value::Number(number) if number.is_f64() => rows.push([name.to_owned(), format!("{:.2}", number.as_f64().unwrap_or_default())]),
        Value::String(text) => rows.push([name.to_owned(), text.clone()]),
        other => rows.push([name.to_owned(), other.to_string()]),
    }
}

fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(TABLE_WIDTH);
    table.trim_fmt()
}

/// Prints `text` and, if asked for, writes `report` as JSON to a file.
pub fn publish(text: impl Display, report: &impl Serialize, json: Option<&Path>) -> Result<()> {
    writeln!(io::stdout(), "{text}")?;
    if let Some(path) = json {
        let bytes = serde_json::to_vec_pretty(report)?;
        std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn drill(got: u64) -> DrillReport {
        let figures = Map::from_iter([("kills".to_owned(), json!(20))]);
        DrillReport::new(vec![Check::equal("new_handshakes", 0, got), Check::equal("devices_connected", 9, 9)], figures)
    }

    #[test]
    fn a_drill_is_written_in_the_agreed_shape() -> Result<()> {
        let expected = json!({
            "pass": false,
            "checks": [
                {"name": "new_handshakes", "want": 0, "got": 2, "ok": false},
                {"name": "devices_connected", "want": 9, "got": 9, "ok": true},
            ],
            "figures": {"kills": 20},
        });
        assert_eq!(serde_json::to_value(drill(2))?, expected);
        assert!(drill(0).pass);
        assert!(drill(2).table().contains("FAILED") && !drill(0).table().contains("FAILED"));
        Ok(())
    }

    #[test]
    fn figures_inside_figures_have_rows_of_their_own() {
        let (mut rows, value) = (Vec::new(), json!({"a": {"b": 1.005, "c": null}, "d": "x"}));
        flatten("", &value, &mut rows);
        let expected = [["a.b", "1.00"], ["a.c", "null"], ["d", "x"]];
        assert_eq!(rows, expected.map(|row| row.map(str::to_owned)));
    }

    #[test]
    fn a_benchmark_is_written_in_the_agreed_shape() -> Result<()> {
        let measure = |limit, ratio| Measure { value: 5.0, unit: "ms", limit, ratio, note: "n".into() };
        let report = BenchReport::from([("a", measure(Some(2.5), Some(0.5))), ("b", measure(None, None))]);
        let expected = json!({
            "a": {"value": 5.0, "unit": "ms", "limit": 2.5, "ratio": 0.5, "note": "n"},
            "b": {"value": 5.0, "unit": "ms", "limit": null, "ratio": null, "note": "n"},
        });
        assert_eq!(serde_json::to_value(&report)?, expected);
        assert!(bench_table(&report).contains("0.50"));
        Ok(())
    }

    #[test]
    fn json_goes_to_the_file_that_was_named() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("report.json");
        publish("", &drill(0), Some(&path))?;
        let back: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        assert_eq!(back["pass"], true);
        assert!(publish("", &drill(0), Some(Path::new("/nowhere/at/all"))).is_err());
        Ok(())
    }
}
