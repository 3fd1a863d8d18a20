//! Processor time to seal a record for a device and to open one of a device.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, Result};
use firmware_protocol::crypto::{Aead, TAG_LEN};
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::dtls::keys::DirectionKeys;
use firmware_protocol::dtls::record::{Record, content, write_sealed};
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;

use super::{RUNS, Run, thread_cpu};
use crate::report::Measure;

/// A small publish, and what is sent of one.
const MESSAGE: [u8; 64] = [0x40; 64];
/// What a record with a connection id holds: message, type, zeros up to a multiple of 16.
const PADDED: [u8; 80] = [0x40; 80];
const KEYS: DirectionKeys = DirectionKeys { key: [7; 16], iv: [7; 4] };
const NONCE: [u8; 12] = [7; 12];
/// Additional data of a record without and with a connection id (RFC 5246, draft-05).
const AAD: [u8; 13] = [7; 13];
const AAD_WITH_ID: [u8; 22] = [7; 22];
const REPEATS: u32 = 20_000;
const WARM_UP: u32 = 1_000;

pub(super) fn seal() -> Result<Measure> {
    let (mut aead, mut bare, mut out) = (Aead::new()?, Bare::new()?, Vec::new());
    measure(
        || {
            out.clear();
            write_sealed(&mut out, &mut aead, &KEYS, None, content::APPLICATION, 7, black_box(&MESSAGE))?;
            black_box(&out);
            Ok(())
        },
        || bare.seal(&AAD, black_box(&MESSAGE)),
        "one record to a device, 64 bytes of CoAP, header and additional data included",
    )
}

pub(super) fn open() -> Result<Measure> {
    let (mut aead, mut bare, mut datagram) = (Aead::new()?, Bare::new()?, Vec::new());
    write_sealed(&mut datagram, &mut aead, &KEYS, Some(ConnectionId([7; 8])), content::APPLICATION, 7, &MESSAGE)?;
    bare.seal(&AAD_WITH_ID, &PADDED)?;
    measure(
        || {
            let (record, _) = Record::parse(black_box(&datagram)).context("a record")?;
            black_box(record.open(&mut aead, &KEYS).context("an authentic record")?);
            Ok(())
        },
        || bare.open(&AAD_WITH_ID),
        "one record of a device with its connection id, 64 bytes of CoAP in 80, parsed and checked",
    )
}

/// A few runs of each, by turns.
fn measure(mut ours: impl FnMut() -> Result<()>, mut bare: impl FnMut() -> Result<()>, what: &str) -> Result<Measure> {
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let (limit, value) = (ns(cost(&mut bare)?), ns(cost(&mut ours)?));
        runs.push(Run { value, limit, ratio: limit / value });
    }
    let note = format!(
        "Processor time for {what}. Limit: the calls of OpenSSL that AES-128-CCM-8 takes for as many bytes, on a context that is kept, with \
         the key set each time, as each record is another session's."
    );
    super::measure(&runs, "ns/record", note)
}

/// Processor time of one `operation`: the mean of many.
fn cost(operation: &mut impl FnMut() -> Result<()>) -> Result<Duration> {
    (0..WARM_UP).try_for_each(|_| operation())?;
    let before = thread_cpu()?;
    (0..REPEATS).try_for_each(|_| operation())?;
    Ok((thread_cpu()? - before) / REPEATS)
}

fn ns(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

/// OpenSSL, with nothing around it.
struct Bare {
    sealing: CipherCtx,
    opening: CipherCtx,
    sealed: [u8; 128],
    len: usize,
    tag: [u8; TAG_LEN],
    opened: [u8; 128],
}

impl Bare {
    fn new() -> Result<Self> {
        let cipher = Cipher::fetch(None, "AES-128-CCM", None)?;
        let (mut sealing, mut opening) = (CipherCtx::new()?, CipherCtx::new()?);
        sealing.encrypt_init(Some(&cipher), None, None)?;
        sealing.set_iv_length(NONCE.len())?;
        sealing.set_tag_length(TAG_LEN)?;
        opening.decrypt_init(Some(&cipher), None, None)?;
        opening.set_iv_length(NONCE.len())?;
        Ok(Self { sealing, opening, sealed: [0; 128], len: 0, tag: [0; TAG_LEN], opened: [0; 128] })
    }

    fn seal(&mut self, aad: &[u8], plaintext: &[u8]) -> Result<()> {
        self.sealing.encrypt_init(None, Some(&KEYS.key), Some(&NONCE))?;
        self.sealing.set_data_len(plaintext.len())?;
        self.sealing.cipher_update(aad, None)?;
        self.len = self.sealing.cipher_update(plaintext, Some(&mut self.sealed))?;
        self.sealing.tag(&mut self.tag)?;
        black_box(&self.sealed);
        Ok(())
    }

    /// Opens what was sealed last.
    fn open(&mut self, aad: &[u8]) -> Result<()> {
        self.opening.set_tag(&self.tag)?;
        self.opening.decrypt_init(None, Some(&KEYS.key), Some(&NONCE))?;
        self.opening.set_data_len(self.len)?;
        self.opening.cipher_update(aad, None)?;
        self.opening.cipher_update(&self.sealed[..self.len], Some(&mut self.opened))?;
        black_box(&self.opened);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_calls_open_what_they_sealed() -> Result<()> {
        let mut bare = Bare::new()?;
        bare.seal(&AAD, &MESSAGE)?;
        bare.open(&AAD)?;
        assert_eq!(bare.opened[..MESSAGE.len()], MESSAGE);
        bare.tag[0] ^= 1;
        assert!(bare.open(&AAD).is_err());
        Ok(())
    }
}
