//! From what was typed to what is done.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::json;

use crate::args::{
    Arguments, BenchArguments, BystanderArguments, ChaosArguments, ChaosDrillArguments, Command, Drill, DrillArguments, FleetArguments,
    FloodArguments, FrostArguments, FrozenShardArguments, FrozenThreadsArguments, GrayFaultsArguments, IncidentsArguments, KeysArguments,
    KillRestartArguments, LoudArguments, MassReturnArguments, NumberArguments, OverloadArguments, PageArguments, StallArguments,
    WebhooksArguments,
};
use crate::bench::{Bench, bare, bench};
use crate::chaos::{Proxy, ProxyPlan};
use crate::dial::allow_sockets;
use crate::drill::{
    Bystanders, Case, Chaos, FloodDrill, FrozenShard, FrozenThreads, GrayFaults, Ground, Incidents, KillRestart, LoudDrill, MassReturn,
    Overload, PageDrill, StallDrill, WebhooksDrill, chaos, flood, frozen_shard, frozen_threads, gray_faults, incidents, kill_restart, loud,
    mass_return, overload, page, stall, webhooks,
};
use crate::fleet::{Crew, Devices, Fleet, FleetPlan, Work};
use crate::keys::{self, DeviceKeys};
use crate::progress::Progress;
use crate::report::{DrillReport, bench_table, figures_table, publish};
use crate::server::Ports;

/// Devices that keep one thread busy.
const DEVICES_PER_THREAD: u32 = 500;

/// Longest time for publishes that are open at the end: a device gives one up after 20 s.
const SETTLE_LIMIT: Duration = Duration::from_secs(25);

/// Does it. The code is 1 if a check failed.
pub fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::Fleet(arguments) => fleet(&arguments),
        Command::Keys(arguments) => write_keys(&arguments),
        Command::Drill(Drill::KillRestart(arguments)) => drill_kill_restart(arguments),
        Command::Drill(Drill::Chaos(arguments)) => drill_chaos(arguments),
        Command::Drill(Drill::Flood(arguments)) => drill_flood(arguments),
        Command::Drill(Drill::Loud(arguments)) => drill_loud(arguments),
        Command::Drill(Drill::MassReturn(arguments)) => drill_mass_return(arguments),
        Command::Drill(Drill::Stall(arguments)) => drill_stall(arguments),
        Command::Drill(Drill::Overload(arguments)) => drill_overload(arguments),
        Command::Drill(Drill::FrozenShard(arguments)) => drill_frozen_shard(arguments),
        Command::Drill(Drill::FrozenThreads(arguments)) => drill_frozen_threads(arguments),
        Command::Drill(Drill::Page(arguments)) => drill_page(arguments),
        Command::Drill(Drill::GrayFaults(arguments)) => drill_gray_faults(arguments),
        Command::Drill(Drill::Incidents(arguments)) => drill_incidents(arguments),
        Command::Drill(Drill::Webhooks(arguments)) => drill_webhooks(arguments),
        Command::Chaos(arguments) => bad_network(&arguments),
        Command::Bench(arguments) => measure(arguments),
        Command::Bare { udp, tcp, http, admin } => bare(Ports { udp, tcp, http, admin }).map(|()| ExitCode::SUCCESS),
    }
}

fn write_keys(arguments: &KeysArguments) -> Result<ExitCode> {
    let NumberArguments { devices, tcp_devices } = arguments.number;
    let keys = DeviceKeys::derive(devices, tcp_devices, arguments.seed)?;
    keys::write_public(&arguments.out, &keys)?;
    keys::write_private(&keys::private_path(&arguments.out), &keys)?;
    Ok(ExitCode::SUCCESS)
}

