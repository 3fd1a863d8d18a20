//! Whose turn it is: deficit round robin over the tenants and then over the destinations of a tenant, in two pools of workers, of which one is for slow
//! destinations. A worker is what one attempt in flight occupies. The last eighth of a pool is kept for tenants that hold less than an eighth.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::messages::TenantId;

/// What a turn is worth. An attempt costs 1 and more for large events.
pub const QUANTUM: i32 = 4;
/// The most that one attempt costs.
pub const COST_MAX: i32 = 16;
/// Bytes of an event that cost as much as an attempt.
pub const COST_BYTES: u32 = 4_096;
/// The part of a pool that one destination may hold, and that is kept for tenants that hold little.
pub const SHARE: u32 = 8;

/// The number of a destination here.
pub type Slot = u32;

/// What an attempt with an event of this size costs.
pub fn cost(bytes: u32) -> i32 {
    i32::try_from(bytes / COST_BYTES).unwrap_or(COST_MAX).saturating_add(1).min(COST_MAX)
}

/// A pool of workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pool {
    /// For destinations that answer soon.
    Fast,
    /// For those that do not, and for probes.
    Slow,
}

impl Pool {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Fast, Self::Slow];

    fn index(self) -> usize {
        usize::from(self == Self::Slow)
    }
}

/// Who waits for a turn, each with what is left of the last one.
#[derive(Debug, Default)]
struct Ring(VecDeque<(u32, i32)>);

impl Ring {
    fn push(&mut self, key: u32, left: i32) {
        self.0.push_back((key, left.min(0) + QUANTUM));
    }

    /// Whose turn it is. Who has nothing left is given a quantum and waits for the next turn.
    fn front(&mut self) -> Option<u32> {
        loop {
            let (key, left) = self.0.front_mut()?;
            if *left > 0 {
                return Some(*key);
            }
            *left += QUANTUM;
            self.0.rotate_left(1);
        }
    }

    fn charge(&mut self, cost: i32) {
        if let Some((_, left)) = self.0.front_mut() {
            *left -= cost;
        }
    }

    fn pop(&mut self) -> i32 {
        self.0.pop_front().map_or(0, |(_, left)| left)
    }
}

/// Where a tenant stands in a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Place {
    #[default]
    Nowhere,
    InTurn,
    /// It holds much, and what is free is kept for others.
    HeldBack,
}

#[derive(Debug, Default)]
struct Share {
    place: Place,
    busy: u32,
    left: i32,
    destinations: Ring,
}

#[derive(Debug)]
struct Tenant {
    id: TenantId,
    destinations: u32,
    shares: [Share; 2],
}

#[derive(Debug)]
struct Workers {
    max: u32,
    busy: u32,
    tenants: Ring,
    held_back: VecDeque<u32>,
}

/// Turns and workers.
#[derive(Debug)]
pub struct Fairness {
    workers_max: u32,
    pools: [Workers; 2],
    tenants: Vec<Option<Tenant>>,
    vacant: Vec<u32>,
    known: HashMap<TenantId, u32>,
}

impl Fairness {
    /// So many workers; three quarters are for fast destinations.
    pub fn new(workers_max: u32) -> Self {
        let slow = (workers_max / 4).max(1);
        let pool = |max| Workers { max, busy: 0, tenants: Ring::default(), held_back: VecDeque::new() };
        let pools = [pool(workers_max.saturating_sub(slow).max(1)), pool(slow)];
        Self { workers_max: workers_max.max(2), pools, tenants: Vec::new(), vacant: Vec::new(), known: HashMap::new() }
    }

    /// The most that one destination may hold.
    pub fn destination_max(&self, pool: Pool) -> u16 {
        u16::try_from((self.pools[pool.index()].max / SHARE).max(1)).unwrap_or(u16::MAX)
    }

    /// Workers that are occupied.
    pub fn busy(&self) -> u32 {
        self.pools[0].busy + self.pools[1].busy
    }

