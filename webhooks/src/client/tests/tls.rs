use std::pin::Pin;
use std::time::SystemTime;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{NameType, SslAcceptor, SslMethod, SslVersion};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_openssl::SslStream;

use super::receiver::{OK, Receiver, read_request, reset};
use super::*;

const DAY_S: i64 = 24 * 3600;

struct Certificate {
    certificate: X509,
    key: PKey<Private>,
}

fn name(text: &str) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("CN", text).unwrap();
    name.build()
}

/// A certificate that is good from then until then, in seconds from now, for these names; by `issuer`, or by itself.
fn certificate(issuer: Option<&Certificate>, names: &[&str], valid_s: (i64, i64)) -> Certificate {
    let (key, mut builder) = (PKey::generate_ed25519().unwrap(), X509Builder::new().unwrap());
    let at = |offset: i64| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Asn1Time::from_unix(i64::try_from(now.as_secs()).unwrap() + offset).unwrap()
    };
    let own = name(names.first().unwrap_or(&"root"));
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_not_before(&at(valid_s.0)).unwrap();
    builder.set_not_after(&at(valid_s.1)).unwrap();
    builder.set_subject_name(&own).unwrap();
    builder.set_issuer_name(issuer.map_or(&*own, |issuer| issuer.certificate.subject_name())).unwrap();
    builder.set_pubkey(&key).unwrap();
    if names.is_empty() {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    } else {
        let mut alternatives = SubjectAlternativeName::new();
        for name in names {
            if name.parse::<std::net::IpAddr>().is_ok() {
                alternatives.ip(name)
            } else {
                alternatives.dns(name)
            };
        }
        let extension = alternatives.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(extension).unwrap();
    }
    builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::null()).unwrap();
    Certificate { certificate: builder.build(), key }
}

fn root() -> Certificate {
    certificate(None, &[], (-DAY_S, DAY_S))
}

/// An issuer whom nobody trusts.
fn stranger() -> Certificate {
    certificate(None, &["stranger"], (-DAY_S, DAY_S))
}

fn acceptor(certificate: &Certificate) -> SslAcceptor {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    builder.set_certificate(&certificate.certificate).unwrap();
    builder.set_private_key(&certificate.key).unwrap();
    builder.build()
}

