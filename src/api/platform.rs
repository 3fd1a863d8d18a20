//! Kinds of hardware, by their platform ids (rest-api.md §4.1).

/// Whether devices of this kind have a cellular modem.
pub(super) fn is_cellular(platform_id: Option<u16>) -> bool {
    platform_id.is_some_and(router::presence::is_cellular)
}