    /// A destination of this tenant is there: the number of the tenant.
    pub fn join(&mut self, id: TenantId) -> u32 {
        let number = match self.known.get(&id) {
            Some(number) => *number,
            None => self.add(id),
        };
        self.with(number, |tenant| tenant.destinations += 1);
        number
    }

    /// One that is listed nowhere and holds nothing is there no more.
    pub fn leave(&mut self, tenant: u32) {
        let Some(Some(left)) = self.tenants.get_mut(tenant as usize) else { return };
        left.destinations -= 1;
        if left.destinations == 0 && left.shares.iter().all(|share| share.place == Place::Nowhere && share.busy == 0) {
            self.known.remove(&left.id);
            self.tenants[tenant as usize] = None;
            self.vacant.push(tenant);
        }
    }

    /// A destination has something to send.
    pub fn list(&mut self, pool: Pool, tenant: u32, slot: Slot, left: i32) {
        let Some(Some(listed)) = self.tenants.get_mut(tenant as usize) else { return };
        let share = &mut listed.shares[pool.index()];
        share.destinations.push(slot, left);
        if share.place == Place::Nowhere {
            share.place = Place::InTurn;
            self.pools[pool.index()].tenants.push(tenant, share.left);
        }
    }

    /// Whose turn it is, if a worker is free: the tenant and the destination.
    pub fn next(&mut self, pool: Pool) -> Option<(u32, Slot)> {
        loop {
            let free = self.free(pool);
            if free == 0 {
                return None;
            }
            let workers = &mut self.pools[pool.index()];
            let kept = workers.max / SHARE;
            if free > kept {
                self.bring_back(pool);
            }
            let number = self.pools[pool.index()].tenants.front()?;
            let share = self.share(number, pool)?;
            match share.destinations.front() {
                None => self.retire(pool, number, Place::Nowhere),
                Some(_) if free <= kept && share.busy >= kept => self.retire(pool, number, Place::HeldBack),
                Some(slot) => return Some((number, slot)),
            }
        }
    }

    /// The destination whose turn it is takes a worker.
    pub fn take(&mut self, pool: Pool, tenant: u32, cost: i32) {
        let workers = &mut self.pools[pool.index()];
        workers.busy += 1;
        workers.tenants.charge(cost);
        if let Some(share) = self.share(tenant, pool) {
            share.busy += 1;
            share.destinations.charge(cost);
        }
    }

    /// The destination whose turn it is has nothing to send: what is left of its turn.
    pub fn unlist(&mut self, pool: Pool, tenant: u32) -> i32 {
        let Some(share) = self.share(tenant, pool) else { return 0 };
        let left = share.destinations.pop();
        if share.destinations.0.is_empty() {
            self.retire(pool, tenant, Place::Nowhere);
        }
        left
    }

    /// A worker is free again.
    pub fn give_back(&mut self, pool: Pool, tenant: u32) {
        let workers = &mut self.pools[pool.index()];
        workers.busy = workers.busy.saturating_sub(1);
        self.lighten(pool, tenant, 1);
    }

    /// A worker is occupied already, by a destination that has come to this tenant.
    pub fn hold(&mut self, pool: Pool, tenant: u32) {
        self.pools[pool.index()].busy += 1;
        self.share(tenant, pool).into_iter().for_each(|share| share.busy += 1);
    }

    /// Counts the workers of a destination to the other pool. `false` if that has too many of such already.
    pub fn shift(&mut self, tenant: u32, from: Pool, to: Pool, count: u32) -> bool {
        if to == Pool::Slow && self.pools[to.index()].busy + count > self.workers_max / 2 {
            return false;
        }
        self.pools[from.index()].busy = self.pools[from.index()].busy.saturating_sub(count);
        self.pools[to.index()].busy += count;
        self.lighten(from, tenant, count);
        self.share(tenant, to).into_iter().for_each(|share| share.busy += count);
        true
    }

