//! Envelopes: how secrets are stored that have to be read again. Whoever has the database and not the master key learns nothing of them but their length.
//!
//! `hf1:<algorithm>:<key id>:<nonce>:<ciphertext>`: format, algorithm, which master key, and Base64 (RFC 4648 §5, no padding) of the nonce and of the
//! ciphertext with its tag. The one algorithm is `a256gcm`: AES-256-GCM, nonce of 12 random bytes, tag of 16. What comes before the nonce is authenticated
//! with the ciphertext, and so is where it stands: an envelope that is moved to another row or field does not open.

use std::fmt;
use std::io;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::error::ErrorStack;
use openssl::rand::rand_bytes;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use thiserror::Error;

const FORMAT: &str = "hf1";
const ALGORITHM: &str = "a256gcm";
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
/// Longest id of a master key.
const ID_LEN_MAX: usize = 32;
/// Bytes of a master key.
pub(super) const KEY_LEN: usize = 32;

/// Why a secret cannot be read or written. None of these has a byte of it.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    /// A secret stands there in the clear.
    #[error("{0} is not in an envelope")]
    Plain(String),
    /// The envelope is of a format that this program does not know.
    #[error("{place} is in an envelope of format {format:?}, which this program does not know; a newer version of Holdfast wrote it")]
    Format {
        /// Where.
        place: String,
        /// Which.
        format: String,
    },
    /// It was made with an algorithm that this program does not know.
    #[error("{place} is in an envelope of algorithm {algorithm:?}, which this program does not know; a newer version of Holdfast wrote it")]
    Algorithm {
        /// Where.
        place: String,
        /// Which.
        algorithm: String,
    },
    /// The master key is not there.
    #[error("{place} was sealed with the master key {key:?}, which is not in the key file; put its line back")]
    Key {
        /// Where.
        place: String,
        /// Which.
        key: String,
    },
    /// Parts are missing or make no sense.
    #[error("the envelope of {0} is damaged")]
    Malformed(String),
    /// It was changed or moved, or the master key of this name is another one.
    #[error("{place} does not open with the master key {key:?}: it is damaged or was moved, or another key has that name")]
    Forged {
        /// Where.
        place: String,
        /// With which.
        key: String,
    },
    /// The file with the master keys is not there, and secrets were sealed with one.
    #[error(
        "the master key {} is missing, and secrets of hooks are sealed with it. Put the file back. If it is lost for good, make another (docs/operations.md, \
         \"Secrets\"): hooks have to be made anew then", path.display()
    )]
    NoFile {
        /// Where it should be.
        path: PathBuf,
    },
    /// Others could read the file with the master keys.
    #[error("the master key {path} can be read by others (mode {mode:o}); make it private: chmod 600 {path}", path = path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is in the data directory, where it protects nothing.
    #[error("secrets.master_key_file is {}, which is inside the data directory; a master key belongs elsewhere", path.display())]
    Inside {
        /// Which file.
        path: PathBuf,
    },
    /// The file does not hold master keys.
    #[error("line {line} of the master key {} is no key: {what}", path.display())]
    BadFile {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// What does not hold.
        what: &'static str,
    },
    /// The file cannot be read or written.
    #[error("cannot {doing} the master key {}: {source}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// OpenSSL failed.
    #[error("a secret cannot be sealed: {0}")]
    OpenSsl(#[from] ErrorStack),
}

/// Where a secret stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place<'a> {
    /// In which table.
    pub table: &'static str,
    /// In which row.
    pub row: &'a str,
    /// In which field.
    pub field: &'static str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} of {}", self.table, self.field, self.row)
    }
}

/// A master key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct MasterKey {
    pub(super) id: String,
    pub(super) key: [u8; KEY_LEN],
}

/// Keys that seal secrets and open them. The first one seals.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKeys(Vec<MasterKey>);

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl MasterKey {
    /// A new one.
    pub(super) fn random() -> Result<Self, ErrorStack> {
        let (mut name, mut key) = ([0; 4], [0; KEY_LEN]);
        rand_bytes(&mut name)?;
        rand_bytes(&mut key)?;
        Ok(Self { id: format!("k-{}", hex::encode(name)), key })
    }
}

impl MasterKeys {
    /// Of these keys, of which the first seals; `None` if there is none.
    pub(super) fn new(keys: Vec<MasterKey>) -> Option<Self> {
        (!keys.is_empty()).then_some(Self(keys))
    }

    pub(super) fn keys(&self) -> &[MasterKey] {
        &self.0
    }

