//! `holdfast-load`: see [`holdfast_load`].

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use holdfast_load::args::Arguments;
use holdfast_load::commands;

fn main() -> ExitCode {
    commands::run(Arguments::parse()).unwrap_or_else(|error| {
        // Standard error being closed is no reason to fail otherwise.
        let _ = writeln!(io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}
