//! What is typed behind `drill`: one set of options for each.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{WeatherArguments, seconds};
use crate::drill::{CASES, Case, Incident, RETURNING_MAX, Threads};
use crate::fleet::Transport;
use crate::loud::RATE_MAX_PER_S;

/// `drill`
#[derive(Subcommand, Debug)]
pub enum Drill {
    /// kill -9 again and again while every device publishes.
    KillRestart(KillRestartArguments),
    /// A bad network between the server and every device, which publishes.
    Chaos(ChaosDrillArguments),
    /// Forged ClientHellos as fast as the machine sends them, while devices with sessions publish.
    Flood(FloodArguments),
    /// A device with valid keys that sends as fast as it can, while its neighbours publish.
    Loud(LoudArguments),
    /// A whole fleet that comes back at once, while devices with sessions publish.
    MassReturn(MassReturnArguments),
    /// A disk that hangs, and then is full, while devices publish.
    Stall(StallArguments),
    /// Ten times the callers that keep a server busy, and a storm of logins, while devices publish.
    Overload(OverloadArguments),
    /// A shard whose thread is frozen, while devices publish.
    FrozenShard(FrozenShardArguments),
    /// Threads that are frozen one after the other at random moments, while devices publish.
    FrozenThreads(FrozenThreadsArguments),
    /// Something happens to the server, and a real Prometheus and Alertmanager page somebody.
    Page(PageArguments),
    /// Parts of the server that fail in part, one after the other, while devices publish: each must be found and named.
    GrayFaults(GrayFaultsArguments),
    /// Ten things go wrong, and `holdfast diagnose` is asked what.
    Incidents(IncidentsArguments),
    /// Hooks of many accounts, some of whose receivers are sick, while one account floods and the server is killed again and again.
    Webhooks(WebhooksArguments),
}

