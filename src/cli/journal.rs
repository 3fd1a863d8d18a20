//! `holdfast journal`: what the journal holds, for tests and drills. Hidden: its output is no interface for people.

use anyhow::Result;
use clap::{Args, Subcommand};
use router::event::{Position, Source};
use serde::Serialize;

use super::output::Output;
use crate::data_dir::DataDir;
use crate::entropy::SystemEntropy;
use crate::journal::{Journal, Options};
use firmware_protocol::entropy::Entropy;

#[derive(Subcommand, Debug)]
pub(super) enum JournalCommand {
    /// Print every accepted event, in the order of positions. No server may be running
    Events(EventsArgs),
}

#[derive(Args, Debug)]
pub(super) struct EventsArgs {
    /// One JSON object in each line
    #[arg(long, required = true)]
    json_lines: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    position: u64,
    name: &'a str,
    data: Option<String>,
    source: Option<String>,
}

pub(super) fn run(command: &JournalCommand, data_dir: &std::path::Path, output: &mut Output<'_>) -> Result<()> {
    let JournalCommand::Events(EventsArgs { json_lines: _ }) = command;
    let data = DataDir::lock(data_dir)?;
    let (journal, _) = Journal::open(&data.journal_dir(), Options::new(u64::from_be_bytes(SystemEntropy.array())))?;
    let events = journal.events();
    if events.last() == Position::default() {
        return Ok(());
    }
    let mut reader = events.read_from(Position(1))?;
    while let Some((position, event)) = reader.next_event()? {
        let source = match event.source {
            Source::Device(device) => Some(device.to_string()),
            Source::Api | Source::Cloud => None,
        };
        let data = event.data.as_ref().map(|data| String::from_utf8_lossy(data).into_owned());
        let mut line = serde_json::to_vec(&Line { position: position.0, name: &event.name, data, source })?;
        line.push(b'\n');
        output.bytes(&line)?;
    }
    Ok(())
}
