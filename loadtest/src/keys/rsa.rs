//! RSA-1024 pairs of simulated devices: made from a seed, the same every time.
//!
//! What takes time is finding primes. So few are looked for, and each two of them are the key of one device: 100 primes are 4950 keys, all different.
//! Whoever knows two keys with a prime in common knows both private halves: they are good for simulation and nothing else.

use anyhow::Result;
use firmware_protocol::crypto::DeviceKeyPair;
use firmware_protocol::entropy::{Entropy, SeededEntropy};
use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::rsa::Rsa;

/// The public exponent of every device.
const EXPONENT: u32 = 65_537;
/// Half of a 1024-bit modulus, in bytes.
const PRIME_LEN: usize = 64;
/// Rounds of the primality test; OpenSSL does no fewer than it thinks right.
const ROUNDS: i32 = 1;

/// All pairs of a seed, in order.
pub(super) struct Pairs {
    entropy: SeededEntropy,
    scratch: BigNumContext,
    primes: Vec<BigNum>,
    /// The places of the next pair's primes; the first is before the second.
    next: (usize, usize),
}

impl Pairs {
    pub(super) fn new(seed: u64) -> Result<Self> {
        Ok(Self { entropy: SeededEntropy::new(seed), scratch: BigNumContext::new()?, primes: Vec::new(), next: (0, 1) })
    }

    /// The next pair: every prime with all those before it.
    pub(super) fn pair(&mut self) -> Result<DeviceKeyPair> {
        let (first, second) = self.next;
        while self.primes.len() <= second {
            let prime = self.prime()?;
            self.primes.push(prime);
        }
        self.next = if first + 1 < second { (first + 1, second) } else { (0, second + 1) };
        assemble(&self.primes[first], &self.primes[second], &mut self.scratch)
    }

    /// The first prime from a random number on. Its two highest bits are set, so that a product of two has exactly 1024.
    fn prime(&mut self) -> Result<BigNum> {
        let mut bytes: [u8; PRIME_LEN] = self.entropy.array();
        bytes[0] |= 0xc0;
        bytes[PRIME_LEN - 1] |= 1;
        let mut candidate = BigNum::from_slice(&bytes)?;
        // The exponent must have an inverse.
        while candidate.mod_word(EXPONENT)? == 1 || !candidate.is_prime_fasttest(ROUNDS, &mut self.scratch, true)? {
            candidate.add_word(2)?;
        }
        Ok(candidate)
    }
}

/// The key with these primes (RFC 8017 §3.2).
fn assemble(p: &BigNumRef, q: &BigNumRef, scratch: &mut BigNumContext) -> Result<DeviceKeyPair> {
    let (exponent, one) = (BigNum::from_u32(EXPONENT)?, BigNum::from_u32(1)?);
    let (p_less, q_less, mut modulus) = (p - &one, q - &one, BigNum::new()?);
    modulus.checked_mul(p, q, scratch)?;
    let (totient, mut private, mut coefficient) = (&p_less * &q_less, BigNum::new()?, BigNum::new()?);
    private.mod_inverse(&exponent, &totient, scratch)?;
    coefficient.mod_inverse(q, p, scratch)?;
    let exponents = (&private % &p_less, &private % &q_less);
    let (p, q) = (p.to_owned()?, q.to_owned()?);
    let key = Rsa::from_private_components(modulus, exponent, private, p, q, exponents.0, exponents.1, coefficient)?;
    Ok(DeviceKeyPair::from_der(&key.private_key_to_der()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn many_keys_come_of_few_primes_and_no_two_are_the_same() -> Result<()> {
        let mut pairs = Pairs::new(1)?;
        let keys = (0..45).map(|_| pairs.pair()).collect::<Result<Vec<_>>>()?;
        assert_eq!(pairs.primes.len(), 10);
        let different: HashSet<_> = keys.iter().map(|pair| *pair.public()).collect();
        assert_eq!(different.len(), 45);
        let mut entropy = SeededEntropy::new(1);
        for pair in &keys {
            assert_eq!(pair.decrypt(&pair.public().encrypt(&[9; 40], &mut entropy)?)?, [9; 40]);
            assert_eq!(pair.public().recover(&pair.sign(&[5; 20])?), Some(vec![5; 20]));
        }
        Ok(())
    }

    #[test]
    fn a_seed_gives_the_same_keys() -> Result<()> {
        let first = |seed| -> Result<_> { Ok(*Pairs::new(seed)?.pair()?.public()) };
        assert_eq!(first(7)?, first(7)?);
        assert_ne!(first(7)?, first(8)?);
        Ok(())
    }
}
