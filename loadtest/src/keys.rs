//! Ids and key pairs of simulated devices: made from a seed, the same every time, and written as the list that the server imports.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use firmware_protocol::crypto::{Curve, KeyPair, PublicKey, digest64};
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::id::DeviceId;
use openssl::pkey::PKey;

/// Most devices in one list.
pub const DEVICES_MAX: u32 = 1_000_000;
/// First bytes of every simulated device's id.
const ID_PREFIX: [u8; 4] = [0xe0, 0x0f, 0xce, 0x68];
const PUBLIC_HEADER: &str = "device_id,public_key";
const PRIVATE_HEADER: &str = "device_id,private_key";

/// One simulated device's identity.
#[derive(Clone, Debug)]
pub struct DeviceKey {
    /// Its id.
    pub id: DeviceId,
    /// Its key pair.
    pub pair: KeyPair,
}

/// The first `devices` identities of `seed`.
pub fn derive(devices: u32, seed: u64) -> Result<Vec<DeviceKey>> {
    ensure!((1..=DEVICES_MAX).contains(&devices), "the number of devices goes from 1 to {DEVICES_MAX}");
    let mut curve = Curve::new()?;
    (0..devices).map(|index| derive_one(&mut curve, seed, index)).collect()
}

fn derive_one(curve: &mut Curve, seed: u64, index: u32) -> Result<DeviceKey> {
    let (mut own, mut id) = ([0; 12], [0; DeviceId::LEN]);
    own[..8].copy_from_slice(&seed.to_be_bytes());
    own[8..].copy_from_slice(&index.to_be_bytes());
    id[..4].copy_from_slice(&ID_PREFIX);
    id[4..8].copy_from_slice(&digest64(&seed.to_be_bytes()).to_be_bytes()[..4]);
    id[8..].copy_from_slice(&index.to_be_bytes());
    let pair = KeyPair::generate(curve, &mut SeededEntropy::new(digest64(&own)))?;
    Ok(DeviceKey { id: DeviceId(id), pair })
}

/// Where the private keys belonging to the list `public` are kept: `keys.csv` and `keys.private.csv`.
pub fn private_path(public: &Path) -> PathBuf {
    public.with_extension("private.csv")
}

/// Writes the list that the server imports: ids and SubjectPublicKeyInfo, both in hex.
pub fn write_public(path: &Path, keys: &[DeviceKey]) -> Result<()> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    write_lines(file, PUBLIC_HEADER, keys, |key| Ok(hex::encode(key.pair.public().spki())))
}

/// Writes ids and PKCS#8 private keys, both in hex, to a file that only its owner can read.
pub fn write_private(path: &Path, keys: &[DeviceKey]) -> Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("creating {}", path.display()))?;
    write_lines(file, PRIVATE_HEADER, keys, |key| Ok(hex::encode(PKey::private_key_from_pem(&key.pair.to_pem()?)?.private_key_to_pkcs8()?)))
}

fn write_lines(file: File, header: &str, keys: &[DeviceKey], key_in_hex: impl Fn(&DeviceKey) -> Result<String>) -> Result<()> {
    let mut out = BufWriter::new(file);
    writeln!(out, "{header}")?;
    for key in keys {
        writeln!(out, "{},{}", key.id, key_in_hex(key)?)?;
    }
    Ok(out.flush()?)
}

/// Reads what [`write_private`] wrote: the first `devices` of it.
pub fn read_private(path: &Path, devices: u32) -> Result<Vec<DeviceKey>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut lines = BufReader::new(file).lines();
    let header = lines.next().transpose()?.unwrap_or_default();
    ensure!(header.trim() == PRIVATE_HEADER, "{} does not begin with \"{PRIVATE_HEADER}\"", path.display());
    let mut keys = Vec::new();
    for (number, line) in lines.take(devices as usize).enumerate() {
        keys.push(private_line(&line?).with_context(|| format!("{}, line {}", path.display(), number + 2))?);
    }
    ensure!(keys.len() == devices as usize, "{} holds {} devices, {devices} are wanted", path.display(), keys.len());
    Ok(keys)
}

fn private_line(line: &str) -> Result<DeviceKey> {
    let (id, key) = line.trim().split_once(',').context("not two columns")?;
    Ok(DeviceKey { id: id.parse()?, pair: KeyPair::from_der(&hex::decode(key)?)? })
}

/// Reads a server's public key: SubjectPublicKeyInfo, DER or PEM.
pub fn read_server_key(path: &Path) -> Result<PublicKey> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    match PublicKey::from_spki(&bytes) {
        Some(key) => Ok(key),
        None if bytes.starts_with(b"-----BEGIN") => Ok(PublicKey::from_pem(&bytes)?),
        None => bail!("{} is no P-256 public key in DER or PEM", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::ec::EcKey;

    #[test]
    fn a_seed_names_the_same_devices_every_time() -> Result<()> {
        let (few, many, others) = (derive(2, 7)?, derive(5, 7)?, derive(2, 8)?);
        for (a, b) in few.iter().zip(&many) {
            assert_eq!((a.id, a.pair.public()), (b.id, b.pair.public()));
        }
        assert!(few[0].pair.public() != few[1].pair.public() && few[0].pair.public() != others[0].pair.public());
        assert!(few[0].id != few[1].id && few[0].id != others[0].id);
        assert!(derive(0, 7).is_err() && derive(DEVICES_MAX + 1, 7).is_err());
        Ok(())
    }

    #[test]
    fn the_list_is_what_a_server_imports() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (path, keys) = (dir.path().join("keys.csv"), derive(3, 1)?);
        write_public(&path, &keys)?;
        let text = std::fs::read_to_string(&path)?;
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0], "device_id,public_key");
        for (line, key) in lines[1..].iter().zip(&keys) {
            let (id, spki) = line.split_once(',').context("two columns")?;
            assert_eq!(id.parse::<DeviceId>()?, key.id);
            assert_eq!(PublicKey::from_spki(&hex::decode(spki)?).as_ref(), Some(key.pair.public()));
        }
        Ok(())
    }

    #[test]
    fn private_keys_come_back_and_nobody_else_reads_them() -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir()?;
        let path = private_path(&dir.path().join("keys.csv"));
        assert_eq!(path.file_name().and_then(|name| name.to_str()), Some("keys.private.csv"));
        let keys = derive(3, 1)?;
        write_private(&path, &keys)?;
        assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        let back = read_private(&path, 3)?;
        assert!(back.iter().zip(&keys).all(|(a, b)| a.id == b.id && a.pair.public() == b.pair.public()));
        assert_eq!(read_private(&path, 2)?.len(), 2);
        assert!(read_private(&path, 4).is_err(), "only three are there");
        std::fs::write(&path, "device_id,public_key\n")?;
        assert!(read_private(&path, 1).is_err(), "the other file");
        Ok(())
    }

    #[test]
    fn a_server_key_is_der_or_pem() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (path, key) = (dir.path().join("key"), *derive(1, 3)?[0].pair.public());
        std::fs::write(&path, key.spki())?;
        assert_eq!(read_server_key(&path)?, key);
        std::fs::write(&path, EcKey::public_key_from_der(key.spki())?.public_key_to_pem()?)?;
        assert_eq!(read_server_key(&path)?, key);
        std::fs::write(&path, "something else")?;
        assert!(read_server_key(&path).is_err());
        Ok(())
    }
}