/// What all drills know.
#[derive(Args, Debug)]
pub struct DrillArguments {
    /// The server's program; by default the one beside this.
    #[arg(long, value_name = "PATH")]
    pub holdfast: Option<PathBuf>,
    /// Leave the server's directory behind.
    #[arg(long)]
    pub keep: bool,
    /// Where to write the report as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `drill chaos`
#[derive(Args, Debug)]
pub struct ChaosDrillArguments {
    /// How many devices on UDP.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub devices: u32,
    /// How many devices on TCP.
    #[arg(long, value_name = "M", default_value_t = 0)]
    pub tcp_devices: u32,
    /// How long they publish.
    #[arg(long, value_name = "S", default_value_t = 120.0, value_parser = seconds)]
    pub seconds: f64,
    /// Seconds from one publish of a device to the next.
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    pub every: f64,
    /// What the network is like.
    #[command(flatten)]
    pub weather: WeatherArguments,
    /// What all drills know.
    #[command(flatten)]
    pub drill: DrillArguments,
}

/// `drill kill-restart`
#[derive(Args, Debug)]
pub struct KillRestartArguments {
    /// How many devices.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub devices: u32,
    /// How many kills.
    #[arg(long, value_name = "K", default_value_t = 20)]
    pub kills: u32,
    /// Seconds from one publish of a device to the next.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    pub every: f64,
    /// Seconds from one event that every device hears to the next.
    #[arg(long, value_name = "S", default_value_t = 0.5, value_parser = seconds)]
    pub news_every: f64,
    /// Decides keys, moments and pauses.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Devices behind one socket.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub per_socket: usize,
    /// What all drills know.
    #[command(flatten)]
    pub drill: DrillArguments,
}

/// What drills know that do something to a server while devices publish.
#[derive(Args, Debug)]
pub struct BystanderArguments {
    /// How many devices publish.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub devices: u32,
    /// Seconds from one publish of a device to the next.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    pub every: f64,
    /// How long the flood or the rush lasts, or the loud device is loud.
    #[arg(long, value_name = "S", default_value_t = 60.0, value_parser = seconds)]
    pub seconds: f64,
    /// Decides keys, moments and whatever else is random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// `drill flood`
#[derive(Args, Debug)]
pub struct FloodArguments {
    /// Who publishes.
    #[command(flatten)]
    pub bystanders: BystanderArguments,
    /// Threads that flood.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub flooders: u8,
    /// What all drills know.
    #[command(flatten)]
    pub drill: DrillArguments,
}

/// `drill loud`
#[derive(Args, Debug)]
pub struct LoudArguments {
    /// What carries the messages of all devices.
    #[arg(long, value_enum, default_value_t = Transport::Udp)]
    pub transport: Transport,
    /// Who publishes.
    #[command(flatten)]
    pub bystanders: BystanderArguments,
    /// Records that it sends in a second.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX_PER_S)))]
    pub rate: u32,
    /// What all drills know.
    #[command(flatten)]
    pub drill: DrillArguments,
}

/// `drill mass-return`
#[derive(Args, Debug)]
pub struct MassReturnArguments {
    /// How many devices come back.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(RETURNING_MAX)))]
    pub devices: u32,
    /// Handshakes that the server begins in a second; by default as many as it can.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "keep_sessions")]
    pub per_second: Option<u32>,
    /// They have their sessions still: the server is killed and started again before they come.
    #[arg(long)]
    pub keep_sessions: bool,
    /// Say how long publishes took, but do not judge it, nor the rate: for a machine that has other things to do.
    #[arg(long)]
    pub untimed: bool,
    /// How many devices with sessions publish meanwhile.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub bystanders: u32,
    /// Seconds from one publish of such a device to the next.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    pub every: f64,
    /// Seconds for which they publish in peace before.
    #[arg(long, value_name = "S", default_value_t = 15.0, value_parser = seconds)]
    pub peace: f64,
    /// Decides keys, moments and whatever else is random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What all drills know.
    #[command(flatten)]
    pub drill: DrillArguments,
}

/// `drill overload`
#[derive(Args, Debug)]
pub struct OverloadArguments {
    /// Who publishes, and for how long there is a rush.
    #[command(flatten)]
    pub bystanders: BystanderArguments,
    /// As few callers as keep the server busy; in the rush there are ten times as many.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(4..=512))]
    pub callers: u16,
    /// Seconds for which they ask alone before.
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    pub peace: f64,
    /// Say how fast it was, but do not judge it: for a machine that has other things to do.
    #[arg(long)]
    pub untimed: bool,
    /// What all drills know.
    #[command(flatten)]
    pub drill: DrillArguments,
}

/// `drill stall`
#[derive(Args, Debug)]
pub struct StallArguments {
    /// How many devices publish.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub devices: u32,
    /// Seconds from one publish of a device to the next.
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    pub every: f64,
    /// Seconds for which the disk hangs.
    #[arg(long, value_name = "S", default_value_t = 300.0, value_parser = seconds)]
    pub stall: f64,
    /// Seconds for which it is full after that.
    #[arg(long, value_name = "S", default_value_t = 300.0, value_parser = seconds)]
    pub full: f64,
    /// Decides keys and moments.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What all drills know.
    #[command(flatten)]
    pub drill: DrillArguments,
}

/// Who publishes while a thread is frozen.
#[derive(Args, Debug)]
pub struct FrostArguments {
    /// How many devices publish.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub devices: u32,
    /// Seconds from one publish of a device to the next.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    pub every: f64,
    /// Decides keys and moments.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// `drill frozen-shard`
#[derive(Args, Debug)]
pub struct FrozenShardArguments {
    /// Which shard.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..16))]
    pub shard: u8,
    /// Seconds for which they publish in peace before.
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    pub peace: f64,
    /// No thread takes over: the process ends and is started again.
    #[arg(long)]
    pub restart: bool,
    /// Who publishes.
    #[command(flatten)]
    pub frost: FrostArguments,
    /// What all drills know.
    #[command(flatten)]
    pub drill: DrillArguments,
}

/// `drill frozen-threads`
#[derive(Args, Debug)]
pub struct FrozenThreadsArguments {
    /// Which threads.
    #[arg(long, value_enum, default_value_t = Threads::Shard)]
    pub threads: Threads,
    /// How often.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub times: u32,
    /// Who publishes.
    #[command(flatten)]
    pub frost: FrostArguments,
    /// What all drills know.
    #[command(flatten)]
    pub drill: DrillArguments,
}

/// `drill gray-faults`
#[derive(Args, Debug)]
pub struct GrayFaultsArguments {
    /// Only these faults.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = fault)]
    pub only: Vec<String>,
    /// No faults, but all processors busy and pauses of a second and a half, for so many seconds: nothing may be found.
    #[arg(long, value_name = "S", value_parser = seconds, conflicts_with = "only")]
    pub soak: Option<f64>,
    /// How many devices publish.
    #[arg(long, value_name = "N", default_value_t = 600)]
    pub devices: u32,
    /// Seconds from one publish of a device to the next.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    pub every: f64,
    /// Decides keys and moments.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What all drills know.
    #[command(flatten)]
    pub drill: DrillArguments,
}

/// `drill incidents`
#[derive(Args, Debug)]
pub struct IncidentsArguments {
    /// Only these.
    #[arg(long, value_name = "NAME", value_enum, value_delimiter = ',')]
    pub only: Vec<Incident>,
    /// How many devices publish, twice a second each.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub devices: u32,
    /// Decides keys and moments.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What all drills know.
    #[command(flatten)]
    pub drill: DrillArguments,
}

/// `drill webhooks`
#[derive(Args, Debug)]
pub struct WebhooksArguments {
    /// How long devices publish.
    #[arg(long, value_name = "S", default_value_t = 780.0, value_parser = seconds)]
    pub seconds: f64,
    /// How many kills.
    #[arg(long, value_name = "K", default_value_t = 20)]
    pub kills: u32,
    /// Seconds of which everything is delivered once more.
    #[arg(long, value_name = "S", default_value_t = 600.0, value_parser = seconds)]
    pub window: f64,
    /// How many devices each account has.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub devices: u32,
    /// Seconds from one publish of a device to the next. The account that floods has ten times as many devices, which publish five times as often.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    pub every: f64,
    /// Decides keys and moments.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Do not judge how fast it was: the machine has other things to do.
    #[arg(long)]
    pub untimed: bool,
    /// What all drills know.
    #[command(flatten)]
    pub drill: DrillArguments,
}

/// `drill page`
#[derive(Args, Debug)]
pub struct PageArguments {
    /// Only these.
    #[arg(long, value_name = "NAME", value_enum, value_delimiter = ',')]
    pub only: Vec<Case>,
    /// The program of Prometheus.
    #[arg(long, value_name = "PATH", default_value = "prometheus")]
    pub prometheus: PathBuf,
    /// The program of Alertmanager.
    #[arg(long, value_name = "PATH", default_value = "prometheus-alertmanager")]
    pub alertmanager: PathBuf,
    /// Where their files are.
    #[arg(long, value_name = "DIR", default_value = "dashboards/prometheus")]
    pub files: PathBuf,
    /// Seconds in which everything is well, before each fault.
    #[arg(long, value_name = "S", default_value_t = 20.0, value_parser = seconds)]
    pub peace: f64,
    /// What all drills know.
    #[command(flatten)]
    pub drill: DrillArguments,
}

/// The name of a fault.
fn fault(text: &str) -> Result<String, String> {
    let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    if names.contains(&text) { Ok(text.to_owned()) } else { Err(format!("there are: {}", names.join(", "))) }
}
