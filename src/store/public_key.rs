//! A device's public key, read from what people have at hand and brought to the one form it is known by.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firmware_protocol::crypto::DevicePublicKey;
use firmware_protocol::id::KeyHash;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::sha::sha256;
use thiserror::Error;

/// Longest text or DER that is looked at; a PEM file with an RSA key has under 1 kB.
const KEY_LEN_MAX: usize = 8192;

/// The kinds of key that devices have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// P-256: devices on UDP.
    EcP256,
    /// RSA with 1024 or 2048 bits: devices on TCP.
    Rsa,
}

/// A public key as SubjectPublicKeyInfo in DER.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
    algorithm: Algorithm,
}

/// Why something is not a device's public key.
#[derive(Debug, Error)]
pub enum PublicKeyError {
    /// Not PEM, and neither DER nor hex or Base64 of it.
    #[error("this is no public key (SubjectPublicKeyInfo as PEM, DER, or Base64 or hex of it)")]
    Unreadable,
    /// The other half of the pair.
    #[error("this is a private key; it should never leave its device. Give the public one, such as device.pub.pem")]
    Private,
    /// A key of a kind that no device has.
    #[error("devices have EC keys on P-256, or RSA keys of 1024 or 2048 bits; this is another kind")]
    WrongKind,
    /// OpenSSL failed on a key that it had accepted.
    #[error(transparent)]
    OpenSsl(#[from] ErrorStack),
}

impl PublicKey {
    /// Reads PEM, DER, or Base64 or hex of DER.
    ///
    /// # Errors
    /// It is none of these, a private key, or of a kind that devices do not have.
    pub fn read(bytes: &[u8]) -> Result<Self, PublicKeyError> {
        if bytes.len() > KEY_LEN_MAX {
            return Err(PublicKeyError::Unreadable);
        }
        if let Ok(key) = PKey::public_key_from_der(bytes) {
            return Self::from_pkey(&key);
        }
        if PKey::private_key_from_der(bytes).is_ok() {
            return Err(PublicKeyError::Private);
        }
        let text = str::from_utf8(bytes).map_err(|_| PublicKeyError::Unreadable)?.trim();
        if text.contains("PRIVATE KEY-----") {
            return Err(PublicKeyError::Private);
        }
        if text.starts_with("-----BEGIN") {
            let key = PKey::public_key_from_pem(text.as_bytes()).map_err(|_| PublicKeyError::Unreadable)?;
            return Self::from_pkey(&key);
        }
        let der = hex::decode(text).or_else(|_| STANDARD.decode(text)).map_err(|_| PublicKeyError::Unreadable)?;
        Self::from_spki(&der)
    }

    /// Reads SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// As for [`PublicKey::read`].
    pub fn from_spki(der: &[u8]) -> Result<Self, PublicKeyError> {
        match PKey::public_key_from_der(der) {
            Ok(key) => Self::from_pkey(&key),
            Err(_) if PKey::private_key_from_der(der).is_ok() => Err(PublicKeyError::Private),
            Err(_) => Err(PublicKeyError::Unreadable),
        }
    }

    /// Whatever form a key came in, it is encoded anew, so that equal keys have equal hashes.
    fn from_pkey(key: &PKey<Public>) -> Result<Self, PublicKeyError> {
        match key.id() {
            Id::EC => {
                let key = key.ec_key()?;
                key.check_key()?;
                if key.group().curve_name() != Some(Nid::X9_62_PRIME256V1) {
                    return Err(PublicKeyError::WrongKind);
                }
                // A group of our own, because the one in the key remembers a compressed point or spelled-out parameters.
                let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
                let spki = EcKey::from_public_key(&group, key.public_key())?.public_key_to_der()?;
                Ok(Self { spki, algorithm: Algorithm::EcP256 })
            }
            Id::RSA if matches!(key.bits(), 1024 | 2048) => Ok(Self { spki: key.public_key_to_der()?, algorithm: Algorithm::Rsa }),
            _ => Err(PublicKeyError::WrongKind),
        }
    }

