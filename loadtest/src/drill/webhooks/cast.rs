//! Who takes part in the drill: accounts with devices and one hook each, and the receivers that these go to, well ones and sick ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use firmware_protocol::id::DeviceId;
use hyper::StatusCode;
use serde_json::{Value, json};
use webhooks::sign::{Scheme, SigningKey};

use crate::fleet::text::EVENT_NAME;
use crate::fleet::{Crew, Devices, Fleet, FleetPlan, Work};
use crate::hooks::{Authority, Desk, HookView, Identity, Mood, Owner, Receivers, Validity};
use crate::keys::{self, DeviceKeys};
use crate::server::Server;

use super::super::bystanders::RUN;

/// Destinations whose receivers are well, beside that of the tenant that floods.
pub(super) const WELL: usize = 13;
/// The tenant that floods has so many times as many devices as any other.
pub(super) const FLOOD_DEVICES: u32 = 10;
/// And each of them publishes so many times as often: as fast as firmware lets it. A device that is much faster has more open when the server is killed twice
/// within seconds than the journal remembers of one session, and what it repeats then is taken for new.
pub(super) const FLOOD_TIMES: u32 = 5;
/// How late the slow receiver is, and how long its hook waits.
const SLOW: Duration = Duration::from_secs(29);
const SLOW_TIMEOUT_S: u64 = 30;
/// A name that has no address (RFC 6761 §6.4).
const NOWHERE: &str = "http://nothing.invalid:8080/";

/// What the receiver of a tenant's hook is like.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Role {
    /// It is well.
    Well,
    /// It is well, and its tenant publishes much more than others.
    Flooded,
    /// It accepts and never answers.
    Silent,
    /// It answers after 29 seconds.
    Slow,
    /// It answers 500.
    Failing,
    /// It answers 410.
    Gone,
    /// Its name has no address.
    Nameless,
    /// Its certificate has expired.
    Expired,
    /// It does not believe the signature.
    Distrustful,
}

impl Role {
    /// All that are sick.
    pub(super) const SICK: [Self; 7] =
        [Self::Silent, Self::Slow, Self::Failing, Self::Gone, Self::Nameless, Self::Expired, Self::Distrustful];

    /// As reports call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Flooded => "flooded",
            Self::Silent => "silent",
            Self::Slow => "slow",
            Self::Failing => "failing",
            Self::Gone => "gone",
            Self::Nameless => "nameless",
            Self::Expired => "expired",
            Self::Distrustful => "distrustful",
        }
    }

    /// Whether nothing ever arrives, so that the owner has to be told.
    pub(super) fn must_be_told(self) -> bool {
        !matches!(self, Self::Well | Self::Flooded | Self::Slow)
    }

    fn mood(self) -> Mood {
        match self {
            Self::Silent => Mood::Silent,
            Self::Slow => Mood::Slow(SLOW),
            Self::Failing => Mood::Answers(StatusCode::INTERNAL_SERVER_ERROR),
            Self::Gone => Mood::Answers(StatusCode::GONE),
            Self::Well | Self::Flooded | Self::Nameless | Self::Expired | Self::Distrustful => Mood::Well,
        }
    }
}

/// An account, its devices, its hook, and the receiver of that.
pub(super) struct Tenant {
    pub(super) role: Role,
    pub(super) devices: Vec<DeviceId>,
    pub(super) desk: Arc<Desk>,
    owner: Owner,
    /// Where its receiver is, whatever its hook says.
    url: String,
    definition: Value,
    hook: Option<String>,
}

impl Tenant {
    /// Makes its hook, whose owner is told of trouble at `notices`. The receiver believes its key, unless it believes none.
    pub(super) fn make_hook(&mut self, notices: SocketAddr) -> Result<()> {
        self.definition["notifyUrl"] = format!("http://{notices}/").into();
        let hook = self.owner.create(&self.definition)?;
        let key = match self.role {
            Role::Distrustful => SigningKey::generate(Scheme::Ed25519)?.verifying()?,
            _ => self.owner.key(&hook)?,
        };
        self.desk.believe(key);
        self.hook = Some(hook);
        Ok(())
    }

    /// Its hook.
    pub(super) fn hook(&self) -> Result<&str> {
        self.hook.as_deref().context("it has no hook yet")
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// How its hook is.
    pub(super) fn view(&self) -> Result<HookView> {
        self.owner.view(self.hook()?)
    }

    /// Sets right what is wrong with its receiver, and says so, which is when the server tries again.
    pub(super) fn cure(&mut self) -> Result<()> {
        let hook = self.hook()?.to_owned();
        self.desk.believe(self.owner.key(&hook)?);
        self.desk.cure();
        self.definition["url"] = self.url.clone().into();
        self.owner.replace(&hook, &self.definition)
    }
}

/// All of them, and the threads of receivers.
pub(super) struct Cast {
    pub(super) tenants: Vec<Tenant>,
    pub(super) receivers: Receivers,
    authority: Authority,
    identity: Identity,
    keys: Vec<DeviceKeys>,
}

impl Cast {
    /// Says whose certificates the server has to believe when it is started. The receiver with a certificate begins with one that has expired.
    pub(super) fn prepare(server: &Server) -> Result<(Authority, Identity)> {
        let (authority, issuers) = (Authority::new()?, server.dir().join("issuers.pem"));
        std::fs::write(&issuers, authority.pem()?)?;
        server.admit_receivers(Some(&issuers))?;
        let identity = Identity::new(authority.issue(Validity::Expired)?);
        Ok((authority, identity))
    }

