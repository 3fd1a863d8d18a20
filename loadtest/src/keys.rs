//! Ids and key pairs of simulated devices: made from a seed, the same every time, and written as the list that the server imports.

mod rsa;

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use firmware_protocol::crypto::{Curve, DeviceKeyPair, KeyPair, PublicKey, ServerPublicKey, digest64};
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::error::KeyError;
use firmware_protocol::id::DeviceId;
use openssl::pkey::PKey;

/// Most devices in one list.
pub const DEVICES_MAX: u32 = 1_000_000;
/// First bytes of the ids of simulated devices on UDP.
const ID_PREFIX: [u8; 4] = [0xe0, 0x0f, 0xce, 0x68];
/// The same of those on TCP.
const TCP_ID_PREFIX: [u8; 4] = [0x2a, 0x00, 0x3d, 0x00];
const PUBLIC_HEADER: &str = "device_id,public_key";
const PRIVATE_HEADER: &str = "device_id,private_key";

/// One simulated device's identity: on UDP, unless said otherwise.
#[derive(Clone, Debug)]
pub struct DeviceKey<Pair = KeyPair> {
    /// Its id.
    pub id: DeviceId,
    /// Its key pair.
    pub pair: Pair,
}

/// The identity of one on TCP.
pub type TcpDeviceKey = DeviceKey<DeviceKeyPair>;

/// The identities of a fleet.
#[derive(Clone, Default, Debug)]
pub struct DeviceKeys {
    /// Of devices on UDP.
    pub udp: Vec<DeviceKey>,
    /// Of devices on TCP.
    pub tcp: Vec<TcpDeviceKey>,
}

impl DeviceKeys {
    /// The first identities of `seed`: so many devices on UDP, and so many on TCP.
    pub fn derive(udp: u32, tcp: u32, seed: u64) -> Result<Self> {
        let wanted = udp.saturating_add(tcp);
        ensure!((1..=DEVICES_MAX).contains(&wanted), "the number of devices goes from 1 to {DEVICES_MAX}");
        let (mut curve, mut pairs) = (Curve::new()?, rsa::Pairs::new(digest64(&seed.to_be_bytes()))?);
        let udp = (0..udp).map(|index| derive_one(&mut curve, seed, index)).collect::<Result<_>>()?;
        let tcp = (0..tcp).map(|index| Ok(DeviceKey { id: id(TCP_ID_PREFIX, seed, index), pair: pairs.pair()? })).collect::<Result<_>>()?;
        Ok(Self { udp, tcp })
    }

    /// How many devices there are.
    pub fn len(&self) -> usize {
        self.udp.len() + self.tcp.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn derive_one(curve: &mut Curve, seed: u64, index: u32) -> Result<DeviceKey> {
    let mut own = [0; 12];
    own[..8].copy_from_slice(&seed.to_be_bytes());
    own[8..].copy_from_slice(&index.to_be_bytes());
    let pair = KeyPair::generate(curve, &mut SeededEntropy::new(digest64(&own)))?;
    Ok(DeviceKey { id: id(ID_PREFIX, seed, index), pair })
}

fn id(prefix: [u8; 4], seed: u64, index: u32) -> DeviceId {
    let mut id = [0; DeviceId::LEN];
    id[..4].copy_from_slice(&prefix);
    id[4..8].copy_from_slice(&digest64(&seed.to_be_bytes()).to_be_bytes()[..4]);
    id[8..].copy_from_slice(&index.to_be_bytes());
    DeviceId(id)
}

/// Where the private keys belonging to the list `public` are kept: `keys.csv` and `keys.private.csv`.
pub fn private_path(public: &Path) -> PathBuf {
    public.with_extension("private.csv")
}

/// Writes the list that the server imports: ids and SubjectPublicKeyInfo, both in hex.
pub fn write_public(path: &Path, keys: &DeviceKeys) -> Result<()> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let udp = keys.udp.iter().map(|key| Ok((key.id, key.pair.public().spki().to_vec())));
    let tcp = keys.tcp.iter().map(|key| Ok((key.id, key.pair.public().spki().to_vec())));
    write_lines(file, PUBLIC_HEADER, udp.chain(tcp))
}

/// Writes ids and PKCS#8 private keys, both in hex, to a file that only its owner can read.
pub fn write_private(path: &Path, keys: &DeviceKeys) -> Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("creating {}", path.display()))?;
    let der = |id, pem: Result<Vec<u8>, KeyError>| Ok((id, PKey::private_key_from_pem(&pem?)?.private_key_to_pkcs8()?));
    let udp = keys.udp.iter().map(|key| der(key.id, key.pair.to_pem()));
    let tcp = keys.tcp.iter().map(|key| der(key.id, key.pair.to_pem()));
    write_lines(file, PRIVATE_HEADER, udp.chain(tcp))
}