    fn free(&self, pool: Pool) -> u32 {
        let workers = &self.pools[pool.index()];
        workers.max.saturating_sub(workers.busy).min(self.workers_max.saturating_sub(self.busy()))
    }

    /// The tenant whose turn it is steps out of line.
    fn retire(&mut self, pool: Pool, tenant: u32, place: Place) {
        let workers = &mut self.pools[pool.index()];
        let left = workers.tenants.pop();
        if place == Place::HeldBack {
            workers.held_back.push_back(tenant);
        }
        self.share(tenant, pool).into_iter().for_each(|share| (share.place, share.left) = (place, left));
        self.forget(tenant);
    }

    fn bring_back(&mut self, pool: Pool) {
        while let Some(tenant) = self.pools[pool.index()].held_back.pop_front() {
            if self.requeue(pool, tenant) {
                return;
            }
        }
    }

    /// Takes one back into line that was held back.
    fn requeue(&mut self, pool: Pool, tenant: u32) -> bool {
        let Some(share) = self.share(tenant, pool).filter(|share| share.place == Place::HeldBack) else { return false };
        share.place = Place::InTurn;
        let left = share.left;
        self.pools[pool.index()].tenants.push(tenant, left);
        true
    }

    fn lighten(&mut self, pool: Pool, tenant: u32, count: u32) {
        let kept = self.pools[pool.index()].max / SHARE;
        let Some(share) = self.share(tenant, pool) else { return };
        share.busy = share.busy.saturating_sub(count);
        if share.busy < kept {
            self.requeue(pool, tenant);
        }
        self.forget(tenant);
    }

    /// A tenant without destinations is forgotten once it holds nothing.
    fn forget(&mut self, tenant: u32) {
        if self.tenants.get(tenant as usize).is_some_and(|known| known.as_ref().is_some_and(|known| known.destinations == 0)) {
            self.with(tenant, |tenant| tenant.destinations += 1);
            self.leave(tenant);
        }
    }

    fn add(&mut self, id: TenantId) -> u32 {
        let tenant = Some(Tenant { id, destinations: 0, shares: Default::default() });
        let number = self.vacant.pop().unwrap_or_else(|| u32::try_from(self.tenants.len()).unwrap_or(u32::MAX));
        match self.tenants.get_mut(number as usize) {
            Some(place) => *place = tenant,
            None => self.tenants.push(tenant),
        }
        self.known.insert(id, number);
        number
    }

    fn with(&mut self, tenant: u32, change: impl FnOnce(&mut Tenant)) {
        if let Some(Some(tenant)) = self.tenants.get_mut(tenant as usize) {
            change(tenant);
        }
    }

