//! `holdfast device`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::json;

use super::output::Output;
use super::target::Target;
use super::{key_file, span};
use crate::control::{DeviceLine, DeviceSpec, KeySource, OrphanLine, Owner, Request, Response, UnknownKeyLine};
use crate::store::PublicKey;

/// Devices of a file that are registered together: few enough for one command, many enough to be quick.
const IMPORT_BATCH: usize = 1000;

#[derive(Subcommand, Debug)]
pub(super) enum DeviceCommand {
    /// Register a device and its public key
    Add(AddArgs),
    /// Register the devices of a CSV file
    ///
    /// The first line names the columns. `device_id` and `public_key` (Base64 or hex of DER, or PEM in quotes) are compulsory;
    /// `name`, `platform_id` and `product` may be there. Devices that are registered already with the same key are left as they are.
    Import(ImportArgs),
    /// List devices
    List {
        /// Only devices of this account
        #[arg(long, value_name = "EMAIL")]
        owner: Option<String>,
    },
    /// Remove a device and its key; its session ends at once
    Remove {
        /// Id of the device, 24 hex digits
        device: String,
    },
    /// List devices that talk with keys that the server no longer holds
    ///
    /// The server cannot answer them; each notices by itself within minutes, or after its sleep, or when it is reset.
    Orphans,
    /// Let people bring devices along, by sending their keys: for a while, to a running server
    ///
    /// Devices that are not registered, or that are nobody's, become theirs with `particle keys send` or `POST /v1/provisioning`.
    Pair {
        /// Only this account; without it any account
        #[arg(long = "for", value_name = "EMAIL")]
        email: Option<String>,
        /// For so many minutes
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1440))]
        minutes: u16,
    },
    /// List devices that tried to connect with a key nobody registered
    Unknown {
        /// Let such devices come as far as proving their key, for this long from now
        #[arg(long, value_name = "SPAN", value_parser = span::parse)]
        open: Option<Duration>,
    },
}

#[derive(Args, Debug)]
pub(super) struct AddArgs {
    /// Id of the device, 24 hex digits
    device: String,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Name, unique among the devices of its owner
    #[arg(long)]
    name: Option<String>,
    /// Kind of hardware, such as 13 for a Boron or 32 for a Photon 2
    #[arg(long, value_name = "ID")]
    platform: Option<u16>,
    /// Product it belongs to
    #[arg(long, value_name = "ID")]
    product: Option<u32>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct KeyArgs {
    /// File with its public key, such as device.pub.pem of `particle keys save`
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Take the key that the device has proved while `device unknown --open` was in effect
    #[arg(long)]
    unknown: bool,
    /// The same, choosing one of several by its hash
    #[arg(long, value_name = "HASH")]
    unknown_key: Option<String>,
}

#[derive(Args, Debug)]
#[group(multiple = false)]
struct OwnerArgs {
    /// Account it shall belong to; may be left out while there is only one
    #[arg(long, value_name = "EMAIL")]
    owner: Option<String>,
    /// Belongs to nobody
    #[arg(long)]
    unowned: bool,
}

#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    /// The CSV file
    file: PathBuf,
    #[command(flatten)]
    owner: OwnerArgs,
}

pub(super) fn run(command: DeviceCommand, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    match command {
        DeviceCommand::Add(args) => add(args, target, output),
        DeviceCommand::Import(args) => import(args, target, output),
        DeviceCommand::List { owner } => list(owner, target, output),
        DeviceCommand::Remove { device } => {
            target.ask(Request::RemoveDevice { device: device.clone() })?;
            Ok(output.say(&format!("Removed {device}."), &json!({ "removed": device }))?)
        }
        DeviceCommand::Orphans => orphans(target, output),
        DeviceCommand::Pair { email, minutes } => pair(email, minutes, target, output),
        DeviceCommand::Unknown { open } => unknown(open, target, output),
    }
}

impl OwnerArgs {
    fn owner(self) -> Owner {
        match self.owner {
            Some(email) => Owner::Account(email),
            None if self.unowned => Owner::Nobody,
            None => Owner::OnlyAccount,
        }
    }
}

