//! What the four P-256 operations that every handshake needs cost in this process: the least of the ways that OpenSSL offers for each.

use std::hint::black_box;
use std::time::Duration;

use anyhow::Result;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::pkey_ctx::PkeyCtx;

use super::{Primitives, thread_cpu};

const ROUNDS: usize = 3;
const REPEATS: u32 = 150;
const DIGEST: [u8; 32] = [7; 32];

/// Measures, which takes about a quarter of a second.
pub(super) fn measure() -> Result<Primitives> {
    let bench = Workbench::new()?;
    Ok(Primitives(vec![("keygen", bench.keygen()?), ("sign", bench.sign()?), ("verify", bench.verify()?), ("derive", bench.derive()?)]))
}

struct Workbench {
    group: EcGroup,
    order: BigNum,
    own: EcKey<Private>,
    own_key: PKey<Private>,
    peer: EcKey<Private>,
    peer_key: PKey<Private>,
}

impl Workbench {
    fn new() -> Result<Self> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
        let mut order = BigNum::new()?;
        group.order(&mut order, &mut *BigNumContext::new()?)?;
        let (own, peer) = (EcKey::generate(&group)?, EcKey::generate(&group)?);
        let (own_key, peer_key) = (PKey::from_ec_key(own.clone())?, PKey::from_ec_key(peer.clone())?);
        Ok(Self { group, order, own, own_key, peer, peer_key })
    }

    fn keygen(&self) -> Result<Duration> {
        let mut scratch = BigNumContext::new()?;
        let (mut scalar, mut point) = (BigNum::new()?, EcPoint::new(&self.group)?);
        let whole = cost(|| {
            black_box(EcKey::generate(&self.group)?);
            Ok(())
        })?;
        let by_point = cost(|| {
            self.order.rand_range(&mut scalar)?;
            point.mul_generator2(&self.group, &scalar, &mut scratch)
        })?;
        Ok(whole.min(by_point))
    }

    fn sign(&self) -> Result<Duration> {
        let (mut context, mut signature) = (PkeyCtx::new(&self.own_key)?, Vec::new());
        context.sign_init()?;
        let by_key = cost(|| {
            black_box(EcdsaSig::sign(&DIGEST, &self.own)?);
            Ok(())
        })?;
        let by_context = cost(|| {
            signature.clear();
            black_box(context.sign_to_vec(&DIGEST, &mut signature)?);
            Ok(())
        })?;
        Ok(by_key.min(by_context))
    }

    fn verify(&self) -> Result<Duration> {
        let signature = EcdsaSig::sign(&DIGEST, &self.peer)?;
        let (der, mut context) = (signature.to_der()?, PkeyCtx::new(&self.peer_key)?);
        context.verify_init()?;
        let by_key = cost(|| {
            black_box(signature.verify(&DIGEST, &self.peer)?);
            Ok(())
        })?;
        let by_context = cost(|| {
            black_box(context.verify(&DIGEST, &der)?);
            Ok(())
        })?;
        Ok(by_key.min(by_context))
    }

    fn derive(&self) -> Result<Duration> {
        let mut scratch = BigNumContext::new()?;
        let (mut shared, mut x, mut y) = (EcPoint::new(&self.group)?, BigNum::new()?, BigNum::new()?);
        let (mut context, mut secret) = (PkeyCtx::new(&self.own_key)?, Vec::new());
        context.derive_init()?;
        context.derive_set_peer(&self.peer_key)?;
        let by_point = cost(|| {
            shared.mul2(&self.group, self.peer.public_key(), self.own.private_key(), &mut scratch)?;
            shared.affine_coordinates(&self.group, &mut x, &mut y, &mut scratch)
        })?;
        let by_context = cost(|| {
            secret.clear();
            black_box(context.derive_to_vec(&mut secret)?);
            Ok(())
        })?;
        Ok(by_point.min(by_context))
    }
}

/// Processor time of one `operation`: the mean of many, the least of a few rounds.
pub(super) fn cost(mut operation: impl FnMut() -> Result<(), ErrorStack>) -> Result<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        let before = thread_cpu()?;
        for _ in 0..REPEATS {
            operation()?;
        }
        least = least.min((thread_cpu()? - before) / REPEATS);
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_a_cost() -> Result<()> {
        let Primitives(costs) = measure()?;
        assert!(costs.len() == 4 && costs.iter().all(|(_, cost)| !cost.is_zero()), "{costs:?}");
        Ok(())
    }
}
