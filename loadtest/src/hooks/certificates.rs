//! Certificates for receivers on this machine, by an issuer of their own: good ones, and ones that were good until yesterday.

use anyhow::Result;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509NameRef};

use super::now;

const DAY_S: i64 = 24 * 3600;

/// How long a certificate is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Validity {
    /// Until tomorrow.
    Good,
    /// Until yesterday.
    Expired,
}

/// An issuer.
pub(crate) struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

impl Authority {
    /// A new one.
    pub(crate) fn new() -> Result<Self> {
        let (key, name) = (PKey::generate_ed25519()?, name("drill")?);
        let mut builder = begin(&name, &name, &key, 1, Validity::Good)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        builder.sign(&key, MessageDigest::null())?;
        Ok(Self { certificate: builder.build(), key })
    }

    /// Its certificate in PEM, for those who believe it.
    pub(crate) fn pem(&self) -> Result<Vec<u8>> {
        Ok(self.certificate.to_pem()?)
    }

    /// What a receiver at 127.0.0.1 shows.
    pub(crate) fn issue(&self, validity: Validity) -> Result<SslAcceptor> {
        let key = PKey::generate_ed25519()?;
        let mut builder = begin(&*name("receiver")?, self.certificate.subject_name(), &key, 2, validity)?;
        let names = SubjectAlternativeName::new().ip("127.0.0.1").build(&builder.x509v3_context(Some(&self.certificate), None))?;
        builder.append_extension(names)?;
        builder.sign(&self.key, MessageDigest::null())?;
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        acceptor.set_certificate(&builder.build())?;
        acceptor.set_private_key(&key)?;
        Ok(acceptor.build())
    }
}

fn begin(subject: &X509NameRef, issuer: &X509NameRef, key: &PKey<Private>, serial: u32, validity: Validity) -> Result<X509Builder> {
    let until = match validity {
        Validity::Good => DAY_S,
        Validity::Expired => -DAY_S,
    };
    let at = |offset_s: i64| -> Result<Asn1Time> { Ok(Asn1Time::from_unix(i64::try_from(now().0 / 1000)? + offset_s)?) };
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*BigNum::from_u32(serial)?.to_asn1_integer()?)?;
    builder.set_not_before(&*at(until.min(0) - DAY_S)?)?;
    builder.set_not_after(&*at(until)?)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_pubkey(key)?;
    Ok(builder)
}

fn name(text: &str) -> Result<X509Name> {
    let mut name = X509Name::builder()?;
    name.append_entry_by_text("CN", text)?;
    Ok(name.build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::stack::Stack;
    use openssl::x509::store::X509StoreBuilder;
    use openssl::x509::{X509StoreContext, X509VerifyResult};

    #[test]
    fn a_certificate_is_good_or_it_has_expired() -> Result<()> {
        let authority = Authority::new()?;
        let mut store = X509StoreBuilder::new()?;
        store.add_cert(X509::from_pem(&authority.pem()?)?)?;
        let store = store.build();
        let verified = |validity| -> Result<X509VerifyResult> {
            let acceptor = authority.issue(validity)?;
            let certificate = acceptor.context().certificate().expect("it has one");
            let (mut context, chain) = (X509StoreContext::new()?, Stack::new()?);
            Ok(context.init(&store, certificate, &chain, |context| {
                context.verify_cert()?;
                Ok(context.error())
            })?)
        };
        assert_eq!(verified(Validity::Good)?, X509VerifyResult::OK);
        assert!(verified(Validity::Expired)?.error_string().contains("expired"));
        Ok(())
    }
}
