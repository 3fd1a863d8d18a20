//! HTTPS: certificate files → what the listener needs, and again when the files have changed.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use openssl::error::ErrorStack;
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslFiletype, SslMethod, select_next_proto};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::config::Tls;

/// How often the files are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// The only protocol we speak inside, with its length in front.
const ALPN: &[u8] = b"\x08http/1.1";

/// Certificate and key in use. A handle: clones are the same.
#[derive(Clone)]
pub struct Certificates {
    inner: Arc<Inner>,
}

struct Inner {
    files: Tls,
    acceptor: ArcSwap<SslAcceptor>,
}

/// Why certificate and key are of no use.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read as what it should be.
    #[error("{key} {path}: {source}", path = path.display())]
    File {
        /// The configuration key that names it.
        key: &'static str,
        /// Which file.
        path: PathBuf,
        /// What OpenSSL says.
        source: ErrorStack,
    },
    /// They do not belong together.
    #[error("http.tls.key is not the key of http.tls.certificate")]
    Mismatch,
    /// OpenSSL failed otherwise.
    #[error(transparent)]
    OpenSsl(#[from] ErrorStack),
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// One is not what it should be, or they do not belong together.
    pub fn load(files: Tls) -> Result<Self, TlsError> {
        let acceptor = ArcSwap::from_pointee(acceptor(&files)?);
        Ok(Self { inner: Arc::new(Inner { files, acceptor }) })
    }

    /// The server's side of a new connection.
    ///
    /// # Errors
    /// OpenSSL has no memory.
    pub fn accept(&self) -> Result<Ssl, ErrorStack> {
        Ssl::new(self.inner.acceptor.load().context())
    }

    /// Reads the files again. If they are of no use, what was in use stays in use.
    ///
    /// # Errors
    /// As for [`Certificates::load`].
    pub fn reload(&self) -> Result<(), TlsError> {
        self.inner.acceptor.store(Arc::new(acceptor(&self.inner.files)?));
        Ok(())
    }

    /// Reloads whenever a file has changed, until `shutdown`.
    pub async fn keep_fresh(self, shutdown: CancellationToken) {
        let mut seen = self.changed_at();
        while shutdown.run_until_cancelled(tokio::time::sleep(CHECK_EVERY)).await.is_some() {
            let now = self.changed_at();
            if now == seen {
                continue;
            }
            seen = now;
            match self.reload() {
                Ok(()) => tracing::info!("certificate reloaded"),
                Err(error) => tracing::warn!(%error, "the new certificate is of no use; the old one stays"),
            }
        }
    }

    fn changed_at(&self) -> [Option<SystemTime>; 2] {
        let files = &self.inner.files;
        [&files.certificate, &files.key].map(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
    }
}

fn acceptor(files: &Tls) -> Result<SslAcceptor, TlsError> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    let bad = |key, path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::File { key, path, source }
    };
    builder.set_certificate_chain_file(&files.certificate).map_err(bad("http.tls.certificate", &files.certificate))?;
    builder.set_private_key_file(&files.key, SslFiletype::PEM).map_err(bad("http.tls.key", &files.key))?;
    builder.check_private_key().map_err(|_| TlsError::Mismatch)?;
    builder.set_alpn_select_callback(|_, offered| select_next_proto(ALPN, offered).ok_or(AlpnError::NOACK));
    Ok(builder.build())
}
