//! Access tokens: the text a caller holds, the hash we keep, and the memory requests are checked against.

use std::fmt;
use std::sync::Arc;

use firmware_protocol::id::OwnerId;
use firmware_protocol::time::UnixMillis;
use openssl::error::ErrorStack;
use openssl::rand::rand_bytes;
use openssl::sha::sha256;

use super::digest_map::{Digest, DigestMap};
use super::{Holder, Scopes};

/// Bits of a token that nobody can guess.
const TOKEN_BYTES: usize = 20;
/// Longest text that is looked up at all.
const TOKEN_LEN_MAX: usize = 128;

/// A token as its holder has it: 40 hex digits. It can be handed out on purpose, and cannot slip into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText(String);

impl TokenText {
    /// A new one.
    ///
    /// # Errors
    /// OpenSSL has no randomness.
    pub fn random() -> Result<Self, ErrorStack> {
        let mut bytes = [0; TOKEN_BYTES];
        rand_bytes(&mut bytes)?;
        Ok(Self(hex::encode(bytes)))
    }

    /// The text, for handing it to its holder.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Its hash.
    pub fn hash(&self) -> TokenHash {
        TokenHash(sha256(self.0.as_bytes()))
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(..)")
    }
}

/// SHA-256 of a token's text: what the registry keeps and memory is searched by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// The hash of what a caller sent, unless that is too long to be a token.
    pub fn of(text: &str) -> Option<Self> {
        (text.len() <= TOKEN_LEN_MAX).then(|| Self(sha256(text.as_bytes())))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// What holding a token means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenRecord {
    /// Its public name, by which it can be listed and revoked.
    pub id: String,
    /// The account behind it: that of its holder or, if that is a program of a product, the product's owner. What the token reaches is what the holder says.
    pub user: OwnerId,
    /// Who holds it.
    pub holder: Holder,
    /// The program that asked for it.
    pub client: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// When it ends; `None` is never.
    pub expires_at: Option<UnixMillis>,
}

impl TokenRecord {
    /// Whether its time is over.
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// All tokens, in memory. The registry fills it at the start and writes to it after its database.
#[derive(Default)]
pub struct TokenCache {
    records: DigestMap<(Digest, Arc<TokenRecord>)>,
}

impl TokenCache {
    /// What is known about a token, expired or not. Never waits.
    pub fn find(&self, hash: &TokenHash) -> Option<Arc<TokenRecord>> {
        self.records.find(&hash.0, |(_, record)| Arc::clone(record))
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn fill(&self, records: impl IntoIterator<Item = (TokenHash, TokenRecord)>) {
        self.records.insert_all(records.into_iter().map(|(hash, record)| (hash.0, Arc::new(record))).collect());
    }

    pub(super) fn insert(&self, hash: TokenHash, record: TokenRecord) {
        self.records.insert((hash.0, Arc::new(record)));
    }

    pub(super) fn remove(&self, hash: &TokenHash) {
        self.records.remove(&hash.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_forty_digits_and_never_shown() {
        let token = TokenText::random().expect("there is randomness");
        assert_eq!(token.reveal().len(), 40);
        assert!(token.reveal().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(token, TokenText::random().expect("there is randomness"));
        assert!(!format!("{token:?} {:?}", token.hash()).contains(&token.reveal()[..8]));
    }

    #[test]
    fn a_text_hashes_like_its_token() {
        let token = TokenText::random().expect("there is randomness");
        assert_eq!(TokenHash::of(token.reveal()), Some(token.hash()));
        assert_eq!(TokenHash::of(&"a".repeat(129)), None);
    }

    #[test]
    fn a_token_without_an_end_never_expires() {
        let (user, client) = (OwnerId(1), "particle".into());
        let mut record = TokenRecord { id: "a".into(), user, holder: Holder::User(user), client, scopes: Scopes::All, expires_at: None };
        assert!(!record.is_expired(UnixMillis(u64::MAX)));
        record.expires_at = Some(UnixMillis(10));
        assert!(!record.is_expired(UnixMillis(9)));
        assert!(record.is_expired(UnixMillis(10)));
    }
}