impl KeyArgs {
    /// The file is read here, because the server may not be allowed to.
    fn source(self) -> anyhow::Result<KeySource> {
        let Some(path) = self.key else { return Ok(KeySource::Unknown(self.unknown_key)) };
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let key = PublicKey::read(&bytes).with_context(|| path.display().to_string())?;
        Ok(KeySource::Text(STANDARD.encode(key.spki())))
    }
}

fn add(args: AddArgs, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let key = args.key.source()?;
    let spec = DeviceSpec { id: args.device.clone(), key, name: args.name, platform_id: args.platform, product: args.product };
    let (added, unchanged) = register(vec![spec], args.owner.owner(), target)?;
    let sentence = if added > 0 { "Registered" } else { "Was registered already:" };
    Ok(output.say(&format!("{sentence} {}.", args.device), &json!({ "added": added, "unchanged": unchanged }))?)
}

fn import(args: ImportArgs, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let text = fs::read_to_string(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let specs = key_file::parse(&text).with_context(|| args.file.display().to_string())?;
    let owner = args.owner.owner();
    let (mut added, mut unchanged) = (0, 0);
    for batch in specs.chunks(IMPORT_BATCH) {
        let done = register(batch.to_vec(), owner.clone(), target);
        let done = done.with_context(|| format!("stopped after {} devices; mend the file and import it again", added + unchanged))?;
        added += done.0;
        unchanged += done.1;
    }
    let sentence = format!("Registered {added} devices; {unchanged} were registered already.");
    Ok(output.say(&sentence, &json!({ "added": added, "unchanged": unchanged }))?)
}

fn register(devices: Vec<DeviceSpec>, owner: Owner, target: &Target) -> anyhow::Result<(usize, usize)> {
    match target.ask(Request::AddDevices { devices, owner })? {
        Response::Added { added, unchanged } => Ok((added, unchanged)),
        other => anyhow::bail!("unexpected answer {other:?}"),
    }
}

fn list(owner: Option<String>, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let Response::Devices { devices } = target.ask(Request::ListDevices { owner })? else { anyhow::bail!("unexpected answer") };
    let row = |device: &DeviceLine| {
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        let platform = number(device.platform_id.map(u32::from));
        let (status, product) = (device.status.clone(), number(device.product));
        [Some(device.id.clone()), device.name.clone(), status, device.owner.clone(), platform, product, device.key_hash.clone()]
    };
    Ok(output.list(["DEVICE", "NAME", "STATUS", "OWNER", "PLATFORM", "PRODUCT", "KEY"], &devices, row)?)
}

fn unknown(open: Option<Duration>, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let request = Request::UnknownKeys { open_s: open.map(|span| span.as_secs()) };
    let Response::UnknownKeys { keys } = target.ask(request)? else { anyhow::bail!("unexpected answer") };
    let row = |key: &UnknownKeyLine| {
        let texts = [&key.device, &key.key_hash, &key.algorithm, &key.platform_id.to_string(), &key.first_seen, &key.last_seen];
        texts.map(|text| Some(text.clone()))
    };
    Ok(output.list(["DEVICE", "KEY", "KIND", "PLATFORM", "FIRST SEEN", "LAST SEEN"], &keys, row)?)
}

fn pair(email: Option<String>, minutes: u16, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let request = Request::Pair { email, span_s: u64::from(minutes) * 60 };
    let Response::Pairing(window) = target.ask_server(&request)? else { anyhow::bail!("unexpected answer") };
    let sentence = format!("Until {} {} may bring devices along.", window.until, window.email.as_deref().unwrap_or("any account"));
    Ok(output.say(&sentence, &window)?)
}

fn orphans(target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let Response::Orphans { orphans } = target.ask(Request::Orphans {})? else { anyhow::bail!("unexpected answer") };
    let row = |orphan: &OrphanLine| {
        let devices = Some(orphan.devices.join(" or ")).filter(|devices| !devices.is_empty());
        let OrphanLine { address, datagrams, first_heard, last_heard, .. } = orphan;
        let [address, datagrams, first, last] = [address.clone(), datagrams.to_string(), first_heard.clone(), last_heard.clone()].map(Some);
        [devices, orphan.session.clone(), address, datagrams, first, last]
    };
    Ok(output.list(["DEVICE", "SESSION", "ADDRESS", "DATAGRAMS", "FIRST HEARD", "LAST HEARD"], &orphans, row)?)
}
