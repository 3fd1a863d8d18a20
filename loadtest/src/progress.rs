//! A line on the terminal that says how a fleet is doing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::fleet::Moment;

/// Between two drawings.
const TICK: Duration = Duration::from_millis(200);

/// The line. Nothing is shown where standard error is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    devices: usize,
}

impl Progress {
    pub(crate) fn new(devices: usize) -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {prefix} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self { bar, devices }
    }

    /// What is going on.
    pub(crate) fn phase(&self, phase: &str) {
        self.bar.set_prefix(format!("{phase}:"));
    }

    /// How the fleet is doing.
    pub(crate) fn show(&self, moment: Moment) {
        let Moment { connected, handshakes, acknowledged, open, .. } = moment;
        let devices = self.devices;
        self.bar.set_message(format!("connected {connected}/{devices}, handshakes {handshakes}, acked {acknowledged}, open {open}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
