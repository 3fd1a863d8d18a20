//! Keys of RSA, which TCP devices and their server have: PKCS#1 v1.5 (RFC 8017 §7.2, §8.2) in the two sizes that fit into a device's flash.
//!
//! Decryption never tells that padding was wrong: OpenSSL's implicit rejection answers bytes that look like any others, of a length that looks
//! like any other, always the same for the same ciphertext. Whoever decrypts must treat these like a message that says something else.

use openssl::bn::BigNum;
use openssl::pkey::{PKey, Private, Public};
use openssl::rsa::{Padding, Rsa};
use openssl::sha::sha256;

use crate::entropy::Entropy;
use crate::error::KeyError;
use crate::id::KeyHash;

/// Least bytes that padding takes of a block.
const PADDING_LEN_MIN: usize = 11;
/// The public exponent 65537, which devices have built in, as it ends a SubjectPublicKeyInfo.
const EXPONENT: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];
/// Everything of a 1024-bit SubjectPublicKeyInfo before the modulus: it never varies (RFC 3279 §2.3.1).
const PREFIX_1024: [u8; 29] = [
    0x30, 0x81, 0x9f, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00, 0x03, 0x81, 0x8d, 0x00,
    0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0x00,
];
/// The same for 2048 bits.
const PREFIX_2048: [u8; 33] = [
    0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00, 0x03, 0x82, 0x01,
    0x0f, 0x00, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00,
];

/// A device's RSA-1024 public key, as SubjectPublicKeyInfo.
pub type DevicePublicKey = RsaPublicKey<162>;
/// The server's RSA-2048 public key, as SubjectPublicKeyInfo.
pub type ServerPublicKey = RsaPublicKey<294>;
/// A device's pair.
pub type DeviceKeyPair = RsaKeyPair<162>;
/// The server's pair.
pub type ServerKeyPair = RsaKeyPair<294>;

/// An RSA public key in the only form devices have: `SPKI_LEN` bytes of SubjectPublicKeyInfo with the exponent 65537.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RsaPublicKey<const SPKI_LEN: usize>([u8; SPKI_LEN]);

impl<const SPKI_LEN: usize> RsaPublicKey<SPKI_LEN> {
    /// Length of the modulus, and so of a ciphertext and a signature, in bytes.
    pub const MODULUS_LEN: usize = SPKI_LEN - EXPONENT.len() - Self::PREFIX.len();
    const BITS: u32 = if SPKI_LEN == 162 { 1024 } else { 2048 };
    const PREFIX: &'static [u8] = if SPKI_LEN == 162 { &PREFIX_1024 } else { &PREFIX_2048 };

    /// The key in `spki`, if it is one of this size.
    pub fn from_spki(spki: &[u8]) -> Option<Self> {
        let bytes: [u8; SPKI_LEN] = spki.try_into().ok()?;
        let key = Self(bytes);
        let modulus = key.modulus();
        let sound = bytes.starts_with(Self::PREFIX)
            && bytes.ends_with(&EXPONENT)
            && modulus.first().is_some_and(|byte| byte & 0x80 != 0)
            && modulus.last().is_some_and(|byte| byte & 1 != 0);
        sound.then_some(key)
    }

