//! `holdfast demo --check`: does for every device what the printed commands do, over the same REST API.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value as Json;

use crate::demo::DemoDevice;

/// How long events of all devices are waited for.
const WATCH_LIMIT: Duration = Duration::from_secs(30);

struct Api {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    token: String,
}

/// Lists, calls, reads and watches every device. Prints what it saw, for each transport that devices are on.
pub(super) async fn run(http: SocketAddr, token: &str, devices: &[DemoDevice]) -> Result<bool> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let api = Api { client, base: format!("http://{http}/v1/devices"), token: token.to_owned() };
    let watched = tokio::spawn(watch(api.get("/events/sensor").await?, devices.iter().map(|device| device.id.to_string()).collect()));
    let listed = list(&api).await?;
    let called = call(&api, devices).await?;
    let read = read(&api, devices).await?;
    let watched = watched.await??;
    let mut passed = true;
    for (what, saw) in [("listed online", listed), ("function answered", called), ("variable read", read), ("event on the stream", watched)]
    {
        let [udp, tcp] = [false, true].map(|on_tcp| share(&saw, devices, on_tcp));
        println!("{what:>20}: {} of {} devices on UDP, {} of {} on TCP", udp.0, udp.1, tcp.0, tcp.1);
        passed &= udp.0 == udp.1 && tcp.0 == tcp.1;
    }
    println!("{}", if passed { "check passed" } else { "check FAILED" });
    Ok(passed)
}

/// How many of the devices on one transport were seen, and how many there are.
fn share(saw: &BTreeSet<String>, devices: &[DemoDevice], on_tcp: bool) -> (usize, usize) {
    let of_kind = || devices.iter().filter(|device| device.is_on_tcp() == on_tcp);
    (of_kind().filter(|device| saw.contains(&device.id.to_string())).count(), of_kind().count())
}

/// Ids of the devices that are listed as online.
async fn list(api: &Api) -> Result<BTreeSet<String>> {
    let list = json(api.get("").await?).await?;
    let list = list.as_array().context("the list is no array")?;
    let online = list.iter().filter(|device| device["online"] == true).filter_map(|device| device["id"].as_str());
    Ok(online.map(str::to_owned).collect())
}

/// Ids of the devices whose function returns what it should.
async fn call(api: &Api, devices: &[DemoDevice]) -> Result<BTreeSet<String>> {
    let mut answered = BTreeSet::new();
    for device in devices {
        let answer = json(api.request(Method::POST, &format!("/{}/led", device.name), "arg=on").await?).await?;
        answered.extend((answer["return_value"] == 1).then(|| device.id.to_string()));
    }
    Ok(answered)
}

/// Ids of the devices whose variable is a number.
async fn read(api: &Api, devices: &[DemoDevice]) -> Result<BTreeSet<String>> {
    let mut read = BTreeSet::new();
    for device in devices {
        let answer = json(api.get(&format!("/{}/temperature", device.name)).await?).await?;
        read.extend(answer["result"].is_number().then(|| device.id.to_string()));
    }
    Ok(read)
}

/// Ids of the devices whose event came by.
async fn watch(response: Response<Incoming>, expected: BTreeSet<String>) -> Result<BTreeSet<String>> {
    let (mut body, mut text, mut missing) = (response.into_body(), String::new(), expected.clone());
    let watching = async {
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                text.push_str(&String::from_utf8_lossy(data));
            }
            while let Some(end) = text.find('\n') {
                let line: String = text.drain(..=end).collect();
                if let Some(event) = line.strip_prefix("data: ").and_then(|json| serde_json::from_str::<Json>(json).ok()) {
                    missing.remove(event["coreid"].as_str().unwrap_or_default());
                }
            }
            if missing.is_empty() {
                break;
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    // Too late is as good as never: the count says it.
    let _ = tokio::time::timeout(WATCH_LIMIT, watching).await;
    Ok(expected.difference(&missing).cloned().collect())
}

async fn json(response: Response<Incoming>) -> Result<Json> {
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        bail!("{status}: {}", String::from_utf8_lossy(&bytes));
    }
    Ok(serde_json::from_slice(&bytes)?)
}

impl Api {
    async fn get(&self, path: &str) -> Result<Response<Incoming>> {
        self.request(Method::GET, path, "").await
    }

    async fn request(&self, method: Method, path: &str, form: &str) -> Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(form.to_owned())))?;
        Ok(self.client.request(request).await?)
    }
}
