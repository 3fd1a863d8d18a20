//! What a command prints: tables and sentences for people, JSON for programs.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Where it prints, and how.
pub(super) struct Output<'a> {
    out: &'a mut dyn Write,
    json: bool,
}

/// What stands in a table where there is nothing.
const NOTHING: &str = "-";

impl<'a> Output<'a> {
    pub(super) fn new(out: &'a mut dyn Write, json: bool) -> Self {
        Self { out, json }
    }

    /// A list: each item as JSON, or as a row under these titles.
    pub(super) fn list<T: Serialize, const N: usize>(
        &mut self,
        titles: [&str; N],
        items: &[T],
        row: impl Fn(&T) -> [Option<String>; N],
    ) -> io::Result<()> {
        if self.json {
            return self.value(&items);
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(titles);
        for item in items {
            table.add_row(row(item).map(|cell| cell.unwrap_or_else(|| NOTHING.to_owned())));
        }
        writeln!(self.out, "{}", table.trim_fmt())
    }

    /// What was done, in a sentence or as `value`.
    pub(super) fn say(&mut self, sentence: &str, value: &impl Serialize) -> io::Result<()> {
        if self.json { self.value(value) } else { writeln!(self.out, "{sentence}") }
    }

    /// Something as JSON, or as `print` does it for people.
    pub(super) fn whole(&mut self, value: &impl Serialize, print: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.json { self.value(value) } else { print(self) }
    }

    /// A line for people.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    fn value(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *self.out, value)?;
        writeln!(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(json: bool, print: impl FnOnce(&mut Output<'_>) -> io::Result<()>) -> String {
        let mut bytes = Vec::new();
        print(&mut Output::new(&mut bytes, json)).expect("memory takes everything");
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn a_list_is_a_table_or_json() {
        let items = [("one", Some("a")), ("two", None)];
        let print = |output: &mut Output<'_>| {
            output.list(["NUMBER", "LETTER"], &items, |(number, letter)| [Some((*number).to_owned()), letter.map(str::to_owned)])
        };
        assert_eq!(printed(false, print), " NUMBER  LETTER\n one     a\n two     -\n");
        assert_eq!(printed(true, print).parse::<serde_json::Value>().expect("JSON"), serde_json::json!([["one", "a"], ["two", null]]));
    }

    #[test]
    fn what_was_done_is_a_sentence_or_json() {
        assert_eq!(printed(false, |output| output.say("Done.", &1)), "Done.\n");
        assert_eq!(printed(true, |output| output.say("Done.", &1)), "1\n");
    }
}
