//! Keys on P-256: the server's and the devices' over UDP, and the key agreement of a DTLS handshake.

use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint, PointConversionForm};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;

use crate::entropy::Entropy;
use crate::error::KeyError;
use crate::id::KeyHash;

/// Length of an uncompressed P-256 point: `04 ‖ X ‖ Y`.
pub const POINT_LEN: usize = 65;
/// Length of a P-256 SubjectPublicKeyInfo.
pub const SPKI_LEN: usize = SPKI_PREFIX.len() + POINT_LEN;

/// Everything of a P-256 SubjectPublicKeyInfo before the point: it never varies (RFC 5480 §2).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01,
    0x07, 0x03, 0x42, 0x00,
];

/// A P-256 public key in the only form devices send: 91 bytes of SubjectPublicKeyInfo. Not yet known to be on the curve.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; SPKI_LEN]);

impl PublicKey {
    /// The key in `spki`, if that is a P-256 key with an uncompressed point.
    pub fn from_spki(spki: &[u8]) -> Option<Self> {
        let bytes: [u8; SPKI_LEN] = spki.try_into().ok()?;
        (bytes.starts_with(&SPKI_PREFIX) && bytes[SPKI_PREFIX.len()] == 4).then_some(Self(bytes))
    }

    /// The key for `point` (`04 ‖ X ‖ Y`).
    pub fn from_point(point: &[u8; POINT_LEN]) -> Self {
        let mut bytes = [0; SPKI_LEN];
        bytes[..SPKI_PREFIX.len()].copy_from_slice(&SPKI_PREFIX);
        bytes[SPKI_PREFIX.len()..].copy_from_slice(point);
        Self(bytes)
    }

    /// The key that a PEM text holds, if it is a P-256 public key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let key = EcKey::public_key_from_pem(pem)?;
        Self::from_spki(&key.public_key_to_der()?).ok_or(KeyError::NotP256)
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8; SPKI_LEN] {
        &self.0
    }

    /// The name under which the key is looked up.
    pub fn hash(&self) -> KeyHash {
        KeyHash(sha256(&self.0))
    }

    fn point(&self) -> &[u8] {
        &self.0[SPKI_PREFIX.len()..]
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.hash())
    }
}

/// A P-256 key pair: the server's or a simulated device's.
#[derive(Clone)]
pub struct KeyPair {
    key: EcKey<Private>,
    public: PublicKey,
}

impl KeyPair {
    /// A new pair from the caller's entropy.
    pub fn generate(curve: &mut Curve, entropy: &mut impl Entropy) -> Result<Self, KeyError> {
        let ephemeral = curve.ephemeral(entropy)?;
        let key = EcKey::from_private_components(&curve.group, &ephemeral.scalar, &ephemeral.point)?;
        Ok(Self { key, public: PublicKey::from_point(&ephemeral.encoded) })
    }

    /// From a PEM private key (SEC1 or PKCS#8).
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        Self::from_private(PKey::private_key_from_pem(pem)?.ec_key()?)
    }

    /// From a DER private key (SEC1 or PKCS#8).
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        Self::from_private(PKey::private_key_from_der(der)?.ec_key()?)
    }

    fn from_private(key: EcKey<Private>) -> Result<Self, KeyError> {
        let public = PublicKey::from_spki(&key.public_key_to_der()?).ok_or(KeyError::NotP256)?;
        Ok(Self { key, public })
    }

    /// PKCS#8 PEM of the private key.
    pub fn to_pem(&self) -> Result<Vec<u8>, KeyError> {
        Ok(PKey::from_ec_key(self.key.clone())?.private_key_to_pem_pkcs8()?)
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// ECDSA over `digest`, DER-encoded.
    pub fn sign(&self, digest: &[u8; 32]) -> Result<Vec<u8>, KeyError> {
        Ok(EcdsaSig::sign(digest, &self.key)?.to_der()?)
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPair({})", self.public.hash())
    }
}

/// The P-256 group with scratch space. One per thread.
pub struct Curve {
    group: EcGroup,
    order: BigNum,
    scratch: BigNumContext,
}

impl std::fmt::Debug for Curve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Curve(P-256)")
    }
}

