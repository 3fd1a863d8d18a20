//! Hooks through a whole server: what receivers get of events, what devices and readers hear of their answers, and what becomes of deliveries.

mod answers;
mod bench;
mod changes;
mod ear;
mod failures;
mod guards;
mod ordering;
mod products;
mod quota;
mod receiver;
mod requests;
mod responses;
mod restarts;
mod selection;
mod signatures;
mod told;
mod variables;
mod world;