fn write_lines(file: File, header: &str, lines: impl Iterator<Item = Result<(DeviceId, Vec<u8>)>>) -> Result<()> {
    let mut out = BufWriter::new(file);
    writeln!(out, "{header}")?;
    for line in lines {
        let (id, key) = line?;
        writeln!(out, "{id},{}", hex::encode(key))?;
    }
    Ok(out.flush()?)
}

/// Reads what [`write_private`] wrote: the first devices of each kind in it.
pub fn read_private(path: &Path, udp: u32, tcp: u32) -> Result<DeviceKeys> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut lines = BufReader::new(file).lines();
    let header = lines.next().transpose()?.unwrap_or_default();
    ensure!(header.trim() == PRIVATE_HEADER, "{} does not begin with \"{PRIVATE_HEADER}\"", path.display());
    let (mut keys, udp, tcp) = (DeviceKeys::default(), udp as usize, tcp as usize);
    for (number, line) in lines.enumerate() {
        if keys.len() == udp + tcp {
            break;
        }
        private_line(&line?, &mut keys).with_context(|| format!("{}, line {}", path.display(), number + 2))?;
        keys.udp.truncate(udp);
        keys.tcp.truncate(tcp);
    }
    let found = (keys.udp.len(), keys.tcp.len());
    ensure!(found == (udp, tcp), "{} holds {} devices on UDP and {} on TCP, {udp} and {tcp} are wanted", path.display(), found.0, found.1);
    Ok(keys)
}

/// The kind of the key says on what the device is.
fn private_line(line: &str, keys: &mut DeviceKeys) -> Result<()> {
    let (id, key) = line.trim().split_once(',').context("not two columns")?;
    let (id, der) = (id.parse()?, hex::decode(key)?);
    match KeyPair::from_der(&der) {
        Ok(pair) => keys.udp.push(DeviceKey { id, pair }),
        Err(_) => keys.tcp.push(DeviceKey { id, pair: DeviceKeyPair::from_der(&der)? }),
    }
    Ok(())
}

/// Reads a server's public key for devices on UDP: SubjectPublicKeyInfo, DER or PEM.
pub fn read_server_key(path: &Path) -> Result<PublicKey> {
    read_spki(path, PublicKey::from_spki, PublicKey::from_pem).with_context(|| format!("{} is no P-256 public key", path.display()))
}

/// The same for devices on TCP.
pub fn read_tcp_server_key(path: &Path) -> Result<ServerPublicKey> {
    read_spki(path, ServerPublicKey::from_spki, ServerPublicKey::from_pem)
        .with_context(|| format!("{} is no RSA-2048 public key", path.display()))
}

