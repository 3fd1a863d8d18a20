//! What can change, and how it is said.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What changed. Kinds are added with a new version of the file's format.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A server started.
    Started {
        /// Its version.
        version: String,
        /// What it was built from.
        revision: String,
        /// The hash of its configuration.
        config: String,
        /// How the process before it ended.
        before: Before,
    },
    /// A server stopped in order.
    Stopped,
    /// A setting is another than at the start before.
    Setting {
        /// Which.
        key: String,
        /// What it was; nothing if there was no such key.
        from: Option<String>,
        /// What it is.
        to: Option<String>,
    },
    /// The server's own keys were made.
    KeysMade,
    /// The registry's database was brought to another version.
    RegistryMigrated {
        /// From this one.
        from: i64,
        /// To this one.
        to: i64,
    },
    /// Devices were registered by commands.
    DevicesAdded {
        /// So many.
        count: u64,
    },
    /// Devices were removed by commands.
    DevicesRemoved {
        /// So many.
        count: u64,
    },
    /// The data directory was made from a backup.
    Restored {
        /// When that was made.
        made_at: String,
    },
    /// The wall clock was set: it went so much further than the monotonic one.
    ClockStepped {
        /// In milliseconds; negative is back.
        by_ms: i64,
    },
    /// The process did not run.
    Paused {
        /// For so many milliseconds.
        for_ms: u64,
    },
    /// A stalled thread was replaced by another.
    TakenOver {
        /// What it serves.
        part: String,
        /// Where it stood.
        stage: String,
    },
}

/// How a process ended, as the next one finds out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum Before {
    /// There was none.
    None,
    /// In order.
    Stopped,
    /// Without a word: killed, by the system for want of memory perhaps, or the machine lost power.
    Killed,
    /// With a word.
    Died {
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// Its last line.
        words: String,
    },
}

impl Before {
    /// Whether there was one that ended without being told to.
    pub fn is_crash(&self) -> bool {
        matches!(self, Self::Killed | Self::Died { .. })
    }
}

impl What {
    /// Adds another change of the same kind to this one, if they can be one.
    pub(super) fn merge(&mut self, other: &What) -> bool {
        match (self, other) {
            (Self::DevicesAdded { count }, Self::DevicesAdded { count: more })
            | (Self::DevicesRemoved { count }, Self::DevicesRemoved { count: more }) => {
                *count = count.saturating_add(*more);
                true
            }
            _ => false,
        }
    }

    /// Whether it changes who is known under which key.
    pub fn is_about_keys(&self) -> bool {
        matches!(self, Self::KeysMade | Self::DevicesAdded { .. } | Self::DevicesRemoved { .. } | Self::Restored { .. })
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { version, revision, config, before } => {
                write!(f, "started {version} ({revision}) with configuration {config}, {before}")
            }
            Self::Stopped => f.write_str("stopped in order"),
            Self::Setting { key, from, to } => {
                let shown = |value: &Option<String>| value.as_deref().map_or_else(|| "nothing".to_owned(), |value| format!("{value:?}"));
                write!(f, "{key} is {} and was {}", shown(to), shown(from))
            }
            Self::KeysMade => f.write_str("the server's own keys were made"),
            Self::RegistryMigrated { from, to } => write!(f, "the registry was migrated from version {from} to {to}"),
            Self::DevicesAdded { count } => write!(f, "keys of {count} devices were registered by command"),
            Self::DevicesRemoved { count } => write!(f, "{count} devices were removed by command"),
            Self::Restored { made_at } => write!(f, "restored from the backup of {made_at}"),
            Self::ClockStepped { by_ms } => {
                let direction = if *by_ms < 0 { "back" } else { "forward" };
                write!(f, "the clock stepped {direction} by {:.1} s", Duration::from_millis(by_ms.unsigned_abs()).as_secs_f64())
            }
            Self::Paused { for_ms } => write!(f, "the process did not run for {:.1} s", Duration::from_millis(*for_ms).as_secs_f64()),
            Self::TakenOver { part, stage } => write!(f, "{part} had stalled in {stage} and was taken over"),
        }
    }
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("for the first time"),
            Self::Stopped => f.write_str("after an orderly stop"),
            Self::Killed => f.write_str("after the process before was killed or the machine lost power"),
            Self::Died { words, .. } => write!(f, "after the process before said: {words}"),
        }
    }
}
