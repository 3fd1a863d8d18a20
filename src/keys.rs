//! The server's own key pairs, one for devices on UDP and one for devices on TCP; every device carries the public half of one of them.
//!
//! They are made on the very first start and never again: a server with another key is a stranger to all its devices. So whoever finds a
//! registry or a journal without the keys stops, instead of making new ones.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use firmware_protocol::crypto::{KeyPair, ServerKeyPair};
use firmware_protocol::error::KeyError;
use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::ec::{Asn1Flag, EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use thiserror::Error;

use crate::changes::{self, What};
use crate::data_dir::{DataDir, keys_dir};
use crate::dates;
use crate::durable::{create_directory, replace_file, sync_directory, sync_name};

/// Name of the file with the pair for devices on UDP.
pub const EC_FILE: &str = "server-ec.pem";
/// Name of the file with the pair for devices on TCP.
pub const RSA_FILE: &str = "server-rsa.pem";

const PRIVATE_DIR_MODE: u32 = 0o700;
/// Devices on TCP read exactly 256 bytes of signature.
const RSA_BITS: u32 = 2048;

/// The server's key pairs.
pub struct ServerKeys {
    ec: KeyPair,
    rsa: ServerKeyPair,
}

/// How devices reach the server, which decides what key they carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// DTLS: P-256.
    Udp,
    /// RSA with 2048 bits.
    Tcp,
}

/// Why there are no keys to serve with.
#[derive(Debug, Error)]
pub enum KeysError {
    /// Devices know a key that is not here.
    #[error(
        "the server's key {path} is missing, but this data directory has been in use. Devices trust only that key, so no new one is made. \
         Put the file back from a backup. If it is lost for good, start with an empty data directory and give every device the new key \
         with `particle keys server`", path = path.display()
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Others could read the private key.
    #[error("the server's key {path} can be read by others (mode {mode:o}); make it private: chmod 600 {path}", path = path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is there and is no key.
    #[error("the server's key {path} is not {wanted} in PEM form; put the right file back from a backup", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// A file or directory cannot be read or written.
    #[error("cannot read or write the server's key {path}: {source}", path = path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// OpenSSL could not make or encode a key.
    #[error(transparent)]
    OpenSsl(#[from] ErrorStack),
    /// The protocol's side does not take the key.
    #[error(transparent)]
    Pair(#[from] KeyError),
}

impl ServerKeys {
    /// The keys in `data`; on the very first start new ones, durable before they are used.
    ///
    /// # Errors
    /// They are missing although the directory has been in use, readable by others, damaged, or cannot be read or written.
    pub fn open(data: &DataDir) -> Result<Self, KeysError> {
        if !data.has_history() && mint_missing(&data.keys_dir())? {
            note(data.path());
        }
        let keys = Self::read_in(data.path())?;
        // Whoever made what is in there may have been killed before coming to the sync of its name; that goes for the other keys too.
        sync_directory(&data.keys_dir()).map_err(|source| KeysError::Io { path: data.keys_dir(), source })?;
        Ok(keys)
    }

    /// The keys in the data directory at `path`, whoever works there. Makes none.
    ///
    /// # Errors
    /// They are missing, readable by others, damaged, or cannot be read.
    pub fn read_in(path: &Path) -> Result<Self, KeysError> {
        let directory = keys_dir(path);
        Ok(Self { ec: read_ec(&directory.join(EC_FILE))?, rsa: read_rsa(&directory.join(RSA_FILE))? })
    }

    /// The pair for devices on UDP, on P-256.
    pub fn ec(&self) -> &KeyPair {
        &self.ec
    }

    /// The pair for devices on TCP, RSA with 2048 bits.
    pub fn rsa(&self) -> &ServerKeyPair {
        &self.rsa
    }

    /// The public half as `particle keys server` wants it: SubjectPublicKeyInfo in DER, 91 bytes for UDP and 294 for TCP.
    pub fn public_der(&self, transport: Transport) -> &[u8] {
        match transport {
            Transport::Udp => self.ec.public().spki(),
            Transport::Tcp => self.rsa.public().spki(),
        }
    }

    /// The public half in PEM.
    ///
    /// # Errors
    /// OpenSSL cannot encode it.
    pub fn public_pem(&self, transport: Transport) -> Result<Vec<u8>, KeysError> {
        Ok(PKey::public_key_from_der(self.public_der(transport))?.public_key_to_pem()?)
    }
}

fn p256() -> Result<EcGroup, ErrorStack> {
    let mut group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    group.set_asn1_flag(Asn1Flag::NAMED_CURVE);
    Ok(group)
}

fn read_ec(path: &Path) -> Result<KeyPair, KeysError> {
    let damaged = || KeysError::Damaged { path: path.to_owned(), wanted: "a private key on P-256" };
    let pair = read_private(path)?.and_then(|pair| pair.ec_key().ok()).ok_or_else(damaged)?;
    if pair.group().curve_name() != Some(Nid::X9_62_PRIME256V1) || pair.check_key().is_err() {
        return Err(damaged());
    }
    // Over a group of our own, so that the public half is always encoded the same way.
    let pair = EcKey::from_private_components(&*p256()?, pair.private_key(), pair.public_key())?;
    Ok(KeyPair::from_der(&pair.private_key_to_der()?)?)
}

fn read_rsa(path: &Path) -> Result<ServerKeyPair, KeysError> {
    let damaged = || KeysError::Damaged { path: path.to_owned(), wanted: "a private RSA key of 2048 bits" };
    let pair = read_private(path)?.and_then(|pair| pair.rsa().ok()).ok_or_else(damaged)?;
    if pair.size() * 8 != RSA_BITS || !is_consistent(&pair)?.unwrap_or(false) {
        return Err(damaged());
    }
    Ok(ServerKeyPair::from_der(&pair.private_key_to_der()?)?)
}

/// Whether all numbers of a private key fit each other, so that none of them is damaged; `None` if some are missing. That the primes are
/// primes was tested when they were drawn: testing it again would cost each start a twentieth of a second.
fn is_consistent(pair: &Rsa<Private>) -> Result<Option<bool>, ErrorStack> {
    let factors = pair.p().zip(pair.q()).zip(pair.dmp1().zip(pair.dmq1())).zip(pair.iqmp());
    let Some((((p, q), (dp, dq)), inverse)) = factors else { return Ok(None) };
    let (mut context, one) = (BigNumContext::new()?, BigNum::from_u32(1)?);
    let mut product = BigNum::new()?;
    product.checked_mul(p, q, &mut context)?;
    if &*product != pair.n() || p <= &one || q <= &one {
        return Ok(Some(false));
    }
    let mut is_one = |a: &BigNumRef, b: &BigNumRef, modulus: &BigNumRef| -> Result<bool, ErrorStack> {
        let mut product = BigNum::new()?;
        product.mod_mul(a, b, modulus, &mut context)?;
        Ok(product == one)
    };
    let (below_p, below_q) = (p - &one, q - &one);
    let mut fits = is_one(q, inverse, p)?;
    for (exponent, modulus) in [(pair.d(), &below_p), (pair.d(), &below_q), (dp, &below_p), (dq, &below_q)] {
        fits = fits && is_one(pair.e(), exponent, modulus)?;
    }
    Ok(Some(fits))
}

/// The key in a file that nobody else can read; `None` if it is no key.
fn read_private(path: &Path) -> Result<Option<PKey<Private>>, KeysError> {
    let io = |source| KeysError::Io { path: path.to_owned(), source };
    let pem = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(KeysError::Missing { path: path.to_owned() }),
        read => read.map_err(io)?,
    };
    let mode = fs::metadata(path).map_err(io)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeysError::Exposed { path: path.to_owned(), mode });
    }
    Ok(PKey::private_key_from_pem(&pem).ok())
}

