//! Who may begin a handshake: one count for both kinds, because they cost the same processors.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// How much of a handshake may be under way.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeLimits {
    /// Half-open handshakes of one address.
    pub per_address: usize,
    /// Half-open handshakes of all.
    pub total: usize,
}

/// The count.
#[derive(Debug)]
pub struct Admission {
    limits: HandshakeLimits,
    entered: Mutex<Entered>,
}

#[derive(Debug, Default)]
struct Entered {
    by_ip: HashMap<IpAddr, usize>,
    total: usize,
}

/// The place of one handshake; free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    ip: IpAddr,
}

/// Why there is no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// This address has too many handshakes under way.
    Address,
    /// There are too many in all.
    Total,
}

impl Full {
    /// What it is called in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address_limit",
            Self::Total => "total_limit",
        }
    }
}

impl Admission {
    /// With nobody in it.
    pub fn new(limits: HandshakeLimits) -> Arc<Self> {
        Arc::new(Self { limits, entered: Mutex::default() })
    }

    /// A place for a handshake of `ip`.
    ///
    /// # Errors
    /// There is none.
    pub fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Place, Full> {
        self.with(|entered| {
            if entered.total >= self.limits.total {
                return Err(Full::Total);
            }
            let of_address = entered.by_ip.entry(ip).or_default();
            if *of_address >= self.limits.per_address {
                return Err(Full::Address);
            }
            *of_address += 1;
            entered.total += 1;
            Ok(Place { admission: Arc::clone(self), ip })
        })
    }

    /// Handshakes under way.
    pub fn len(&self) -> usize {
        self.with(|entered| entered.total)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with<T>(&self, action: impl FnOnce(&mut Entered) -> T) -> T {
        action(&mut self.entered.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.with(|entered| {
            entered.total -= 1;
            if let Some(count) = entered.by_ip.get_mut(&self.ip) {
                *count -= 1;
                if *count == 0 {
                    entered.by_ip.remove(&self.ip);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_address_and_in_all_and_become_free_again() {
        let admission = Admission::new(HandshakeLimits { per_address: 2, total: 3 });
        let ip = |last: u8| IpAddr::from([192, 0, 2, last]);
        let first = admission.enter(ip(1)).unwrap();
        let second = admission.enter(ip(1)).unwrap();
        assert_eq!(admission.enter(ip(1)).err(), Some(Full::Address));
        let third = admission.enter(ip(2)).unwrap();
        assert_eq!(admission.enter(ip(3)).err(), Some(Full::Total));
        drop(first);
        let fourth = admission.enter(ip(1)).unwrap();
        assert_eq!(admission.len(), 3);
        drop((second, third, fourth));
        assert!(admission.is_empty() && admission.with(|entered| entered.by_ip.is_empty()));
    }
}
