//! docs/webhooks.md does what it prints, with the receivers that stand in it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::alerts::is_installed;
use crate::api_document::{examples, is_like};
use crate::cli::{Server, Shell, free_tcp};

/// Where the document takes the server to be, and the receivers.
const SERVER: &str = "127.0.0.1:8080";
const RECEIVERS: [&str; 3] = ["9000", "9001", "9002"];
/// Nothing in it takes as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// The programs that stand in a document: name and text.
fn programs(text: &str) -> Vec<(String, String)> {
    let blocks = text.split("\n```").skip(1).step_by(2);
    let named = blocks.filter_map(|block| {
        let (head, program) = block.split_once('\n')?;
        Some((head.split_once(' ')?.1.to_owned(), format!("{program}\n")))
    });
    named.collect()
}

/// The document, with ports that are free.
fn document(server: u16) -> String {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/webhooks.md")).unwrap();
    // One after the other would find the former's digits.
    let marked = RECEIVERS.iter().fold(text, |text, port| text.replace(port, &format!("<{port}>")));
    let marked = marked.replace(SERVER, &format!("127.0.0.1:{server}"));
    RECEIVERS.iter().fold(marked, |text, port| text.replace(&format!("<{port}>"), &free_tcp().port().to_string()))
}

#[test]
fn every_command_of_the_document_prints_what_stands_there() {
    let has_ed25519 = Command::new("python3").args(["-c", "import cryptography"]).output().is_ok_and(|output| output.status.success());
    if !is_installed("node") || !has_ed25519 {
        return eprintln!("skipped: this takes Node, and Python with cryptography");
    }
    let shell = Shell::new();
    shell.add_user("dev@example.com");
    let server = Server::start_with(&shell, |command| {
        command.env("HOLDFAST_WEBHOOKS_ALLOW", "127.0.0.0/8");
    });
    let text = document(server.port);
    let programs = programs(&text);
    assert_eq!(programs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["receiver.mjs", "catch.py", "verify.py"]);
    programs.iter().for_each(|(name, program)| std::fs::write(shell.path().join(name), program).unwrap());
    let examples = examples(&text);
    assert!(examples.len() > 30);
    // One shell for all of them; a line with the separator alone stands between their outputs. What it left running ends with it.
    let run = |command: &str| if command.ends_with('&') { command.to_owned() } else { format!("{command} || exit 1") };
    let script: String = examples.iter().map(|example| format!("{}\necho; echo @@\n", run(&example.command))).collect();
    let script = format!("trap 'kill $(jobs -p) 2> /dev/null' EXIT\n{script}");
    let folder = Path::new(env!("CARGO_BIN_EXE_holdfast")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("timeout");
    bash.args([&PATIENCE.as_secs().to_string(), "bash", "-c", &script]).current_dir(shell.path()).env("PATH", path).env("NO_PROXY", "*");
    let output = bash.output().unwrap();
    let (printed, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{printed}{said}");
    for (example, printed) in examples.iter().zip(printed.split("@@\n")) {
        assert!(is_like(printed.trim(), &example.output), "{}\nprints\n{}\nand not\n{}", example.command, printed.trim(), example.output);
    }
    server.stop();
}