fn read_spki<K>(path: &Path, der: fn(&[u8]) -> Option<K>, pem: fn(&[u8]) -> Result<K, KeyError>) -> Result<K> {
    let bytes = std::fs::read(path)?;
    match der(&bytes) {
        Some(key) => Ok(key),
        None => Ok(pem(&bytes)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firmware_protocol::crypto::ServerKeyPair;
    use openssl::ec::EcKey;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_names_the_same_devices_every_time() -> Result<()> {
        let names = |keys: &DeviceKeys| -> Vec<(DeviceId, Vec<u8>)> {
            let udp = keys.udp.iter().map(|key| (key.id, key.pair.public().spki().to_vec()));
            udp.chain(keys.tcp.iter().map(|key| (key.id, key.pair.public().spki().to_vec()))).collect()
        };
        let (few, many, others) = (DeviceKeys::derive(2, 3, 7)?, DeviceKeys::derive(5, 4, 7)?, DeviceKeys::derive(2, 3, 8)?);
        let (few, many, others) = (names(&few), names(&many), names(&others));
        assert!(few.iter().all(|name| many.contains(name)), "the same devices, however many there are");
        assert!(few.iter().all(|(id, key)| others.iter().all(|other| (&other.0, &other.1) != (id, key) && other.1 != *key)));
        assert_eq!(many.iter().map(|(id, _)| id).collect::<BTreeSet<_>>().len(), 9);
        assert_eq!(many.iter().map(|(_, key)| key).collect::<BTreeSet<_>>().len(), 9);
        assert!(DeviceKeys::derive(0, 0, 7).is_err() && DeviceKeys::derive(DEVICES_MAX, 1, 7).is_err());
        Ok(())
    }

    #[test]
    fn the_list_is_what_a_server_imports() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (path, keys) = (dir.path().join("keys.csv"), DeviceKeys::derive(3, 2, 1)?);
        write_public(&path, &keys)?;
        let text = std::fs::read_to_string(&path)?;
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[0], "device_id,public_key");
        let columns = |line: &str| -> Result<(DeviceId, Vec<u8>)> {
            let (id, spki) = line.split_once(',').context("two columns")?;
            Ok((id.parse()?, hex::decode(spki)?))
        };
        for (line, key) in lines[1..4].iter().zip(&keys.udp) {
            assert_eq!(columns(line)?, (key.id, key.pair.public().spki().to_vec()));
        }
        for (line, key) in lines[4..].iter().zip(&keys.tcp) {
            assert_eq!(columns(line)?, (key.id, key.pair.public().spki().to_vec()));
        }
        Ok(())
    }

    #[test]
    fn private_keys_come_back_and_nobody_else_reads_them() -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir()?;
        let path = private_path(&dir.path().join("keys.csv"));
        assert_eq!(path.file_name().and_then(|name| name.to_str()), Some("keys.private.csv"));
        let keys = DeviceKeys::derive(3, 2, 1)?;
        write_private(&path, &keys)?;
        assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        let back = read_private(&path, 3, 2)?;
        assert!(back.udp.iter().zip(&keys.udp).all(|(a, b)| a.id == b.id && a.pair.public() == b.pair.public()));
        assert!(back.tcp.iter().zip(&keys.tcp).all(|(a, b)| a.id == b.id && a.pair.public() == b.pair.public()));
        assert_eq!((back.len(), read_private(&path, 0, 1)?.len(), read_private(&path, 2, 0)?.len()), (5, 1, 2));
        assert!(read_private(&path, 4, 0).is_err() && read_private(&path, 1, 3).is_err(), "only three and two are there");
        std::fs::write(&path, "device_id,public_key\n")?;
        assert!(read_private(&path, 1, 0).is_err(), "the other file");
        Ok(())
    }

    #[test]
    fn a_server_key_is_der_or_pem() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (path, keys) = (dir.path().join("key"), DeviceKeys::derive(1, 0, 3)?);
        let (key, tcp_key) = (*keys.udp[0].pair.public(), *ServerKeyPair::generate()?.public());
        std::fs::write(&path, key.spki())?;
        assert_eq!(read_server_key(&path)?, key);
        assert!(read_tcp_server_key(&path).is_err(), "the other kind");
        std::fs::write(&path, EcKey::public_key_from_der(key.spki())?.public_key_to_pem()?)?;
        assert_eq!(read_server_key(&path)?, key);
        std::fs::write(&path, tcp_key.spki())?;
        assert_eq!(read_tcp_server_key(&path)?, tcp_key);
        std::fs::write(&path, "something else")?;
        assert!(read_server_key(&path).is_err() && read_tcp_server_key(&path).is_err());
        Ok(())
    }
}
