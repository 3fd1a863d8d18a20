//! Mail to people: one message at a time, through the SMTP server that the operator named.
//!
//! Nothing is queued and nothing is repeated. What must not be lost has another way to reach its reader.

use std::sync::Arc;
use std::time::Duration;

use lettre::address::AddressError;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::config::{self, MailSecurity};

/// Messages under way at the same time; more are not sent.
const AT_ONCE: usize = 8;
/// How long the server may take for each of its answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// A way to send mail. A handle: clones are the same.
#[derive(Clone, Debug)]
pub struct Mail {
    settings: Arc<config::Mail>,
    places: Arc<Semaphore>,
}

/// Why a message was not sent.
#[derive(Debug, Error)]
pub enum MailError {
    /// Too many are under way.
    #[error("too many messages are under way")]
    Busy,
    /// Mail cannot be sent there.
    #[error("the address cannot be used: {0}")]
    Address(#[from] AddressError),
    /// It is no message.
    #[error("the message cannot be made: {0}")]
    Message(#[from] lettre::error::Error),
    /// The server was not there, or refused.
    #[error("the mail server: {0}")]
    Server(#[from] lettre::transport::smtp::Error),
}

impl Mail {
    /// By way of this server.
    pub fn new(settings: config::Mail) -> Self {
        Self { settings: Arc::new(settings), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Sends a text to one address. When it returns, the server has taken it.
    ///
    /// # Errors
    /// It was not sent, or nobody knows.
    pub async fn send(&self, to: &str, subject: &str, text: String) -> Result<(), MailError> {
        let _place = self.places.try_acquire().map_err(|_| MailError::Busy)?;
        let message = message(&self.settings, to, subject, text)?;
        transport(&self.settings)?.send(message).await?;
        Ok(())
    }
}

fn message(settings: &config::Mail, to: &str, subject: &str, text: String) -> Result<Message, MailError> {
    let (from, to) = (settings.from.clone(), Mailbox::new(None, to.parse()?));
    Ok(Message::builder().from(from).to(to).subject(subject).body(text)?)
}

fn transport(settings: &config::Mail) -> Result<AsyncSmtpTransport<Tokio1Executor>, MailError> {
    let parameters = || TlsParameters::new(settings.host.clone());
    let tls = match settings.security {
        MailSecurity::StartTls => Tls::Required(parameters()?),
        MailSecurity::Tls => Tls::Wrapper(parameters()?),
        MailSecurity::None => Tls::None,
    };
    let builder =
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host).port(settings.port).tls(tls).timeout(Some(PATIENCE));
    Ok(match &settings.login {
        Some(login) => builder.credentials(Credentials::new(login.user.clone(), login.password.reveal().to_owned())).build(),
        None => builder.build(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> config::Mail {
        config::Mail {
            host: "127.0.0.1".into(),
            port: 1,
            security: MailSecurity::None,
            login: None,
            from: "Holdfast <cloud@example.com>".parse().expect("an address"),
        }
    }

    #[test]
    fn a_message_has_one_reader_and_no_lines_of_others() {
        let made = |to: &str, subject: &str| message(&settings(), to, subject, "text".into()).map(|message| message.formatted());
        let bytes = made("kai@example.com", "A code\r\nBcc: everybody@example.com").expect("a message");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.contains("To: kai@example.com\r\n") && !text.contains("\r\nBcc:"), "{text}");
        for bad in ["", "kai", "kai@example.com\r\nBcc: everybody@example.com", "kai@example.com, robin@example.com"] {
            assert!(matches!(made(bad, "A code"), Err(MailError::Address(_))), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn where_no_server_is_it_says_so_and_its_place_is_free_again() {
        let mail = Mail::new(settings());
        for _ in 0..=AT_ONCE {
            assert!(matches!(mail.send("kai@example.com", "s", String::new()).await, Err(MailError::Server(_))));
        }
        let taken = mail.places.try_acquire_many(8).expect("all are free");
        assert!(matches!(mail.send("kai@example.com", "s", String::new()).await, Err(MailError::Busy)));
        drop(taken);
    }
}
