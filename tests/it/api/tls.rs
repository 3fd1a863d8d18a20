//! HTTPS.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::pin::Pin;

use holdfast::api::serve;
use holdfast::api::tls::{Certificates, TlsError};
use holdfast::config::Tls;
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslMethod};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509NameBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;

use crate::client::exchange;
use crate::rig::{EMAIL, Rig};

/// Writes a certificate for "localhost" that signs itself, and its key.
fn certificate(directory: &Path) -> Tls {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a known curve");
    let key = PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key");
    let mut name = X509NameBuilder::new().expect("a name");
    name.append_entry_by_nid(Nid::COMMONNAME, "localhost").expect("a name");
    let name = name.build();
    let mut builder = X509::builder().expect("a certificate");
    builder.set_version(2).expect("version 3");
    builder.set_subject_name(&name).expect("a subject");
    builder.set_issuer_name(&name).expect("an issuer");
    builder.set_pubkey(&key).expect("a key");
    builder.set_not_before(&Asn1Time::days_from_now(0).expect("a time")).expect("a time");
    builder.set_not_after(&Asn1Time::days_from_now(2).expect("a time")).expect("a time");
    let names = SubjectAlternativeName::new().dns("localhost").build(&builder.x509v3_context(None, None)).expect("a name");
    builder.append_extension(names).expect("an extension");
    builder.sign(&key, MessageDigest::sha256()).expect("signed");
    let files = Tls { certificate: directory.join("certificate.pem"), key: directory.join("key.pem") };
    fs::write(&files.certificate, builder.build().to_pem().expect("PEM")).expect("written");
    fs::write(&files.key, key.private_key_to_pem_pkcs8().expect("PEM")).expect("written");
    files
}

async fn connect(port: u16, trusted: &Path) -> Result<SslStream<TcpStream>, openssl::ssl::Error> {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).expect("a connector");
    connector.set_ca_file(trusted).expect("a certificate");
    let ssl = connector.build().configure().and_then(|config| config.into_ssl("localhost")).expect("a session");
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("a connection");
    let mut stream = SslStream::new(ssl, stream).expect("a session");
    Pin::new(&mut stream).connect().await?;
    Ok(stream)
}

#[tokio::test]
async fn the_api_speaks_tls_with_the_files_it_is_given() {
    let rig = Rig::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let files = certificate(directory.path());
    let certificates = Certificates::load(files.clone()).expect("they are good");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(serve(listener, rig.api.clone(), Some(certificates.clone()), rig.shutdown.clone()));

    let head = format!("GET /v1/user HTTP/1.1\r\nAuthorization: Bearer {}", rig.token);
    let answer = exchange(connect(port, &files.certificate).await.expect("trusted"), &head, b"").await;
    assert_eq!(answer.json()["username"], EMAIL);

    let old = directory.path().join("old.pem");
    fs::copy(&files.certificate, &old).expect("copied");
    certificate(directory.path());
    certificates.reload().expect("the new ones are good");
    assert!(connect(port, &old).await.is_err(), "the old certificate is gone");
    assert!(connect(port, &files.certificate).await.is_ok());

    fs::write(&files.key, "nonsense").expect("written");
    assert!(certificates.reload().is_err());
    assert!(connect(port, &files.certificate).await.is_ok(), "what was good stays in use");
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let (one, two) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (first, second) = (certificate(one.path()), certificate(two.path()));
    let mixed = Tls { certificate: first.certificate.clone(), key: second.key };
    assert!(matches!(Certificates::load(mixed), Err(TlsError::Mismatch | TlsError::File { key: "http.tls.key", .. })));
    let swapped = Tls { certificate: first.key.clone(), key: first.certificate };
    assert!(matches!(Certificates::load(swapped), Err(TlsError::File { key: "http.tls.certificate", .. })));
}