    /// The key that a PEM text holds.
    ///
    /// # Errors
    /// It holds no public key, or another kind.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        Self::from_spki(&Rsa::public_key_from_pem(pem)?.public_key_to_der()?).ok_or(KeyError::NotRsa(Self::BITS))
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8; SPKI_LEN] {
        &self.0
    }

    /// The name under which the key is looked up.
    pub fn hash(&self) -> KeyHash {
        KeyHash(sha256(&self.0))
    }

    /// Encrypts `plaintext`, with padding from the caller's entropy.
    ///
    /// # Errors
    /// It is longer than the modulus less 11 bytes, or the modulus is none that OpenSSL takes.
    pub fn encrypt(&self, plaintext: &[u8], entropy: &mut impl Entropy) -> Result<Vec<u8>, KeyError> {
        let block = padded(plaintext, Self::MODULUS_LEN, entropy).ok_or(KeyError::TooLong)?;
        let mut ciphertext = vec![0; Self::MODULUS_LEN];
        self.key()?.public_encrypt(&block, &mut ciphertext, Padding::NONE)?;
        Ok(ciphertext)
    }

    /// What was signed with the other half, or `None` if it was not.
    pub fn recover(&self, signature: &[u8]) -> Option<Vec<u8>> {
        let mut signed = vec![0; Self::MODULUS_LEN];
        let len = self.key().ok()?.public_decrypt(signature, &mut signed, Padding::PKCS1).ok()?;
        signed.truncate(len);
        Some(signed)
    }

    fn modulus(&self) -> &[u8] {
        &self.0[Self::PREFIX.len()..SPKI_LEN - EXPONENT.len()]
    }

    fn key(&self) -> Result<Rsa<Public>, KeyError> {
        Ok(Rsa::from_public_components(BigNum::from_slice(self.modulus())?, BigNum::from_u32(0x1_0001)?)?)
    }
}

impl<const SPKI_LEN: usize> std::fmt::Debug for RsaPublicKey<SPKI_LEN> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RsaPublicKey({})", self.hash())
    }
}

/// `00 02 PS 00 ‖ plaintext` with `PS` of bytes that are not 0 (RFC 8017 §7.2.1).
fn padded(plaintext: &[u8], modulus_len: usize, entropy: &mut impl Entropy) -> Option<Vec<u8>> {
    let random = modulus_len.checked_sub(plaintext.len() + 3).filter(|random| random + 3 >= PADDING_LEN_MIN)?;
    let mut block = vec![0; 2 + random];
    block[1] = 2;
    entropy.fill(&mut block[2..]);
    for byte in &mut block[2..] {
        while *byte == 0 {
            entropy.fill(std::slice::from_mut(byte));
        }
    }
    block.push(0);
    block.extend_from_slice(plaintext);
    Some(block)
}

/// An RSA key pair.
#[derive(Clone)]
pub struct RsaKeyPair<const SPKI_LEN: usize> {
    key: Rsa<Private>,
    public: RsaPublicKey<SPKI_LEN>,
}

impl<const SPKI_LEN: usize> RsaKeyPair<SPKI_LEN> {
    /// A new pair. Its randomness is OpenSSL's own: a search for primes cannot be fed from outside, and nothing replays it.
    pub fn generate() -> Result<Self, KeyError> {
        Self::from_private(Rsa::generate(RsaPublicKey::<SPKI_LEN>::BITS)?)
    }

    /// From a PEM private key (PKCS#1 or PKCS#8).
    ///
    /// # Errors
    /// It holds no private key, or another kind, size or exponent.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        Self::from_private(PKey::private_key_from_pem(pem)?.rsa()?)
    }

    /// From a DER private key (PKCS#1 or PKCS#8).
    ///
    /// # Errors
    /// As for [`RsaKeyPair::from_pem`].
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        Self::from_private(PKey::private_key_from_der(der)?.rsa()?)
    }

    fn from_private(key: Rsa<Private>) -> Result<Self, KeyError> {
        let spki = key.public_key_to_der()?;
        let public = RsaPublicKey::from_spki(&spki).ok_or(KeyError::NotRsa(RsaPublicKey::<SPKI_LEN>::BITS))?;
        Ok(Self { key, public })
    }

    /// PKCS#8 PEM of the private key.
    pub fn to_pem(&self) -> Result<Vec<u8>, KeyError> {
        Ok(PKey::from_rsa(self.key.clone())?.private_key_to_pem_pkcs8()?)
    }

    /// The public half.
    pub fn public(&self) -> &RsaPublicKey<SPKI_LEN> {
        &self.public
    }

    /// The plaintext of `ciphertext`; bytes that nobody chose if its padding is wrong.
    ///
    /// # Errors
    /// The ciphertext is not a number below the modulus: what everybody can see.
    pub fn decrypt(&self, ciphertext: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut plaintext = vec![0; RsaPublicKey::<SPKI_LEN>::MODULUS_LEN];
        let len = self.key.private_decrypt(ciphertext, &mut plaintext, Padding::PKCS1)?;
        plaintext.truncate(len);
        Ok(plaintext)
    }

    /// The private-key operation over `00 01 FF… 00 ‖ text`: a PKCS#1 v1.5 signature without DigestInfo, as TCP devices check it.
    pub fn sign(&self, text: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut signature = vec![0; RsaPublicKey::<SPKI_LEN>::MODULUS_LEN];
        self.key.private_encrypt(text, &mut signature, Padding::PKCS1)?;
        Ok(signature)
    }
}