/// Whoever looks why devices do not know this server shall find it. The keys are good without.
fn note(data: &Path) {
    if let Err(error) = changes::note_in(data, dates::now(), What::KeysMade) {
        tracing::warn!(%error, "that keys were made is not in the register of changes");
    }
}

/// Makes the pairs that are not there: a first start may have been killed between the two. Whether one was made.
fn mint_missing(directory: &Path) -> Result<bool, KeysError> {
    let io = |source| KeysError::Io { path: directory.to_owned(), source };
    if !create_directory(directory, PRIVATE_DIR_MODE).map_err(io)? {
        sync_name(directory).map_err(io)?;
    }
    let ec: Mint = || PKey::from_ec_key(EcKey::generate(&*p256()?)?);
    let rsa: Mint = || PKey::from_rsa(Rsa::generate(RSA_BITS)?);
    let mut made = false;
    for (name, mint) in [(EC_FILE, ec), (RSA_FILE, rsa)] {
        let path = directory.join(name);
        if !path.exists() {
            made = true;
            replace_file(&path, &mint()?.private_key_to_pem_pkcs8()?).map_err(|source| KeysError::Io { path, source })?;
        }
    }
    Ok(made)
}

type Mint = fn() -> Result<PKey<Private>, ErrorStack>;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn data() -> (TempDir, DataDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let data = DataDir::lock(directory.path()).expect("it is free");
        (directory, data)
    }

    fn public(data: &DataDir) -> Vec<u8> {
        ServerKeys::open(data).expect("keys").public_der(Transport::Udp).to_vec()
    }

    #[test]
    fn the_first_start_makes_a_private_key_and_later_ones_find_it() {
        let (_directory, data) = data();
        let first = public(&data);
        assert_eq!(first.len(), 91);
        fs::write(data.registry_file(), "").expect("written");
        assert_eq!(public(&data), first);
        let file = data.keys_dir().join(EC_FILE);
        assert_eq!(fs::metadata(file).expect("metadata").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(data.keys_dir()).expect("metadata").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn both_exports_are_the_same_key() {
        let (_directory, data) = data();
        let keys = ServerKeys::open(&data).expect("keys");
        for (transport, len) in [(Transport::Udp, 91), (Transport::Tcp, 294)] {
            let pem = PKey::public_key_from_pem(&keys.public_pem(transport).expect("PEM")).expect("a key");
            let der = keys.public_der(transport);
            assert_eq!((&pem.public_key_to_der().expect("DER")[..], der.len()), (der, len));
        }
    }

    #[test]
    fn no_new_key_is_made_beside_a_registry() {
        let (_directory, data) = data();
        public(&data);
        fs::write(data.registry_file(), "").expect("written");
        fs::remove_dir_all(data.keys_dir()).expect("removed");
        let error = ServerKeys::open(&data).err().expect("the key is missing");
        assert!(matches!(error, KeysError::Missing { .. }));
        assert!(error.to_string().contains("backup"));
        assert!(!data.keys_dir().exists());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (_directory, data) = data();
        public(&data);
        let file = data.keys_dir().join(EC_FILE);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("changed");
        assert!(matches!(ServerKeys::open(&data), Err(KeysError::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn a_first_start_that_was_killed_half_way_goes_on() {
        let (_directory, data) = data();
        let first = public(&data);
        fs::remove_file(data.keys_dir().join(RSA_FILE)).expect("removed");
        assert_eq!(public(&data), first);
        fs::write(data.registry_file(), "").expect("written");
        fs::remove_file(data.keys_dir().join(RSA_FILE)).expect("removed");
        assert!(matches!(ServerKeys::open(&data), Err(KeysError::Missing { path }) if path.ends_with(RSA_FILE)));
    }

    #[test]
    fn the_form_of_the_files_keeps_being_read() {
        let (_directory, data) = data();
        create_directory(&data.keys_dir(), PRIVATE_DIR_MODE).expect("created");
        for name in [EC_FILE, RSA_FILE] {
            let golden = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/keys").join(name)).expect("read");
            replace_file(&data.keys_dir().join(name), &golden).expect("written");
        }
        let keys = ServerKeys::read_in(data.path()).expect("keys");
        let digest = |transport| hex::encode(openssl::sha::sha256(keys.public_der(transport)));
        assert_eq!(digest(Transport::Udp), "49be22cbebb410dabbe138327ddde8be96b6142769190f0b36fd99171e88ed86");
        assert_eq!(digest(Transport::Tcp), "3c3c3cd85141d7968e6f5460841669ab4bb6c4a236eb18329ee4de8b4bee53e3");
    }

    #[test]
    fn an_rsa_key_of_another_length_is_refused() {
        let (_directory, data) = data();
        public(&data);
        let short = PKey::from_rsa(Rsa::generate(1024).expect("a key")).and_then(|key| key.private_key_to_pem_pkcs8()).expect("PEM");
        replace_file(&data.keys_dir().join(RSA_FILE), &short).expect("written");
        assert!(matches!(ServerKeys::open(&data), Err(KeysError::Damaged { .. })));
    }

    #[test]
    fn an_rsa_key_is_refused_if_one_of_its_numbers_does_not_fit_the_others() {
        let pair = Rsa::generate(RSA_BITS).expect("a key");
        let own = [Some(pair.n()), Some(pair.e()), Some(pair.d()), pair.p(), pair.q(), pair.dmp1(), pair.dmq1(), pair.iqmp()];
        let copy = |altered: Option<usize>| {
            let numbers = own.iter().enumerate().map(|(at, number)| {
                let mut number = number.expect("drawn keys have all").to_owned().expect("a copy");
                number.add_word(if altered == Some(at) { 2 } else { 0 }).expect("a sum");
                number
            });
            let [n, e, d, p, q, dp, dq, inverse] = numbers.collect::<Vec<_>>().try_into().expect("eight");
            let pair = Rsa::from_private_components(n, e, d, p, q, dp, dq, inverse).expect("numbers");
            is_consistent(&pair).expect("calculated")
        };
        assert_eq!(copy(None), Some(true));
        (0..own.len()).for_each(|at| assert_eq!(copy(Some(at)), Some(false), "number {at}"));
    }

    #[test]
    fn what_is_no_key_is_not_replaced() {
        let (_directory, data) = data();
        public(&data);
        let file = data.keys_dir().join(EC_FILE);
        let other = EcGroup::from_curve_name(Nid::SECP384R1).and_then(|group| EcKey::generate(&group)).expect("a key");
        for content in [b"".to_vec(), b"nonsense".to_vec(), other.private_key_to_pem().expect("PEM")] {
            fs::write(&file, &content).expect("written");
            assert!(matches!(ServerKeys::open(&data), Err(KeysError::Damaged { .. })));
            assert_eq!(fs::read(&file).expect("read"), content);
        }
    }

    #[test]
    fn a_key_with_spelled_out_parameters_is_exported_like_any_other() {
        let (_directory, data) = data();
        let first = public(&data);
        let file = data.keys_dir().join(EC_FILE);
        let sec1 = PKey::private_key_from_pem(&fs::read(&file).expect("read")).and_then(|pair| pair.ec_key()).expect("a key");
        replace_file(&file, &sec1.private_key_to_pem().expect("PEM")).expect("written");
        assert_eq!(public(&data), first);
    }
}
