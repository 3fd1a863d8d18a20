//! `holdfast demo`: a server with simulated devices, to look at without owning any.

use anyhow::bail;

/// What the demonstration shall be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Devices to simulate.
    pub devices: u32,
    /// Check that everything works, and end.
    pub check: bool,
}

/// Runs it until it is interrupted or, for a check, until it is over.
///
/// # Errors
/// It cannot start, or the check fails.
pub fn run(options: &Options) -> anyhow::Result<()> {
    bail!("this build has no simulated devices to show ({} were asked for)", options.devices)
}