    fn share(&mut self, tenant: u32, pool: Pool) -> Option<&mut Share> {
        self.tenants.get_mut(tenant as usize)?.as_mut().map(|tenant| &mut tenant.shares[pool.index()])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Serves so many attempts of this cost, by destination. Each ends at once.
    fn serve(fairness: &mut Fairness, count: usize, cost: impl Fn(Slot) -> i32) -> BTreeMap<Slot, i32> {
        let mut served = BTreeMap::new();
        for _ in 0..count {
            let (tenant, slot) = fairness.next(Pool::Fast).unwrap();
            fairness.take(Pool::Fast, tenant, cost(slot));
            fairness.give_back(Pool::Fast, tenant);
            *served.entry(slot).or_default() += cost(slot);
        }
        served
    }

    #[test]
    fn what_an_attempt_costs_is_bounded() {
        assert_eq!([cost(0), cost(4_095), cost(4_096), cost(u32::MAX)], [1, 1, 2, COST_MAX]);
    }

    #[test]
    fn tenants_share_alike_however_many_destinations_they_have() {
        let mut fairness = Fairness::new(64);
        for slot in 0..99 {
            let tenant = fairness.join(TenantId(1));
            fairness.list(Pool::Fast, tenant, slot, 0);
        }
        let tenant = fairness.join(TenantId(2));
        fairness.list(Pool::Fast, tenant, 99, 0);
        let served = serve(&mut fairness, 8_000, |_| 1);
        assert!((3_990..=4_010).contains(&served[&99]), "{}", served[&99]);
        assert!((0..99).all(|slot| (36..=45).contains(&served[&slot])));
    }

    #[test]
    fn who_sends_large_events_sends_fewer() {
        let mut fairness = Fairness::new(64);
        for slot in 0..4 {
            let tenant = fairness.join(TenantId(u64::from(slot)));
            fairness.list(Pool::Fast, tenant, slot, 0);
        }
        let served = serve(&mut fairness, 4_000, |slot| if slot == 0 { COST_MAX } else { 1 });
        let worth: Vec<_> = served.values().collect();
        assert!(worth.iter().max().unwrap().abs_diff(**worth.iter().min().unwrap()) <= 32, "{worth:?}");
    }

    #[test]
    fn the_last_workers_are_kept_for_those_who_hold_few() {
        let mut fairness = Fairness::new(64);
        let flooder = fairness.join(TenantId(1));
        (0..100).for_each(|slot| fairness.list(Pool::Fast, flooder, slot, 0));
        while let Some((tenant, _)) = fairness.next(Pool::Fast) {
            fairness.take(Pool::Fast, tenant, 1);
        }
        assert_eq!(fairness.busy(), 42, "of 48");
        let other = fairness.join(TenantId(2));
        fairness.list(Pool::Fast, other, 200, 0);
        for _ in 0..6 {
            assert_eq!(fairness.next(Pool::Fast), Some((other, 200)));
            fairness.take(Pool::Fast, other, 1);
        }
        assert_eq!(fairness.next(Pool::Fast), None);
        fairness.unlist(Pool::Fast, other);
        (0..6).for_each(|_| fairness.give_back(Pool::Fast, other));
        assert_eq!(fairness.next(Pool::Fast), None);
        fairness.give_back(Pool::Fast, flooder);
        assert_eq!(fairness.next(Pool::Fast).map(|(tenant, _)| tenant), Some(flooder));
    }

    #[test]
    fn one_tenant_alone_has_nearly_all() {
        let mut fairness = Fairness::new(8);
        let tenant = fairness.join(TenantId(1));
        (0..10).for_each(|slot| fairness.list(Pool::Fast, tenant, slot, 0));
        (0..5).for_each(|_| {
            assert!(fairness.next(Pool::Fast).is_some());
            fairness.take(Pool::Fast, tenant, 1);
        });
    }

    #[test]
    fn slow_ones_free_the_workers_of_the_fast_up_to_half_of_all() {
        let mut fairness = Fairness::new(64);
        let tenant = fairness.join(TenantId(1));
        fairness.list(Pool::Fast, tenant, 1, 0);
        (0..40).for_each(|_| {
            assert!(fairness.next(Pool::Fast).is_some());
            fairness.take(Pool::Fast, tenant, 1);
        });
        assert!(fairness.shift(tenant, Pool::Fast, Pool::Slow, 30));
        assert!(!fairness.shift(tenant, Pool::Fast, Pool::Slow, 3));
        assert!(fairness.next(Pool::Fast).is_some());
        fairness.list(Pool::Slow, tenant, 2, 0);
        assert_eq!(fairness.next(Pool::Slow), None);
        assert_eq!(fairness.busy(), 40);
    }

    #[test]
    fn tenants_without_destinations_are_forgotten() {
        let mut fairness = Fairness::new(64);
        for id in 0..1_000 {
            let tenant = fairness.join(TenantId(id));
            fairness.list(Pool::Fast, tenant, 1, 0);
            fairness.next(Pool::Fast);
            fairness.take(Pool::Fast, tenant, 1);
            fairness.leave(tenant);
            fairness.unlist(Pool::Fast, tenant);
            fairness.give_back(Pool::Fast, tenant);
        }
        assert_eq!((fairness.tenants.len(), fairness.known.len()), (1, 0));
    }
}
