//! Kinds of hardware, by their platform ids.

/// Whether devices of this kind have a cellular modem.
pub(super) fn is_cellular(platform_id: Option<u16>) -> bool {
    platform_id.is_some_and(router::presence::is_cellular)
}
