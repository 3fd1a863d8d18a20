//! `docs/configuration.md`, made of the shipped file: what its comments say is written once.
//!
//! It reads comments and keys line by line, because a TOML parser drops the comments. It is meant for the shipped file and no other.

use std::fmt::Write;

use super::environment::VARIABLE_PREFIX;

const HEAD: &str = "# Configuration\n\n";
const FOOT: &str =
    "\nThis page is made from [config.default.toml](../config.default.toml): `holdfast configuration > docs/configuration.md`.\n";

/// The page.
pub fn page(file: &str) -> String {
    let mut page = Page { text: HEAD.to_owned(), ..Page::default() };
    file.lines().for_each(|line| page.line(line));
    page.text.push_str(FOOT);
    page.text
}

/// What was written, and what was read before the line at hand.
#[derive(Default)]
struct Page {
    text: String,
    section: Option<String>,
    comment: Vec<String>,
    /// Whether the rows that come belong to a table that was begun.
    table: bool,
    begun: bool,
}

impl Page {
    fn line(&mut self, line: &str) {
        if let Some(comment) = line.strip_prefix('#') {
            self.comment.push(comment.trim().to_owned());
        } else if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            self.section(section);
        } else if let Some((key, value)) = line.split_once('=') {
            self.row(key.trim(), value.trim());
        } else if !self.begun {
            // The comment at the top of the file ends with the first empty line.
            self.begun = true;
            self.paragraphs();
        }
    }

    fn paragraphs(&mut self) {
        let comment = std::mem::take(&mut self.comment);
        for paragraph in comment.split(String::is_empty).filter(|lines| !lines.is_empty()) {
            self.text.push_str(&paragraph.join("\n"));
            self.text.push_str("\n\n");
        }
    }

    fn section(&mut self, name: &str) {
        // Writing to a string does not fail.
        let _ = write!(self.text, "\n## `[{name}]`\n\n");
        self.paragraphs();
        self.section = Some(name.to_owned());
        self.table = false;
    }

    fn row(&mut self, key: &str, value: &str) {
        if !std::mem::replace(&mut self.table, true) {
            self.text.push_str("| key | default | variable | |\n|---|---|---|---|\n");
        }
        let path = self.section.iter().map(String::as_str).chain([key]).collect::<Vec<_>>().join(".");
        let variable = path.replace('.', "_").to_uppercase();
        let words = std::mem::take(&mut self.comment).join(" ").replace('|', "\\|");
        let _ = writeln!(self.text, "| `{key}` | `{value}` | `{VARIABLE_PREFIX}{variable}` | {words} |");
    }
}

#[cfg(test)]
mod tests {
    use super::super::DEFAULT_FILE;
    use super::super::environment::KEYS;
    use super::*;

    #[test]
    fn comments_become_rows_and_paragraphs() {
        let file = "# One.\n# Two.\n#\n# Three.\n\n# A | B,\n# C.\na = 1\n\n# Of x.\n[x.y]\nb_c = \"d\"\n";
        let expected = "# Configuration\n\nOne.\nTwo.\n\nThree.\n\n\
                        | key | default | variable | |\n|---|---|---|---|\n| `a` | `1` | `HOLDFAST_A` | A \\| B, C. |\n\
                        \n## `[x.y]`\n\nOf x.\n\n\
                        | key | default | variable | |\n|---|---|---|---|\n| `b_c` | `\"d\"` | `HOLDFAST_X_Y_B_C` |  |\n";
        assert_eq!(page(file).strip_suffix(FOOT), Some(expected));
    }

    #[test]
    fn every_key_has_a_row() {
        let page = page(DEFAULT_FILE);
        for (path, _) in KEYS {
            assert!(page.contains(&format!("`HOLDFAST_{}`", path.join("_").to_uppercase())), "{path:?}");
        }
    }

    #[test]
    fn the_document_is_what_the_shipped_file_says() {
        let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap_or_default();
        assert_eq!(document, page(DEFAULT_FILE), "stale: cargo run -- configuration > docs/configuration.md");
    }
}