impl<const SPKI_LEN: usize> std::fmt::Debug for RsaKeyPair<SPKI_LEN> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RsaKeyPair({})", self.public.hash())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;
    use std::collections::BTreeSet;

    #[test]
    fn pairs_of_both_sizes_encrypt_sign_and_survive_pem() {
        let mut entropy = SeededEntropy::new(1);
        let (server, device) = (ServerKeyPair::generate().unwrap(), DeviceKeyPair::generate().unwrap());
        assert_eq!((ServerPublicKey::MODULUS_LEN, DevicePublicKey::MODULUS_LEN), (256, 128));
        for plaintext in [&[][..], &[7; 52], &[0; 214]] {
            let ciphertext = server.public().encrypt(plaintext, &mut entropy).unwrap();
            assert_eq!(server.decrypt(&ciphertext).unwrap(), plaintext);
        }
        assert_eq!(device.decrypt(&device.public().encrypt(&[9; 40], &mut entropy).unwrap()).unwrap(), [9; 40]);
        assert!(matches!(device.public().encrypt(&[0; 118], &mut entropy), Err(KeyError::TooLong)));
        let signature = server.sign(&[5; 20]).unwrap();
        assert_eq!(server.public().recover(&signature).unwrap(), [5; 20]);
        assert_ne!(ServerKeyPair::generate().unwrap().public().recover(&signature), Some(vec![5; 20]));

        assert_eq!(ServerKeyPair::from_pem(&server.to_pem().unwrap()).unwrap().public(), server.public());
        assert_eq!(DeviceKeyPair::from_pem(&device.to_pem().unwrap()).unwrap().public(), device.public());
        assert!(matches!(ServerKeyPair::from_pem(&device.to_pem().unwrap()), Err(KeyError::NotRsa(2048))));
        assert_eq!(DevicePublicKey::from_spki(device.public().spki()), Some(*device.public()));
        assert_eq!(DevicePublicKey::from_spki(server.public().spki()), None);
        for (at, value) in [(0, 0x31), (29, 0x01), (156, 0x02), (161, 0x03)] {
            let mut changed = *device.public().spki();
            changed[at] = value;
            assert_eq!(DevicePublicKey::from_spki(&changed), None, "byte {at}");
        }
    }

    /// Implicit rejection: without it the error would tell a stranger about the padding, and with some patience let it use the private key.
    #[test]
    fn wrong_padding_decrypts_to_something_else_and_is_no_error() {
        let server = ServerKeyPair::generate().unwrap();
        let mut lens = BTreeSet::new();
        for n in 1..=40 {
            let ciphertext = [&[0x11][..], &[n; 255]].concat();
            let plaintext = server.decrypt(&ciphertext).unwrap();
            assert_eq!(server.decrypt(&ciphertext).unwrap(), plaintext, "the same answer every time");
            lens.insert(plaintext.len());
        }
        assert!(lens.len() > 10, "of many lengths: {lens:?}");
        assert!(server.decrypt(&[0xff; 256]).is_err());
    }
}
