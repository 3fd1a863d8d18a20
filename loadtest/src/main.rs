//! `holdfast-load`: see [`holdfast_load`].

use std::process::ExitCode;

use clap::Parser;

fn main() -> anyhow::Result<ExitCode> {
    holdfast_load::commands::run(holdfast_load::args::Arguments::parse())
}
