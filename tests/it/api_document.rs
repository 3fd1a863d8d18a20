//! docs/api.md does what it prints.

use std::path::Path;
use std::process::Command;

use crate::cli::{Server, Shell};

/// A command of the document, and what it prints there.
pub(crate) struct Example {
    pub(crate) command: String,
    pub(crate) output: String,
}

pub(crate) fn examples(text: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for line in block.lines() {
            match (line.strip_prefix("$ "), examples.last_mut()) {
                (Some(command), _) => examples.push(Example { command: command.to_owned(), output: String::new() }),
                (None, Some(example)) => example.output += line,
                (None, None) => panic!("{line} is the output of nothing"),
            }
        }
    }
    examples
}

/// Whether a text is this one, in which `…` stands for anything.
pub(crate) fn is_like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    for part in parts {
        // Nothing behind it: anything up to the end.
        let found = if part.is_empty() { Some(rest.len()) } else { rest.find(part) };
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

#[test]
fn every_command_of_the_document_prints_what_stands_there() {
    let shell = Shell::new();
    shell.add_user("dev@example.com");
    let server = Server::start(&shell);
    let folder = Path::new(env!("CARGO_BIN_EXE_holdfast")).parent().unwrap();
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md")).unwrap();
    let examples = examples(&text.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", server.port)));
    assert!(examples.len() > 10);
    // One shell for all of them; a line with the separator alone stands between their outputs.
    let script: String = examples.iter().map(|example| format!("{} || exit 1\necho; echo @@\n", example.command)).collect();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let output =
        Command::new("bash").args(["-c", &script]).current_dir(shell.path()).env("PATH", path).env("NO_PROXY", "*").output().unwrap();
    let (printed, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{printed}{said}");
    for (example, printed) in examples.iter().zip(printed.split("@@\n")) {
        assert!(is_like(printed.trim(), &example.output), "{}\nprints\n{}\nand not\n{}", example.command, printed.trim(), example.output);
    }
    server.stop();
}

#[test]
fn what_differs_each_time_may_be_anything() {
    for (text, pattern, expected) in
        [("ab", "ab", true), ("a1b", "a…b", true), ("a1", "a…", true), ("a1b2", "a…b", false), ("b", "a…", false), ("abc", "ab", false)]
    {
        assert_eq!(is_like(text, pattern), expected, "{text} {pattern}");
    }
}
