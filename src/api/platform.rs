//! Kinds of hardware, by their platform ids (rest-api.md §4.1).

/// Electron, Boron, E SoM X, A/B SoMs with modems, Trackers, M-SoM, Electron 2.
const CELLULAR: [u16; 9] = [10, 13, 15, 23, 25, 26, 28, 35, 37];

/// Whether devices of this kind have a cellular modem.
pub(super) fn is_cellular(platform_id: Option<u16>) -> bool {
    platform_id.is_some_and(|id| CELLULAR.contains(&id))
}
