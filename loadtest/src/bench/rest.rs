//! Requests of callers for each second of one server core: reads of one device from memory, function calls that a device answers, and events that are
//! on disk when the caller is told.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firmware_protocol::id::DeviceId;
use serde_json::{Value, json};

use super::{RUNS, Rig, Run, SEED, WINDOW, bare_rest, echo, median, syncs};
use crate::api::Api;
use crate::callers::{Callers, CallersPlan};
use crate::fleet::{Transport, Work};
use crate::keys::DeviceKeys;
use crate::report::Measure;

/// Callers that ask again as soon as they are answered.
const CALLERS: usize = 64;
/// Devices that are read and called, in turn. A device remembers message ids for 45 seconds, so that no server can ask one very often.
const DEVICES: u32 = 512;
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Datagrams under way in the loop that sends them back.
const ECHOES: usize = 64;
/// Bytes of an event in the journal, about.
const EVENT_BYTES: f64 = 160.0;
/// They publish nothing while they are measured.
const NEVER: Duration = Duration::from_secs(3600);

/// What callers ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Reads,
    Calls,
    Publishes,
}

impl Asked {
    fn request(self, api: &Api, device: DeviceId) -> Arc<[u8]> {
        let text = match self {
            Self::Reads => api.request("GET", &format!("/v1/devices/{device}"), "1.1", "", ""),
            Self::Calls => api.request("POST", &format!("/v1/devices/{device}/length"), "1.1", JSON, "{\"args\":\"four\"}"),
            Self::Publishes => api.request("POST", "/v1/devices/events", "1.1", JSON, "{\"name\":\"bench\",\"data\":\"21.5\"}"),
        };
        text.into_bytes().into()
    }

    /// An answer of the same shape.
    fn answer(self) -> Value {
        match self {
            Self::Reads => json!({
                "id": "e00fce680000000000000000", "name": null, "last_ip_address": "127.0.0.1", "last_heard": "2026-01-01T00:00:00.000Z",
                "last_handshake_at": "2026-01-01T00:00:00.000Z", "product_id": 12, "platform_id": 12, "connected": true, "online": true,
                "cellular": false, "status": "normal", "notes": null, "system_firmware_version": "6.2.0", "functions": ["double", "length"],
                "variables": { "temperature": "double", "count": "int32", "place": "string" }, "serial_number": null, "owner": null,
            }),
            Self::Calls => {
                json!({ "id": "e00fce680000000000000000", "name": null, "last_app": "", "connected": true, "return_value": 4, "outcome": "done" })
            }
            Self::Publishes => json!({ "ok": true }),
        }
    }

    /// What has to be done besides, in seconds of processor time: a datagram there and back, or a share of a sync.
    fn besides(self, dir: &Path, batch: f64) -> Result<f64> {
        Ok(match self {
            Self::Reads => 0.0,
            Self::Calls => echo::measure(ECHOES)?.as_secs_f64(),
            Self::Publishes => syncs::measure(dir, batch * EVENT_BYTES)?.cpu.as_secs_f64() / batch,
        })
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Reads => ("read one of", ""),
            Self::Calls => ("call a function of one of", ", and one that receives and sends back a datagram"),
            Self::Publishes => ("publish beside", ", and its share of one that writes as many bytes and calls fdatasync"),
        }
    }
}

const JSON: &str = "Content-Type: application/json\r\n";

pub(super) fn measure(holdfast: Option<&Path>, asked: Asked) -> Result<Measure> {
    let mut rig = Rig::new(holdfast, Transport::Udp, DEVICES, Work::Publish { every: NEVER })?;
    rig.wait_connected(DEVICES, CONNECT_LIMIT)?;
    let (api, ids) = (rig.server.api()?, ids()?);
    let plan = |api: &Api| {
        let requests = ids.iter().map(|id| asked.request(api, *id)).collect();
        CallersPlan { server: api.address(), callers: CALLERS, requests, every: None }
    };
    let callers = Callers::start(plan(&api))?;
    let (mut runs, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let commits = commits(&rig)?;
        callers.work(true);
        let (served, cpu_s) = rig.window(|_| callers.counts().served)?;
        callers.work(false);
        let batch = (served as f64 / (commits_since(&rig, commits)? as f64).max(1.0)).max(1.0);
        let bare = bare_rest::measure(|server: SocketAddr| plan(&api.at(server)), api.token(), asked.answer())?;
        let each = bare.as_secs_f64() + asked.besides(rig.server.dir(), batch)?;
        let value = served as f64 / cpu_s;
        runs.push(Run { value, limit: 1.0 / each, ratio: value * each });
        rates.push(served as f64 / WINDOW.as_secs_f64());
    }
    let counts = callers.counts();
    callers.stop()?;
    let ((what, besides), spent) = (asked.words(), rig.end()?);
    let note = format!(
        "{CALLERS} callers {what} {DEVICES} devices, each asks again as soon as it is answered: {:.0} a second on the machine that the server shares with \
         them; {} refused in all. Limit: one thread with the same HTTP library that knows the token and gives an answer of the same shape{besides}, by \
         its own processor time. The server's time by thread: {spent}.",
        median(&rates).context("no run")?,
        counts.refused,
    );
    ensure!(counts.others + counts.unanswered == 0, "not all were served: {counts:?}; {note}");
    super::measure(&runs, "1/core-s", note)
}

fn ids() -> Result<Vec<DeviceId>> {
    Ok(DeviceKeys::derive(DEVICES, 0, SEED)?.udp.iter().map(|key| key.id).collect())
}

fn commits(rig: &Rig) -> Result<u64> {
    Ok(rig.server.metrics()?.sum("holdfast_journal_commits_total", None))
}

fn commits_since(rig: &Rig, before: u64) -> Result<u64> {
    Ok(commits(rig)?.saturating_sub(before))
}
