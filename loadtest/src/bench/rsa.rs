//! What the three RSA operations that every handshake over TCP needs of the server cost in this process: the least of the ways that OpenSSL offers
//! for each.

use std::hint::black_box;
use std::time::Duration;

use anyhow::Result;
use openssl::pkey::{PKey, Private, Public};
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::{Padding, Rsa};

use super::Primitives;
use super::primitives::cost;

/// What a device's answer holds: nonce, id, public key.
const ANSWER: [u8; 214] = [7; 214];
/// What the server chooses for the session.
const SECRET: [u8; 40] = [7; 40];
/// HMAC-SHA1 of what was encrypted.
const CODE: [u8; 20] = [7; 20];

struct Workbench {
    server: Rsa<Private>,
    server_key: PKey<Private>,
    device: Rsa<Public>,
    device_key: PKey<Public>,
}

/// Measures, which takes about a second.
pub(super) fn measure() -> Result<Primitives> {
    let bench = Workbench::new()?;
    Ok(Primitives(vec![
        ("RSA-2048 decryption", bench.decrypt()?),
        ("RSA-1024 encryption", bench.encrypt()?),
        ("RSA-2048 signature", bench.sign()?),
    ]))
}

impl Workbench {
    fn new() -> Result<Self> {
        let (server, device) = (Rsa::generate(2048)?, Rsa::generate(1024)?);
        let device = Rsa::from_public_components(device.n().to_owned()?, device.e().to_owned()?)?;
        let (server_key, device_key) = (PKey::from_rsa(server.clone())?, PKey::from_rsa(device.clone())?);
        Ok(Self { server, server_key, device, device_key })
    }

    fn decrypt(&self) -> Result<Duration> {
        let (mut answer, mut plaintext, mut out) = (vec![0; 256], vec![0; 256], Vec::new());
        self.server.public_encrypt(&ANSWER, &mut answer, Padding::PKCS1)?;
        let mut context = PkeyCtx::new(&self.server_key)?;
        context.decrypt_init()?;
        context.set_rsa_padding(Padding::PKCS1)?;
        let by_key = cost(|| self.server.private_decrypt(&answer, black_box(&mut plaintext), Padding::PKCS1).map(drop))?;
        let by_context = cost(|| {
            out.clear();
            black_box(context.decrypt_to_vec(&answer, &mut out)?);
            Ok(())
        })?;
        Ok(by_key.min(by_context))
    }

    fn encrypt(&self) -> Result<Duration> {
        let (mut ciphertext, mut out) = (vec![0; 128], Vec::new());
        let mut context = PkeyCtx::new(&self.device_key)?;
        context.encrypt_init()?;
        context.set_rsa_padding(Padding::PKCS1)?;
        let by_key = cost(|| self.device.public_encrypt(&SECRET, black_box(&mut ciphertext), Padding::PKCS1).map(drop))?;
        let by_context = cost(|| {
            out.clear();
            black_box(context.encrypt_to_vec(&SECRET, &mut out)?);
            Ok(())
        })?;
        Ok(by_key.min(by_context))
    }

    fn sign(&self) -> Result<Duration> {
        let (mut signature, mut out) = (vec![0; 256], Vec::new());
        let mut context = PkeyCtx::new(&self.server_key)?;
        context.sign_init()?;
        context.set_rsa_padding(Padding::PKCS1)?;
        let by_key = cost(|| self.server.private_encrypt(&CODE, black_box(&mut signature), Padding::PKCS1).map(drop))?;
        let by_context = cost(|| {
            out.clear();
            black_box(context.sign_to_vec(&CODE, &mut out)?);
            Ok(())
        })?;
        Ok(by_key.min(by_context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_a_cost_and_private_ones_have_most_of_it() -> Result<()> {
        let Primitives(costs) = measure()?;
        let [(_, decryption), (_, encryption), (_, signature)] = costs[..] else { anyhow::bail!("{costs:?}") };
        assert!(!encryption.is_zero() && encryption < decryption && encryption < signature, "{costs:?}");
        Ok(())
    }
}
