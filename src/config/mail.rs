//! The server through which mail is sent: what it takes to reach it.

use std::fmt;
use std::path::PathBuf;

use lettre::message::Mailbox;

/// It.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mail {
    /// Its name, which its certificate must be for.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the way there is protected.
    pub security: MailSecurity,
    /// Who the server is told that we are, if it wants to know.
    pub login: Option<MailLogin>,
    /// Whom mail comes from.
    pub from: Mailbox,
}

/// How the way to a mail server is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MailSecurity {
    /// TLS is agreed on in the clear, and nothing is sent without it.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// Not at all.
    None,
}

/// An account at a mail server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MailLogin {
    /// Its name.
    pub user: String,
    /// The file with its password.
    pub password_file: PathBuf,
    /// Its password.
    pub password: Password,
}

/// What a file held that is nobody's business.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// This one.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for whoever asks for it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}
