//! Deliveries to receivers that are well while three in ten of a thousand are dead: some refuse connections, some never answer, some answer 500.

use std::future::pending;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use hyper::StatusCode;

use super::{Rig, Signing};
use crate::report::Measure;

/// Receivers that are well.
const WELL: u64 = 700;
/// Receivers that are dead in each of the ways.
const DEAD_EACH: u64 = 100;
/// Events of one run, at least.
const EVENTS: u64 = 60;

pub(in crate::bench) fn sick(holdfast: Option<&Path>) -> Result<Measure> {
    let mut rig = Rig::new(holdfast)?;
    rig.hooks(WELL, Signing::Hmac)?;
    // Nobody listens there: it is never asked for connections.
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let receivers = rig.receivers.as_ref().context("there are receivers")?;
    let silent = receivers.open(Arc::new(|_| Box::pin(pending())))?;
    let failing = receivers.open(Arc::new(|_| Box::pin(async { StatusCode::INTERNAL_SERVER_ERROR })))?;
    for number in 0..DEAD_EACH {
        for dead in [closed, silent, failing] {
            rig.hook(&format!("http://{dead}/{number}"), Signing::Hmac)?;
        }
    }
    let (runs, rate) = rig.runs(EVENTS, WELL)?;
    let waiting = rig.owner.view(&rig.hooks.last().context("there are hooks")?.0)?.pending();
    let note = format!(
        "At least {EVENTS} events a run, each asked for by {} hooks of one account, signed (hmac): {WELL} receivers are well, {DEAD_EACH} refuse connections, \
         {DEAD_EACH} never answer, {DEAD_EACH} answer 500. Counted is what comes to those who are well, {rate:.0} a second; everything that the server does \
         counts as its time. In the end {waiting} deliveries wait for one that is dead. Limit as for webhook_deliveries. The server's time by thread: {}.",
        WELL + 3 * DEAD_EACH,
        rig.end()?
    );
    super::super::measure(&runs, "1/core-s", note)
}
