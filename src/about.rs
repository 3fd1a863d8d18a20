//! Which build this is: what `--version`, the log, the metrics and `holdfast status` say.

/// The version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What it was built from, as `HOLDFAST_REVISION` said when it was compiled: the commit, for example.
pub const REVISION: &str = match option_env!("HOLDFAST_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