    /// SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Its kind.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key as devices on TCP have it, if it is one of those.
    pub fn rsa(&self) -> Option<DevicePublicKey> {
        DevicePublicKey::from_spki(&self.spki)
    }

    /// The name it is looked up by.
    pub fn hash(&self) -> KeyHash {
        KeyHash(sha256(&self.spki))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.algorithm, self.hash())
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Algorithm::EcP256 => "ec-p256",
            Algorithm::Rsa => "rsa",
        })
    }
}

impl FromStr for Algorithm {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ec-p256" => Ok(Algorithm::EcP256),
            "rsa" => Ok(Algorithm::Rsa),
            _ => Err(PublicKeyError::WrongKind),
        }
    }
}

#[cfg(test)]
mod tests {
    use openssl::pkey::Private;
    use openssl::rsa::Rsa;

    use super::*;

    fn ec_key(curve: Nid) -> PKey<Private> {
        let group = EcGroup::from_curve_name(curve).expect("a known curve");
        PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key")
    }

    #[test]
    fn a_key_is_the_same_whatever_form_it_came_in() {
        let key = ec_key(Nid::X9_62_PRIME256V1);
        let der = key.public_key_to_der().expect("DER");
        let pem = key.public_key_to_pem().expect("PEM");
        let forms = [der.clone(), pem.clone(), [b"\n  ".to_vec(), pem].concat(), hex::encode(&der).into(), STANDARD.encode(&der).into()];
        for form in forms {
            let read = PublicKey::read(&form).expect("a public key");
            assert_eq!((read.spki(), read.algorithm()), (&der[..], Algorithm::EcP256));
            assert_eq!(read.hash().0, sha256(&der));
        }
    }

    #[test]
    fn a_compressed_point_is_the_same_key() {
        let key = ec_key(Nid::X9_62_PRIME256V1);
        let ec = key.ec_key().expect("an EC key");
        let mut group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a known curve");
        group.set_asn1_flag(openssl::ec::Asn1Flag::NAMED_CURVE);
        let mut context = openssl::bn::BigNumContext::new().expect("a context");
        let point = ec.public_key().to_bytes(&group, openssl::ec::PointConversionForm::COMPRESSED, &mut context).expect("a point");
        let spki = [&hex::decode("3039301306072a8648ce3d020106082a8648ce3d030107032200").expect("hex")[..], &point].concat();
        let read = PublicKey::from_spki(&spki).expect("a compressed key");
        assert_eq!(read.spki(), key.public_key_to_der().expect("DER"));
    }

    #[test]
    fn rsa_keys_of_devices_are_taken() {
        let key = PKey::from_rsa(Rsa::generate(1024).expect("a key")).expect("a key");
        let read = PublicKey::read(&key.public_key_to_pem().expect("PEM")).expect("a public key");
        assert_eq!(read.algorithm(), Algorithm::Rsa);
    }

    #[test]
    fn what_is_no_device_key_is_refused() {
        let private = ec_key(Nid::X9_62_PRIME256V1);
        for form in [private.private_key_to_pem_pkcs8().expect("PEM"), private.private_key_to_der().expect("DER")] {
            assert!(matches!(PublicKey::read(&form), Err(PublicKeyError::Private)));
        }
        let other = ec_key(Nid::SECP384R1).public_key_to_der().expect("DER");
        assert!(matches!(PublicKey::read(&other), Err(PublicKeyError::WrongKind)));
        for bad in [&b""[..], b"-----BEGIN PUBLIC KEY-----", b"abcd", b"\xff\xfe", &[b'a'; KEY_LEN_MAX + 1]] {
            assert!(matches!(PublicKey::read(bad), Err(PublicKeyError::Unreadable)), "{bad:?}");
        }
    }
}
