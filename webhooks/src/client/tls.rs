//! TLS 1.2 or later, with the certificates of the system and those that the operator adds.

use std::pin::Pin;
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{ConnectConfiguration, SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::{X509, X509VerifyResult};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_openssl::SslStream;

use super::connect::Origin;
use super::stream::Stream;
use super::{Failure, words};
use crate::delivery::Phase;

/// What TLS is spoken with.
pub(super) struct Contexts(SslConnector);

impl Contexts {
    pub(super) fn new(roots_pem: Option<&[u8]>) -> Result<Self, ErrorStack> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        builder.set_alpn_protos(b"\x08http/1.1")?;
        let system = openssl_probe::probe();
        // A system whose certificates cannot be read has none; every verification says so.
        for (file, directory) in
            [(system.cert_file.as_deref(), None)].into_iter().chain(system.cert_dir.iter().map(|path| (None, Some(path.as_path()))))
        {
            if file.is_some() || directory.is_some() {
                let _ = builder.load_verify_locations(file, directory);
            }
        }
        for root in X509::stack_from_pem(roots_pem.unwrap_or_default())? {
            builder.cert_store_mut().add_cert(root)?;
        }
        Ok(Self(builder.build()))
    }

    /// Agrees with the other side, and looks at its certificate.
    pub(super) async fn agree(&self, stream: TcpStream, origin: &Origin, limit: Duration) -> Result<Stream, Failure> {
        let fail = |error: &'static str| Failure::new(Phase::Tls, error);
        let ssl = self.configure(origin.verify_tls()).and_then(|configuration| configuration.into_ssl(&origin.tls_name()));
        let stream = ssl.and_then(|ssl| SslStream::new(ssl, stream));
        let mut stream = stream.map_err(|_| fail("TLS could not be begun with a host of this name"))?;
        match timeout(limit, Pin::new(&mut stream).connect()).await {
            Ok(Ok(())) => Ok(Stream::Tls(stream)),
            Ok(Err(error)) => Err(Failure::new(Phase::Tls, why(stream.ssl().verify_result(), &error, origin.verify_tls()))),
            Err(_) => Err(Failure::new(Phase::Tls, words::within("there was no agreement on TLS", limit))),
        }
    }

    fn configure(&self, verify: bool) -> Result<ConnectConfiguration, ErrorStack> {
        let mut configuration = self.0.configure()?;
        if !verify {
            configuration.set_verify(SslVerifyMode::NONE);
            configuration.set_verify_hostname(false);
        }
        Ok(configuration)
    }
}

fn why(verified: X509VerifyResult, error: &openssl::ssl::Error, verify: bool) -> String {
    if verify && verified != X509VerifyResult::OK {
        return format!("the certificate is not accepted: {}", verified.error_string());
    }
    if let Some(error) = error.io_error() {
        return words::io(error).to_owned();
    }
    let reason = error.ssl_error().and_then(|stack| stack.errors().first()?.reason());
    reason.map_or_else(|| "the other side closed the connection".to_owned(), |reason| format!("there is no agreement on TLS: {reason}"))
}

impl std::fmt::Debug for Contexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Contexts")
    }
}