    /// Makes the accounts, registers so many devices of each, and opens the receivers.
    pub(super) fn new(server: &Server, (authority, identity): (Authority, Identity), devices_each: u32, seed: u64) -> Result<Self> {
        let roles = [Role::Well; WELL].into_iter().chain(Role::SICK).chain([Role::Flooded]);
        let mut cast = Self { tenants: Vec::new(), receivers: Receivers::start()?, authority, identity, keys: Vec::new() };
        let devices = |role| if role == Role::Flooded { devices_each * FLOOD_DEVICES } else { devices_each };
        let mut keys = DeviceKeys::derive(roles.clone().map(devices).sum(), 0, seed)?.udp;
        for (number, role) in roles.enumerate() {
            let rest = keys.split_off(devices(role) as usize);
            cast.join(server, number, role, DeviceKeys { udp: std::mem::replace(&mut keys, rest), tcp: Vec::new() })?;
        }
        Ok(cast)
    }

    fn join(&mut self, server: &Server, number: usize, role: Role, keys: DeviceKeys) -> Result<()> {
        let (cli, user, list) = (server.cli(), format!("tenant-{number}@example.com"), server.dir().join("keys.csv"));
        cli.add_user(&user)?;
        keys::write_public(&list, &keys)?;
        cli.import_devices_of(&user, &list)?;
        let desk = Desk::new(role.mood());
        let url = match role {
            Role::Expired => format!("https://{}/", self.receivers.open_tls(&self.identity, desk.handler())?),
            _ => format!("http://{}/", self.receivers.open(desk.handler())?),
        };
        let owner = Owner::new(server.api_of(&user)?);
        let devices = keys.udp.iter().map(|key| key.id).collect();
        self.tenants.push(Tenant { role, devices, desk, owner, definition: definition(number, role, &url), url, hook: None });
        self.keys.push(keys);
        Ok(())
    }

    /// A fleet of all devices of tenants with one of these roles. It rests.
    pub(super) fn fleet(&self, server: &Server, roles: &[Role], every: Duration, lasts: Duration, seed: u64) -> Result<Fleet> {
        let taking_part = self.tenants.iter().zip(&self.keys).filter(|(tenant, _)| roles.contains(&tenant.role));
        let keys = taking_part.flat_map(|(_, keys)| keys.udp.clone()).collect();
        let key = server.dir().join("server_key.der");
        server.cli().export_server_key("udp", &key)?;
        let crew = Crew { udp: Some(Devices { server: server.devices(), server_key: keys::read_server_key(&key)?, keys }), tcp: None };
        let work = Work::Publish { every };
        Fleet::start(FleetPlan { crew, work, seed, run: RUN, per_socket: 1, audit: true, threads: 1, lasts })
    }

    /// Those with one of these roles.
    pub(super) fn of<'a>(&'a self, roles: &'a [Role]) -> impl Iterator<Item = &'a Tenant> {
        self.tenants.iter().filter(|tenant| roles.contains(&tenant.role))
    }

    /// The hook of each with one of these roles is made now.
    pub(super) fn make_hooks(&mut self, roles: &[Role], notices: SocketAddr) -> Result<()> {
        self.tenants.iter_mut().filter(|tenant| roles.contains(&tenant.role)).try_for_each(|tenant| tenant.make_hook(notices))
    }

    /// Cures all that are sick, but the one that said that it is gone.
    pub(super) fn cure(&mut self) -> Result<()> {
        self.identity.change(self.authority.issue(Validity::Good)?);
        let sick = self.tenants.iter_mut().filter(|tenant| Role::SICK.contains(&tenant.role) && tenant.role != Role::Gone);
        sick.into_iter().try_for_each(Tenant::cure)
    }
}

/// What the hook of a tenant says. Every other is signed with a secret, the rest with a pair of keys.
fn definition(number: usize, role: Role, url: &str) -> Value {
    let mut definition = json!({
        "event": EVENT_NAME,
        "name": format!("{} {number}", role.name()),
        "url": if role == Role::Nameless { NOWHERE } else { url },
        "json": { "device": "{{{PARTICLE_DEVICE_ID}}}" },
        "signature": if number.is_multiple_of(2) { "hmac" } else { "ed25519" },
    });
    if role == Role::Slow {
        definition["timeout"] = SLOW_TIMEOUT_S.into();
    }
    definition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_twenty_destinations_beside_the_one_that_is_flooded() {
        assert_eq!(WELL + Role::SICK.len(), 20);
        assert_eq!(Role::SICK.iter().filter(|role| role.must_be_told()).count(), 6);
    }

    #[test]
    fn a_definition_is_a_hook_that_the_server_can_read() -> Result<()> {
        use firmware_protocol::id::OwnerId;
        use router::event::Audience;
        use webhooks::hook::{Hook, HookId};
        for (number, role) in Role::SICK.into_iter().chain([Role::Well, Role::Flooded]).enumerate() {
            let definition = definition(number, role, "https://127.0.0.1:4/");
            let object = definition.as_object().context("an object")?;
            let hook = Hook::parse(HookId::NOBODY, Audience::Owner(OwnerId(1)), object)?;
            assert_eq!(hook.timeout.as_secs() == SLOW_TIMEOUT_S, role == Role::Slow);
        }
        Ok(())
    }
}
