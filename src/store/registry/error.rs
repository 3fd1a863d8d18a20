//! What can go wrong with a change or a question to the registry.

use std::io;

use firmware_protocol::id::DeviceId;
use openssl::error::ErrorStack;
use sqlx::migrate::{MigrateError, Migrator};
use thiserror::Error;

use super::Trouble;
use crate::store::{EnvelopeError, PublicKeyError};

/// Why the registry did not do what was asked.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The file of the registry cannot be created or opened.
    #[error("cannot open the registry: {0}")]
    File(io::Error),
    /// The database failed.
    #[error("the registry failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The tables could not be brought to this version.
    #[error("the registry does not fit this version of Holdfast: {0}")]
    Migration(#[from] MigrateError),
    /// A newer version worked with the database.
    #[error(
        "it is of version {found}; this program knows versions up to {known}. Start the version of Holdfast that worked with it, or a newer one"
    )]
    Newer {
        /// The first of its migrations that is not known.
        found: i64,
        /// The newest that is.
        known: i64,
    },
    /// The file that was opened is not there any more.
    #[error("the file of the registry was removed or replaced while it was in use; put it back")]
    Gone,
    /// It took too long. What was asked may be done all the same.
    #[error("the registry gave no answer in time")]
    TimedOut,
    /// A row says something that cannot be.
    #[error("the registry is damaged: {0}")]
    Damaged(&'static str),
    /// The work was cut off because the process is ending.
    #[error("the server is shutting down")]
    Interrupted,
    /// Too many passwords are waiting to be checked.
    #[error("too many logins at the same time")]
    Busy,
    /// The password hash failed.
    #[error("the password could not be hashed: {0}")]
    Password(String),
    /// OpenSSL gave no random numbers.
    #[error("no randomness: {0}")]
    Randomness(#[from] ErrorStack),
    /// No such account.
    #[error("there is no account {0:?}")]
    NoSuchUser(String),
    /// The email address has an account already.
    #[error("there is an account with this email address already")]
    EmailTaken,
    /// Not an email address.
    #[error("this is not an email address")]
    BadEmail,
    /// Not a password we would keep.
    #[error("a password has from 8 to 1024 bytes")]
    BadPassword,
    /// No device with this id.
    #[error("there is no device {0}")]
    NoSuchDevice(DeviceId),
    /// The device is registered with another key.
    #[error("device {0} is registered already, with another key")]
    DeviceExists(DeviceId),
    /// The key belongs to another device.
    #[error("the key of {wanted_by} is registered to device {held_by} already")]
    KeyTaken {
        /// The device that was to get it.
        wanted_by: DeviceId,
        /// The device that has it.
        held_by: DeviceId,
    },
    /// The owner has another device of this name.
    #[error("Name already in use")]
    NameTaken,
    /// Not a name we would keep.
    #[error("a device name has from 1 to 64 bytes without slashes or control characters, and is not an id or a word of the API")]
    BadName,
    /// Not notes we would keep.
    #[error("notes have at most 4096 bytes")]
    BadNotes,
    /// Not a device's public key.
    #[error(transparent)]
    BadKey(#[from] PublicKeyError),
    /// The account holds as many tokens as it may.
    #[error("this account has too many tokens; revoke some")]
    TooManyTokens,
    /// The account has as many claim codes as it may.
    #[error("this account has too many claim codes; wait until some have expired")]
    TooManyClaimCodes,
    /// A client's name that is too long or not printable.
    #[error("the name of a client has from 1 to 64 printable characters")]
    BadClient,
    /// Nothing of this kind is where it was looked for.
    #[error("there is no such {0}")]
    NoSuch(&'static str),
    /// There are as many of this kind as there may be.
    #[error("there are too many {0}")]
    TooMany(&'static str),
    /// Something else of this kind has the name, or the number.
    #[error("this {0} is in use already")]
    Taken(&'static str),
    /// It is not something we would keep. The text says what would be.
    #[error("{0}")]
    Unfit(&'static str),
    /// What is there stands against it. The text says what.
    #[error("{0}")]
    Refused(&'static str),
    /// The bytes of firmware cannot be written or read.
    #[error("the file of the firmware cannot be written or read: {0}")]
    Firmware(io::Error),
    /// A secret cannot be sealed or read.
    #[error(transparent)]
    Secret(#[from] EnvelopeError),
    /// Not the password of the account.
    #[error("the current password is wrong")]
    WrongPassword,
}

impl RegistryError {
    pub(super) fn from_migration(error: MigrateError, migrations: &Migrator) -> Self {
        let known = migrations.iter().map(|migration| migration.version).max().unwrap_or_default();
        match error {
            MigrateError::VersionMissing(found) if found > known => Self::Newer { found, known },
            error => error.into(),
        }
    }

    /// What is wrong with the database, if that is why.
    pub fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Database(error) => Trouble::of(error),
            Self::Gone | Self::File(_) => Some(Trouble::Gone),
            Self::TimedOut => Some(Trouble::Slow),
            Self::Damaged(_) => Some(Trouble::Corrupt),
            _ => None,
        }
    }

    /// Whether what was asked is at fault, so that asking the same again will fail again. Otherwise it is us.
    pub fn is_callers_fault(&self) -> bool {
        use RegistryError::{
            BadClient, BadEmail, BadKey, BadName, BadNotes, BadPassword, DeviceExists, EmailTaken, KeyTaken, NameTaken, NoSuch,
            NoSuchDevice, NoSuchUser, Refused, Taken, TooMany, TooManyClaimCodes, TooManyTokens, Unfit, WrongPassword,
        };
        matches!(
            self,
            BadClient
                | BadEmail
                | BadKey(_)
                | BadName
                | BadNotes
                | BadPassword
                | DeviceExists(_)
                | EmailTaken
                | KeyTaken { .. }
                | NameTaken
                | NoSuch(_)
                | NoSuchDevice(_)
                | NoSuchUser(_)
                | Refused(_)
                | Taken(_)
                | TooMany(_)
                | TooManyClaimCodes
                | TooManyTokens
                | Unfit(_)
                | WrongPassword
        )
    }
}
