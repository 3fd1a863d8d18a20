//! Kinds of hardware, by their platform ids.

/// The kinds, as clients number and name them.
const NAMES: [(u16, &str); 16] = [
    (6, "Photon"),
    (8, "P1"),
    (10, "Electron"),
    (12, "Argon"),
    (13, "Boron"),
    (15, "ESOMX"),
    (22, "A SoM"),
    (23, "B SoM"),
    (25, "B5 SoM"),
    (26, "Tracker"),
    (28, "Tracker M"),
    (32, "P2"),
    (35, "M SoM"),
    (37, "Electron 2"),
    (42, "Tachyon"),
    (43, "Linux"),
];

/// What a kind is called, if it is one.
pub(super) fn name(platform_id: u16) -> Option<&'static str> {
    NAMES.iter().find(|(id, _)| *id == platform_id).map(|(_, name)| *name)
}

/// Whether devices of this kind have a cellular modem.
pub(super) fn is_cellular(platform_id: Option<u16>) -> bool {
    platform_id.is_some_and(router::presence::is_cellular)
}