/// A receiver that answers each request with the name that it was asked for.
async fn receiver(acceptor: SslAcceptor) -> Receiver {
    Receiver::start(move |stream, _| {
        let ssl = openssl::ssl::Ssl::new(acceptor.context()).unwrap();
        async move {
            let Some(mut stream) = accept(ssl, stream).await else { return };
            while read_request(&mut stream).await.is_some() {
                let name = stream.ssl().servername(NameType::HOST_NAME).unwrap_or("-").to_owned();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

async fn accept(ssl: openssl::ssl::Ssl, stream: TcpStream) -> Option<SslStream<TcpStream>> {
    let mut stream = SslStream::new(ssl, stream).ok()?;
    Pin::new(&mut stream).accept().await.ok()?;
    Some(stream)
}

fn trusting(root: &Certificate) -> Client {
    let roots_pem = Some(root.certificate.to_pem().unwrap());
    let limits = Limits { tls: BRIEF * 4, ..Limits::default() };
    Client::new(guard(&["127.0.0.0/8"]), Arc::new(Names::leading(&[&["127.0.0.1"]])), ClientConfig { limits, roots_pem }).unwrap()
}

fn url(receiver: &Receiver, host: &str) -> Url {
    Url::parse(&format!("https://{host}:{}/", receiver.address.port())).unwrap()
}

#[tokio::test]
async fn a_good_certificate_is_accepted_for_its_names() {
    let root = root();
    let receiver = receiver(acceptor(&certificate(Some(&root), &["good.example", "*.wild.example", "127.0.0.1"], (-DAY_S, DAY_S)))).await;
    let client = trusting(&root);
    for (host, asked) in
        [("good.example", "good.example"), ("GOOD.example.", "good.example"), ("a.wild.example", "a.wild.example"), ("127.0.0.1", "-")]
    {
        let answer = client.send(post(&url(&receiver, host))).await.unwrap();
        assert_eq!(String::from_utf8(answer.body).unwrap(), asked);
        client.send(post(&url(&receiver, host))).await.unwrap();
    }
    assert_eq!((receiver.accepted(), client.counts().reused), (4, 4));
}

#[tokio::test]
async fn any_other_certificate_is_refused_in_words_and_accepted_if_the_hook_says_so() {
    let (root, stranger) = (root(), stranger());
    for (served, host, words) in [
        (certificate(Some(&root), &["good.example"], (-2 * DAY_S, -DAY_S)), "good.example", "has expired"),
        (certificate(Some(&root), &["good.example"], (DAY_S, 2 * DAY_S)), "good.example", "not yet valid"),
        (certificate(Some(&root), &["good.example"], (-DAY_S, DAY_S)), "other.example", "hostname mismatch"),
        (certificate(Some(&root), &["good.example"], (-DAY_S, DAY_S)), "127.0.0.1", "IP address mismatch"),
        (certificate(None, &["good.example"], (-DAY_S, DAY_S)), "good.example", "self-signed certificate"),
        (certificate(Some(&stranger), &["good.example"], (-DAY_S, DAY_S)), "good.example", "unable to get local issuer certificate"),
    ] {
        let (receiver, client) = (receiver(acceptor(&served)).await, trusting(&root));
        let url = url(&receiver, host);
        let failure = client.send(post(&url)).await.unwrap_err();
        assert!(
            failure.phase == Phase::Tls && failure.error.contains("the certificate is not accepted") && failure.error.contains(words),
            "{failure:?}"
        );
        assert_eq!(status(&client.send(Attempt { verify_tls: false, ..post(&url) }).await), Some(200));
        assert_eq!(phase(&client.send(post(&url)).await), Some(Phase::Tls), "what was accepted unseen is not used for who looks");
    }
}

#[tokio::test]
async fn whoever_does_not_speak_tls_is_told_apart() {
    let client = trusting(&root());
    let plain = Receiver::start(|mut stream, _| async move {
        let _ = stream.read_u8().await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        sleep(BRIEF).await;
    })
    .await;
    let failure = client.send(post(&url(&plain, "good.example"))).await.unwrap_err();
    assert!(failure.phase == Phase::Tls && failure.error.starts_with("there is no agreement on TLS"), "{failure:?}");
    let silent = Receiver::start(|stream, _| async move {
        sleep(AMPLE).await;
        drop(stream);
    })
    .await;
    let late = client.send(post(&url(&silent, "good.example"))).await;
    assert_eq!(late, Err(Failure::new(Phase::Tls, "there was no agreement on TLS within 0.6 s")));
    for with_reset in [false, true] {
        let closing = Receiver::start(move |mut stream, _| async move {
            let _ = stream.read_u8().await;
            if with_reset {
                reset(stream);
            }
        })
        .await;
        let result = client.send(post(&url(&closing, "good.example"))).await;
        assert_eq!(phase(&result), Some(Phase::Tls), "{result:?}");
    }
}

#[tokio::test]
async fn tls_is_not_spoken_in_versions_before_1_2() {
    let root = root();
    let leaf = certificate(Some(&root), &["good.example"], (-DAY_S, DAY_S));
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    builder.set_certificate(&leaf.certificate).unwrap();
    builder.set_private_key(&leaf.key).unwrap();
    builder.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
    builder.set_max_proto_version(Some(SslVersion::TLS1_1)).unwrap();
    builder.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    let receiver = receiver(builder.build()).await;
    let result = trusting(&root).send(Attempt { verify_tls: false, ..post(&url(&receiver, "good.example")) }).await;
    assert_eq!(phase(&result), Some(Phase::Tls), "{result:?}");
}

#[tokio::test]
async fn a_connection_under_tls_breaks_as_any_other() {
    let root = root();
    let acceptor = acceptor(&certificate(Some(&root), &["good.example"], (-DAY_S, DAY_S)));
    let receiver = Receiver::start(move |stream, number| {
        let ssl = openssl::ssl::Ssl::new(acceptor.context()).unwrap();
        async move {
            let Some(mut stream) = accept(ssl, stream).await else { return };
            read_request(&mut stream).await;
            let answer = if number == 0 { OK } else { b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx" };
            let _ = stream.write_all(answer).await;
        }
    })
    .await;
    let (client, url) = (trusting(&root), url(&receiver, "good.example"));
    assert_eq!(status(&client.send(post(&url)).await), Some(200));
    sleep(BRIEF).await;
    let result = client.send(post(&url)).await;
    assert_eq!((phase(&result), receiver.accepted()), (Some(Phase::Body), 2), "{result:?}");
}
