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

/// Lists, calls, reads and watches every device. Prints what it saw.
pub(super) async fn run(http: SocketAddr, token: &str, devices: &[DemoDevice]) -> Result<bool> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let api = Api { client, base: format!("http://{http}/v1/devices"), token: token.to_owned() };
    let watched = tokio::spawn(watch(api.get("/events/sensor").await?, devices.iter().map(|device| device.id.to_string()).collect()));
    let listed = list(&api, devices).await?;
    let called = call(&api, devices).await?;
    let read = read(&api, devices).await?;
    let watched = watched.await??;
    let (count, mut passed) = (devices.len(), true);
    for (what, saw) in [("listed online", listed), ("function answered", called), ("variable read", read), ("event on the stream", watched)]
    {
        println!("{what:>20}: {saw} of {count} devices");
        passed &= saw == count;
    }
    println!("{}", if passed { "check passed" } else { "check FAILED" });
    Ok(passed)
}

async fn list(api: &Api, devices: &[DemoDevice]) -> Result<usize> {
    let list = json(api.get("").await?).await?;
    let online: BTreeSet<&str> = list
        .as_array()
        .context("the list is no array")?
        .iter()
        .filter(|device| device["online"] == true)
        .filter_map(|device| device["id"].as_str())
        .collect();
    Ok(devices.iter().filter(|device| online.contains(device.id.to_string().as_str())).count())
}

async fn call(api: &Api, devices: &[DemoDevice]) -> Result<usize> {
    let mut answered = 0;
    for device in devices {
        let answer = json(api.request(Method::POST, &format!("/{}/led", device.name), "arg=on").await?).await?;
        answered += usize::from(answer["return_value"] == 1);
    }
    Ok(answered)
}

async fn read(api: &Api, devices: &[DemoDevice]) -> Result<usize> {
    let mut read = 0;
    for device in devices {
        let answer = json(api.get(&format!("/{}/temperature", device.name)).await?).await?;
        read += usize::from(answer["result"].is_number());
    }
    Ok(read)
}

/// Counts the devices whose event came by.
async fn watch(response: Response<Incoming>, mut missing: BTreeSet<String>) -> Result<usize> {
    let expected = missing.len();
    let (mut body, mut text) = (response.into_body(), String::new());
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
    Ok(expected - missing.len())
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
