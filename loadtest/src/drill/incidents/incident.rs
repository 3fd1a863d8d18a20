//! What may go wrong, and what the server is to call it.

use clap::ValueEnum;

/// One of ten.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Incident {
    /// Half of the devices are removed and imported again from a list in which they have other keys.
    BadKeys,
    /// A shard's thread stands still.
    FrozenShard,
    /// The journal's disk does not answer.
    SlowStore,
    /// It has no room.
    FullDisk,
    /// Many devices without sessions come at once, and more than the server may let in.
    Storm,
    /// One device sends far more than it may.
    NoisyDevice,
    /// The wall clock is set an hour ahead.
    ClockStep,
    /// The registry's file is gone.
    RegistryGone,
    /// A terminator's thread stands still.
    StuckTerminator,
    /// The server is restarted with a limit that its devices exceed.
    ConfigChange,
}

impl Incident {
    /// All there are.
    pub const ALL: [Self; 10] = [
        Self::BadKeys,
        Self::FrozenShard,
        Self::SlowStore,
        Self::FullDisk,
        Self::Storm,
        Self::NoisyDevice,
        Self::ClockStep,
        Self::RegistryGone,
        Self::StuckTerminator,
        Self::ConfigChange,
    ];

    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::BadKeys => "bad_keys",
            Self::FrozenShard => "frozen_shard",
            Self::SlowStore => "slow_store",
            Self::FullDisk => "full_disk",
            Self::Storm => "storm",
            Self::NoisyDevice => "noisy_device",
            Self::ClockStep => "clock_step",
            Self::RegistryGone => "registry_gone",
            Self::StuckTerminator => "stuck_terminator",
            Self::ConfigChange => "config_change",
        }
    }

    /// What `holdfast diagnose` calls it.
    pub(super) fn cause(self) -> &'static str {
        match self {
            Self::BadKeys => "keys",
            Self::FrozenShard => "frozen shard",
            Self::SlowStore => "slow store",
            Self::FullDisk => "full disk",
            Self::Storm => "storm",
            Self::NoisyDevice => "noisy device",
            Self::ClockStep => "clock step",
            Self::RegistryGone => "registry",
            Self::StuckTerminator => "stuck terminator",
            Self::ConfigChange => "configuration",
        }
    }
}
