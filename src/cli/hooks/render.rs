//! What hooks make of templates, for tests: its output is no interface for people.

use std::io::{BufRead, Read};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use webhooks::template::Template;

use crate::cli::output::Output;

/// Longest line that is read.
const LINE_LEN_MAX: u64 = 1 << 20;

#[derive(Deserialize)]
struct Question {
    template: String,
    view: Json,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Text(String),
    Error(String),
}

pub(super) fn run(input: &mut dyn BufRead, output: &mut Output<'_>) -> Result<()> {
    let mut line = Vec::new();
    while input.take(LINE_LEN_MAX).read_until(b'\n', &mut line)? > 0 {
        ensure!(line.len() as u64 != LINE_LEN_MAX, "a line has fewer than {LINE_LEN_MAX} bytes");
        let mut answer = serde_json::to_vec(&answer(&serde_json::from_slice(&line)?))?;
        answer.push(b'\n');
        output.bytes(&answer)?;
        line.clear();
    }
    Ok(())
}

fn answer(Question { template, view }: &Question) -> Answer {
    match Template::parse(template).map(|template| template.render(view)) {
        Ok(Ok(text)) => Answer::Text(text),
        Ok(Err(error)) => Answer::Error(error.to_string()),
        Err(error) => Answer::Error(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(mut input: &[u8]) -> Result<String> {
        let mut out = Vec::new();
        run(&mut input, &mut Output::new(&mut out, false))?;
        Ok(String::from_utf8(out)?)
    }

    #[test]
    fn each_line_is_answered_by_one() -> Result<()> {
        let input = b"{\"template\":\"{{a}}\\n\",\"view\":{\"a\":1.0}}\n{\"template\":\"{{a\",\"view\":null}";
        assert_eq!(rendered(input)?, "{\"text\":\"1\\n\"}\n{\"error\":\"the tag at 0 has no end\"}\n");
        assert!(rendered(b"nonsense\n").is_err() && rendered(&vec![b' '; 2 << 20]).is_err());
        Ok(())
    }
}
