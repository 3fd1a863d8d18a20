//! Errors that cross this crate's boundary.

use thiserror::Error;

/// A text is not the identifier it should be.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum ParseIdError {
    /// A device id is 24 hex digits.
    #[error("a device id is 24 hex digits")]
    Device,
}

/// A key cannot be used, or OpenSSL failed at something that does not depend on input.
#[derive(Debug, Error)]
pub enum KeyError {
    /// Not an uncompressed key of the curve P-256.
    #[error("not a P-256 key")]
    NotP256,
    /// Not an RSA key of this many bits with the exponent 65537.
    #[error("not an RSA key of {0} bits with the exponent 65537")]
    NotRsa(u32),
    /// More text than a key of this size encrypts.
    #[error("more text than the key encrypts")]
    TooLong,
    /// OpenSSL's own words.
    #[error(transparent)]
    OpenSsl(#[from] openssl::error::ErrorStack),
}

/// A request to a device was not sent.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum RequestError {
    /// A name, argument or the whole message is longer than the device takes.
    #[error("longer than the device takes")]
    TooLarge,
    /// Too many requests to this device are open.
    #[error("too many requests to the device are open")]
    Busy,
}
