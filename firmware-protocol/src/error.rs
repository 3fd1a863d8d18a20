//! Errors that cross this crate's boundary.

use thiserror::Error;

/// A text is not the identifier it should be.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum ParseIdError {
    /// A device id is 24 hex digits.
    #[error("a device id is 24 hex digits")]
    Device,
}
