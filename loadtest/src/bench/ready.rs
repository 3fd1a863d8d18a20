//! From the start of the server's process to its first "ready", when it has started before.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{RUNS, Run};
use crate::report::Measure;
use crate::server::{Ports, Server, ready};

pub(super) fn measure(holdfast: Option<&Path>) -> Result<Measure> {
    let mut server = Server::prepare(holdfast)?;
    let first = server.start()?;
    server.stop()?;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let (value, limit) = (server.start()?, bare_start()?);
        server.stop()?;
        runs.push(Run { value: ms(value), limit: ms(limit), ratio: limit.as_secs_f64() / value.as_secs_f64() });
    }
    let note = format!(
        "Elapsed time, second start and later, no sessions; the first start, which makes the keys, took {:.0} ms. Limit: this program starting, \
         binding the same three sockets and answering.",
        ms(first)
    );
    super::measure(&runs, "ms", note)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// How long it takes a process that does nothing else to bind three sockets and say that it is ready.
fn bare_start() -> Result<Duration> {
    let ports = Ports::free()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare").args([ports.udp, ports.tcp, ports.http, ports.admin].map(|port| port.to_string()));
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let answered = ready(&mut child, (Ipv4Addr::LOCALHOST, ports.admin).into());
    let took = begun.elapsed();
    child.kill()?;
    child.wait()?;
    answered.map(|()| took)
}