fn fleet(arguments: &FleetArguments) -> Result<ExitCode> {
    let NumberArguments { devices, tcp_devices } = arguments.number;
    let lasts = Duration::from_secs_f64(arguments.lasts);
    let fleet = Fleet::start(FleetPlan {
        crew: crew(arguments)?,
        work: Work::Publish { every: Duration::from_secs_f64(arguments.every) },
        seed: arguments.seed,
        run: run_number()?,
        per_socket: arguments.per_socket,
        audit: !arguments.no_audit,
        threads: threads(devices.max(tcp_devices)),
        lasts: lasts + SETTLE_LIMIT * 2,
    })?;
    fleet.work(true)?;
    let progress = Progress::new(devices as usize + tcp_devices as usize);
    progress.phase("running");
    fleet.wait(lasts, |moment| progress.show(moment), |_| false);
    progress.phase("settling");
    fleet.work(false)?;
    fleet.wait(SETTLE_LIMIT, |moment| progress.show(moment), |moment| moment.open == 0);
    drop(progress);
    let report = fleet.stop()?;
    let figures = report.figures();
    publish(figures_table(&figures), &figures, arguments.json.as_deref())?;
    let sound = report.tally.sequences_repeated + report.tally.wire_sequences_repeated == 0;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The devices that were asked for, and what they know of the server.
fn crew(arguments: &FleetArguments) -> Result<Crew> {
    let NumberArguments { devices, tcp_devices } = arguments.number;
    let DeviceKeys { udp, tcp } = match &arguments.keys {
        Some(path) => keys::read_private(path, devices, tcp_devices)?,
        None => DeviceKeys::derive(devices, tcp_devices, arguments.seed)?,
    };
    let mut crew = Crew::default();
    if !udp.is_empty() {
        let server = arguments.server.as_deref().context("devices on UDP need --server")?;
        let key = arguments.server_key.as_deref().context("devices on UDP need --server-key")?;
        crew.udp = Some(Devices { server: address(server)?, server_key: keys::read_server_key(key)?, keys: udp });
    }
    if !tcp.is_empty() {
        let server = arguments.tcp_server.as_deref().context("devices on TCP need --tcp-server")?;
        let key = arguments.tcp_server_key.as_deref().context("devices on TCP need --tcp-server-key")?;
        crew.tcp = Some(Devices { server: address(server)?, server_key: keys::read_tcp_server_key(key)?, keys: tcp });
    }
    Ok(crew)
}

fn drill_kill_restart(arguments: KillRestartArguments) -> Result<ExitCode> {
    let (ground, json) = ground(arguments.drill);
    let report = kill_restart(&KillRestart {
        ground,
        threads: threads(arguments.devices),
        devices: arguments.devices,
        kills: arguments.kills,
        every: Duration::from_secs_f64(arguments.every),
        news_every: Duration::from_secs_f64(arguments.news_every),
        seed: arguments.seed,
        per_socket: arguments.per_socket,
    })?;
    judged(&report, json.as_deref())
}

fn drill_chaos(arguments: ChaosDrillArguments) -> Result<ExitCode> {
    let (ground, json) = ground(arguments.drill);
    let report = chaos(&Chaos {
        ground,
        threads: threads(arguments.devices.max(arguments.tcp_devices)),
        devices: arguments.devices,
        tcp_devices: arguments.tcp_devices,
        lasts: Duration::from_secs_f64(arguments.seconds),
        every: Duration::from_secs_f64(arguments.every),
        weather: arguments.weather.weather(),
    })?;
    judged(&report, json.as_deref())
}

fn drill_flood(arguments: FloodArguments) -> Result<ExitCode> {
    let (ground, json) = ground(arguments.drill);
    let report = flood(&FloodDrill { ground, bystanders: bystanders(&arguments.bystanders), flooders: arguments.flooders.into() })?;
    judged(&report, json.as_deref())
}

fn drill_loud(arguments: LoudArguments) -> Result<ExitCode> {
    let (ground, json) = ground(arguments.drill);
    let report = loud(&LoudDrill {
        ground,
        transport: arguments.transport,
        bystanders: bystanders(&arguments.bystanders),
        rate_per_s: arguments.rate,
    })?;
    judged(&report, json.as_deref())
}

fn drill_mass_return(arguments: MassReturnArguments) -> Result<ExitCode> {
    let (ground, json) = ground(arguments.drill);
    let peace = Duration::from_secs_f64(arguments.peace);
    let mut drill = MassReturn {
        ground,
        devices: arguments.devices,
        per_second: arguments.per_second,
        keep_sessions: arguments.keep_sessions,
        timed: !arguments.untimed,
        bystanders: Bystanders {
            devices: arguments.bystanders,
            every: Duration::from_secs_f64(arguments.every),
            lasts: Duration::ZERO,
            threads: 1,
            seed: arguments.seed,
        },
        peace,
    };
    drill.bystanders.lasts = peace + drill.longest();
    let report = mass_return(&drill)?;
    judged(&report, json.as_deref())
}

fn drill_stall(arguments: StallArguments) -> Result<ExitCode> {
    let (ground, json) = ground(arguments.drill);
    let report = stall(&StallDrill {
        ground,
        devices: arguments.devices,
        every: Duration::from_secs_f64(arguments.every),
        hangs: Duration::from_secs_f64(arguments.stall),
        full: Duration::from_secs_f64(arguments.full),
        threads: threads(arguments.devices),
        seed: arguments.seed,
    })?;
    judged(&report, json.as_deref())
}

fn drill_overload(arguments: OverloadArguments) -> Result<ExitCode> {
    let (ground, json) = ground(arguments.drill);
    let report = overload(&Overload {
        ground,
        bystanders: Bystanders { threads: 1, ..bystanders(&arguments.bystanders) },
        callers: arguments.callers.into(),
        peace: Duration::from_secs_f64(arguments.peace),
        timed: !arguments.untimed,
    })?;
    judged(&report, json.as_deref())
}

fn drill_frozen_shard(arguments: FrozenShardArguments) -> Result<ExitCode> {
    let (ground, json) = ground(arguments.drill);
    let peace = Duration::from_secs_f64(arguments.peace);
    let bystanders = frost(&arguments.frost, peace + Duration::from_mins(1));
    let (shard, takeover) = (arguments.shard, !arguments.restart);
    judged(&frozen_shard(&FrozenShard { ground, bystanders, peace, shard, takeover })?, json.as_deref())
}

fn drill_frozen_threads(arguments: FrozenThreadsArguments) -> Result<ExitCode> {
    let (ground, json) = ground(arguments.drill);
    let bystanders = frost(&arguments.frost, Duration::ZERO);
    let report = frozen_threads(&FrozenThreads { ground, bystanders, threads: arguments.threads, times: arguments.times })?;
    judged(&report, json.as_deref())
}

fn frost(arguments: &FrostArguments, lasts: Duration) -> Bystanders {
    let FrostArguments { devices, every, seed } = *arguments;
    publishing(devices, every, lasts, seed)
}

fn drill_page(arguments: PageArguments) -> Result<ExitCode> {
    let (ground, json) = ground(arguments.drill);
    let cases = if arguments.only.is_empty() { Case::ALL.to_vec() } else { arguments.only };
    let report = page(&PageDrill {
        ground,
        cases,
        prometheus: arguments.prometheus,
        alertmanager: arguments.alertmanager,
        files: arguments.files,
        peace: Duration::from_secs_f64(arguments.peace),
    })?;
    judged(&report, json.as_deref())
}

fn drill_gray_faults(arguments: GrayFaultsArguments) -> Result<ExitCode> {
    let (ground, json) = ground(arguments.drill);
    let report = gray_faults(&GrayFaults {
        ground,
        only: arguments.only,
        soak: arguments.soak.map(Duration::from_secs_f64),
        devices: arguments.devices,
        every: Duration::from_secs_f64(arguments.every),
        threads: threads(arguments.devices),
        seed: arguments.seed,
    })?;
    judged(&report, json.as_deref())
}

fn drill_incidents(arguments: IncidentsArguments) -> Result<ExitCode> {
    let IncidentsArguments { only, devices, seed, drill } = arguments;
    let (ground, json) = ground(drill);
    judged(&incidents(&Incidents { ground, only, devices, seed })?, json.as_deref())
}

fn drill_webhooks(arguments: WebhooksArguments) -> Result<ExitCode> {
    let (ground, json) = ground(arguments.drill);
    let report = webhooks(&WebhooksDrill {
        ground,
        devices_each: arguments.devices,
        every: Duration::from_secs_f64(arguments.every),
        lasts: Duration::from_secs_f64(arguments.seconds),
        kills: arguments.kills,
        window: Duration::from_secs_f64(arguments.window),
        seed: arguments.seed,
        timed: !arguments.untimed,
    })?;
    judged(&report, json.as_deref())
}

fn bystanders(arguments: &BystanderArguments) -> Bystanders {
    let BystanderArguments { devices, every, seconds, seed } = *arguments;
    publishing(devices, every, Duration::from_secs_f64(seconds), seed)
}

fn publishing(devices: u32, every: f64, lasts: Duration, seed: u64) -> Bystanders {
    Bystanders { devices, every: Duration::from_secs_f64(every), lasts, threads: threads(devices), seed }
}

/// The server of a drill, and where its report goes.
fn ground(arguments: DrillArguments) -> (Ground, Option<PathBuf>) {
    let DrillArguments { holdfast, keep, json } = arguments;
    (Ground { holdfast, keep }, json)
}

fn judged(report: &DrillReport, json: Option<&Path>) -> Result<ExitCode> {
    publish(report.table(), report, json)?;
    Ok(if report.pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn bad_network(arguments: &ChaosArguments) -> Result<ExitCode> {
    let ChaosArguments { listen, server, links_max, tcp, .. } = *arguments;
    allow_sockets(links_max * if tcp { 2 } else { 1 })?;
    let plan = ProxyPlan { listen, server, weather: arguments.weather(), links_max };
    let proxy = if tcp { Proxy::tcp(plan)? } else { Proxy::udp(plan)? };
    thread::sleep(Duration::from_secs_f64(arguments.lasts));
    let counts = proxy.stop()?;
    publish(figures_table(&json!(counts)), &counts, arguments.json.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

fn measure(arguments: BenchArguments) -> Result<ExitCode> {
    let report = bench(&Bench { holdfast: arguments.holdfast, only: arguments.only, backlog: arguments.backlog })?;
    publish(bench_table(&report), &report, arguments.json.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

fn address(server: &str) -> Result<SocketAddr> {
    let mut addresses = server.to_socket_addrs().with_context(|| format!("{server} is no address"))?;
    addresses.next().with_context(|| format!("{server} is no address"))
}

/// Seconds since 1970, good enough to tell one run from another.
fn run_number() -> Result<u32> {
    Ok(u32::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?)
}

fn threads(devices: u32) -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    processors.min(devices.div_ceil(DEVICES_PER_THREAD) as usize).max(1)
}
