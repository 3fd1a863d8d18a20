//! What may happen to the server, and whose page is to come of it.

use clap::ValueEnum;

use crate::server::WantedCure;

/// One fault.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Case {
    /// A shard's thread stands still; another takes over.
    TakenOver,
    /// A shard's thread stands still; nobody takes over, so that the process ends, and is started again.
    Stalled,
    /// A shard's thread stands still; nobody takes over, and the process goes on.
    Uncured,
    /// The journal's disk does not answer; the process goes on.
    DiskHangs,
    /// The process stands still.
    Frozen,
    /// The process is killed, and nobody starts it again.
    Killed,
}

impl Case {
    /// All there are.
    pub const ALL: [Self; 6] = [Self::TakenOver, Self::Stalled, Self::Uncured, Self::DiskHangs, Self::Frozen, Self::Killed];

    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TakenOver => "taken-over",
            Self::Stalled => "stalled",
            Self::Uncured => "uncured",
            Self::DiskHangs => "disk-hangs",
            Self::Frozen => "frozen",
            Self::Killed => "killed",
        }
    }

    /// Any of these is the right page.
    pub(super) fn pages(self) -> &'static [&'static str] {
        match self {
            Self::TakenOver => &["HoldfastTakeover"],
            Self::Stalled => &["HoldfastRestarted"],
            Self::Uncured => &["HoldfastHeartbeatStale"],
            Self::DiskHangs => &["HoldfastHeartbeatStale", "HoldfastPartStalled"],
            Self::Frozen | Self::Killed => &["HoldfastDown"],
        }
    }

    /// What the server does about a shard that has stopped.
    pub(super) fn cure(self) -> WantedCure {
        match self {
            Self::TakenOver => WantedCure::Takeover,
            Self::Uncured => WantedCure::None,
            Self::Stalled | Self::DiskHangs | Self::Frozen | Self::Killed => WantedCure::Restart,
        }
    }

    /// Whether a server that ends is started again.
    pub(super) fn is_supervised(self) -> bool {
        self == Self::Stalled
    }

    /// What is checked: how many milliseconds it takes until the page.
    pub(super) fn check(self) -> &'static str {
        match self {
            Self::TakenOver => "taken_over_paged_ms",
            Self::Stalled => "stalled_paged_ms",
            Self::Uncured => "uncured_paged_ms",
            Self::DiskHangs => "disk_hangs_paged_ms",
            Self::Frozen => "frozen_paged_ms",
            Self::Killed => "killed_paged_ms",
        }
    }

    /// And that nobody is paged before.
    pub(super) fn quiet_check(self) -> &'static str {
        match self {
            Self::TakenOver => "taken_over_pages_in_peace",
            Self::Stalled => "stalled_pages_in_peace",
            Self::Uncured => "uncured_pages_in_peace",
            Self::DiskHangs => "disk_hangs_pages_in_peace",
            Self::Frozen => "frozen_pages_in_peace",
            Self::Killed => "killed_pages_in_peace",
        }
    }

    /// And that the service is heard that pages when it hears nothing.
    pub(super) fn alive_check(self) -> &'static str {
        match self {
            Self::TakenOver => "taken_over_dead_man_told",
            Self::Stalled => "stalled_dead_man_told",
            Self::Uncured => "uncured_dead_man_told",
            Self::DiskHangs => "disk_hangs_dead_man_told",
            Self::Frozen => "frozen_dead_man_told",
            Self::Killed => "killed_dead_man_told",
        }
    }
}
