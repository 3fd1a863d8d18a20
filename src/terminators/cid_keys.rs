//! The keys of connection-id tags: primary data, because devices keep their ids for weeks.

use std::fs;
use std::io;
use std::path::Path;

use firmware_protocol::dtls::cid::{ConnectionIds, TagKey};
use firmware_protocol::entropy::Entropy;

use crate::durable;
use crate::entropy::SystemEntropy;

/// Reads the tag keys of `directory`. Makes them at the `first` start only: devices have ids that were made with those of a server that has
/// worked before, and new ones would make strangers of them. The server's own keys are there too, and opening them first has made
/// durable what an interrupted start left there. The file holds one or two keys of 32 bytes, the current one first.
pub fn load(directory: &Path, node: u16, first: bool) -> io::Result<ConnectionIds> {
    let path = directory.join("cid-keys");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if first && error.kind() == io::ErrorKind::NotFound => {
            let key: TagKey = SystemEntropy.array();
            durable::replace_file(&path, &key)?;
            key.to_vec()
        }
        Err(error) => {
            return Err(io::Error::new(error.kind(), format!("{}: {error}; it belongs to the sessions in the journal", path.display())));
        }
    };
    let keys: Vec<&TagKey> = bytes.as_chunks::<32>().0.iter().collect();
    match (&keys[..], bytes.len() % 32) {
        ([current], 0) => Ok(ConnectionIds::new(node, current, None)),
        ([current, previous], 0) => Ok(ConnectionIds::new(node, current, Some(previous))),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "cid-keys must hold one or two keys of 32 bytes")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use firmware_protocol::entropy::SeededEntropy;

    use super::*;

    #[test]
    fn the_form_of_the_file_keeps_being_read() {
        let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/keys");
        let ids = load(&golden, 1, false).unwrap();
        let (current, previous): (TagKey, TagKey) =
            (std::array::from_fn(|n| u8::try_from(n).unwrap() + 1), std::array::from_fn(|n| u8::try_from(n).unwrap() + 101));
        let made_by = |key: &TagKey| ConnectionIds::new(1, key, None).allocate(7, &mut SeededEntropy::new(1));
        assert!(ids.gave_out(made_by(&current)) && ids.gave_out(made_by(&previous)) && !ids.gave_out(made_by(&[9; 32])));
        assert_eq!(ids.allocate(7, &mut SeededEntropy::new(1)), made_by(&current));
    }

    #[test]
    fn keys_of_another_length_are_refused_and_missing_ones_made_only_at_the_first_start() {
        let directory = tempfile::tempdir().unwrap();
        assert!(load(directory.path(), 1, false).unwrap_err().to_string().contains("the sessions in the journal"));
        load(directory.path(), 1, true).unwrap();
        for length in [0, 31, 96] {
            fs::write(directory.path().join("cid-keys"), vec![1; length]).unwrap();
            assert_eq!(load(directory.path(), 1, true).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