    /// The ids of all, that of the one that seals first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| key.id.as_str())
    }

    /// The id of the one that seals.
    pub fn current(&self) -> &str {
        self.ids().next().unwrap_or_default()
    }

    /// What every envelope begins with that the current key seals.
    pub fn current_prefix(&self) -> String {
        head(self.current())
    }

    /// Seals a secret for its place.
    ///
    /// # Errors
    /// OpenSSL failed.
    pub fn seal(&self, place: Place<'_>, secret: &[u8]) -> Result<String, EnvelopeError> {
        let MasterKey { id, key } = &self.0[0];
        let (head, mut nonce, mut tag) = (head(id), [0; NONCE_LEN], [0; TAG_LEN]);
        rand_bytes(&mut nonce)?;
        let mut sealed = encrypt_aead(Cipher::aes_256_gcm(), key, Some(&nonce), &context(&head, place), secret, &mut tag)?;
        sealed.extend_from_slice(&tag);
        Ok(format!("{head}{}:{}", URL_SAFE_NO_PAD.encode(nonce), URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// Opens the envelope of a secret that stands in a place.
    ///
    /// # Errors
    /// It is none, or of a kind or key that is not known, or it is not what was sealed for this place.
    pub fn open(&self, place: Place<'_>, envelope: &str) -> Result<Vec<u8>, EnvelopeError> {
        let parts = Parts::of(place, envelope)?;
        let named = |key: &&MasterKey| key.id == parts.key;
        let key = self.0.iter().find(named).ok_or_else(|| EnvelopeError::Key { place: place.to_string(), key: parts.key.to_owned() })?;
        let (sealed, tag) = parts.sealed.split_at(parts.sealed.len() - TAG_LEN);
        let opened = decrypt_aead(Cipher::aes_256_gcm(), &key.key, Some(&parts.nonce), &context(&head(parts.key), place), sealed, tag);
        opened.map_err(|_| EnvelopeError::Forged { place: place.to_string(), key: parts.key.to_owned() })
    }

    /// [`MasterKeys::open`] for a secret that is text.
    ///
    /// # Errors
    /// As for [`MasterKeys::open`], and if it is no text.
    pub fn open_text(&self, place: Place<'_>, envelope: &str) -> Result<String, EnvelopeError> {
        String::from_utf8(self.open(place, envelope)?).map_err(|_| EnvelopeError::Malformed(place.to_string()))
    }
}

/// Whether a stored text is an envelope, of whatever format.
pub fn is_envelope(text: &str) -> bool {
    format_of(text).is_some()
}

/// The id of the master key that sealed an envelope, if it says so.
pub fn key_of(envelope: &str) -> Option<&str> {
    envelope.strip_prefix(FORMAT)?.split(':').nth(2)
}

/// Whether this may be the id of a master key.
pub(super) fn is_key_id(text: &str) -> bool {
    let good = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    good && (1..=ID_LEN_MAX).contains(&text.len())
}

struct Parts<'a> {
    key: &'a str,
    nonce: [u8; NONCE_LEN],
    sealed: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn of(place: Place<'_>, envelope: &'a str) -> Result<Self, EnvelopeError> {
        let malformed = || EnvelopeError::Malformed(place.to_string());
        let format = format_of(envelope).ok_or_else(|| EnvelopeError::Plain(place.to_string()))?;
        if format != FORMAT {
            return Err(EnvelopeError::Format { place: place.to_string(), format: format.to_owned() });
        }
        let mut rest = envelope.split(':').skip(1);
        let algorithm = rest.next().filter(|algorithm| is_key_id(algorithm)).ok_or_else(malformed)?;
        if algorithm != ALGORITHM {
            return Err(EnvelopeError::Algorithm { place: place.to_string(), algorithm: algorithm.to_owned() });
        }
        let key = rest.next().filter(|key| is_key_id(key)).ok_or_else(malformed)?;
        let mut bytes = || rest.next().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or_else(malformed);
        let (nonce, sealed) = (bytes()?.try_into().map_err(|_| malformed())?, bytes()?);
        if sealed.len() < TAG_LEN || rest.next().is_some() {
            return Err(malformed());
        }
        Ok(Self { key, nonce, sealed })
    }
}

/// The format that an envelope says it has: `hf` and a number, before the first colon.
fn format_of(text: &str) -> Option<&str> {
    let (format, _) = text.split_once(':')?;
    let number = format.strip_prefix("hf")?;
    ((1..=4).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(format)
}

fn head(key: &str) -> String {
    format!("{FORMAT}:{ALGORITHM}:{key}:")
}

/// What is authenticated with the ciphertext. Each part has its length before it, so that no two places say the same bytes.
fn context(head: &str, place: Place<'_>) -> Vec<u8> {
    let parts = [head, place.table, place.row, place.field];
    parts.into_iter().flat_map(|part| [&(part.len() as u64).to_be_bytes()[..], part.as_bytes()].concat()).collect()
}

#[cfg(test)]
mod tests;