impl Curve {
    /// Builds the group once; the calls below reuse it.
    pub fn new() -> Result<Self, KeyError> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
        let mut scratch = BigNumContext::new_secure()?;
        let mut order = BigNum::new()?;
        group.order(&mut order, &mut scratch)?;
        Ok(Self { group, order, scratch })
    }

    /// A fresh Diffie-Hellman pair whose scalar is the first 32 bytes of entropy that are a valid one.
    pub fn ephemeral(&mut self, entropy: &mut impl Entropy) -> Result<Ephemeral, KeyError> {
        let mut scalar = BigNum::new_secure()?;
        loop {
            scalar.copy_from_slice(&entropy.array::<32>())?;
            if scalar.num_bits() > 0 && scalar < self.order {
                break;
            }
        }
        scalar.set_const_time();
        let mut point = EcPoint::new(&self.group)?;
        point.mul_generator2(&self.group, &scalar, &mut self.scratch)?;
        let encoded =
            point.to_bytes(&self.group, PointConversionForm::UNCOMPRESSED, &mut self.scratch)?.try_into().map_err(|_| KeyError::NotP256)?;
        Ok(Ephemeral { scalar, point, encoded })
    }

    /// The X coordinate of `ephemeral × peer`; an error if `peer` is not a point of the curve.
    pub fn agree(&mut self, ephemeral: &Ephemeral, peer: &[u8]) -> Result<[u8; 32], KeyError> {
        let peer = EcPoint::from_bytes(&self.group, peer, &mut self.scratch)?;
        let mut shared = EcPoint::new(&self.group)?;
        shared.mul2(&self.group, &peer, &ephemeral.scalar, &mut self.scratch)?;
        let (mut x, mut y) = (BigNum::new_secure()?, BigNum::new_secure()?);
        shared.affine_coordinates(&self.group, &mut x, &mut y, &mut self.scratch)?;
        x.to_vec_padded(32)?.try_into().map_err(|_| KeyError::NotP256)
    }

    /// Whether `signature` (DER) over `digest` is `key`'s. Whatever is malformed is simply not valid.
    pub fn verify(&mut self, key: &PublicKey, digest: &[u8; 32], signature: &[u8]) -> bool {
        self.try_verify(key, digest, signature).unwrap_or(false)
    }

    fn try_verify(&mut self, key: &PublicKey, digest: &[u8; 32], signature: &[u8]) -> Result<bool, ErrorStack> {
        let point = EcPoint::from_bytes(&self.group, key.point(), &mut self.scratch)?;
        let key = EcKey::from_public_key(&self.group, &point)?;
        EcdsaSig::from_der(signature)?.verify(digest, &key)
    }
}

/// One side's Diffie-Hellman pair of one handshake.
pub struct Ephemeral {
    scalar: BigNum,
    point: EcPoint,
    encoded: [u8; POINT_LEN],
}

impl Ephemeral {
    /// The public point, `04 ‖ X ‖ Y`.
    pub fn public(&self) -> &[u8; POINT_LEN] {
        &self.encoded
    }
}

impl std::fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ephemeral(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn two_sides_agree_and_sign() {
        let mut curve = Curve::new().unwrap();
        let mut entropy = SeededEntropy::new(1);
        let (a, b) = (curve.ephemeral(&mut entropy).unwrap(), curve.ephemeral(&mut entropy).unwrap());
        assert_eq!(curve.agree(&a, b.public()).unwrap(), curve.agree(&b, a.public()).unwrap());
        assert!(curve.agree(&a, &[4; POINT_LEN]).is_err(), "not on the curve");

        let pair = KeyPair::generate(&mut curve, &mut entropy).unwrap();
        let signature = pair.sign(&[7; 32]).unwrap();
        assert!(curve.verify(pair.public(), &[7; 32], &signature));
        assert!(!curve.verify(pair.public(), &[8; 32], &signature));
        assert!(!curve.verify(pair.public(), &[7; 32], &signature[1..]));
        let again = KeyPair::from_pem(&pair.to_pem().unwrap()).unwrap();
        assert_eq!(again.public(), pair.public());
    }
}
