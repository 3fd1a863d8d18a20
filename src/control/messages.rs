//! Commands and answers, as they cross the socket: one JSON object on one line each.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::hook_messages::{HookAnswer, HookRequest};
use super::status::Status;
use crate::diagnose::Diagnosis;
use crate::store::registry::{Rotated, SecretsReport};

/// A command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Register devices: all of them or none.
    AddDevices {
        /// Which.
        devices: Vec<DeviceSpec>,
        /// Whose they shall be.
        owner: Owner,
    },
    /// List devices.
    ListDevices {
        /// Of this account only.
        owner: Option<String>,
    },
    /// Remove a device and its key.
    RemoveDevice {
        /// Its id.
        device: String,
    },
    /// List keys that nobody registered.
    UnknownKeys {
        /// Let devices with such keys come as far as proving them, for so long.
        open_s: Option<u64>,
    },
    /// List devices that talk with keys we no longer hold.
    Orphans {},
    /// Let accounts bring devices along that nobody registered, or that are nobody's.
    Pair {
        /// Only this account.
        email: Option<String>,
        /// For so long.
        span_s: u64,
    },
    /// Create an account.
    AddUser {
        /// The address its holder logs in with.
        email: String,
        /// The password.
        password: Secret,
    },
    /// List accounts.
    ListUsers {},
    /// Give an account another password or, without one, make a code with which its holder chooses one.
    ResetPassword {
        /// The address its holder logs in with.
        email: String,
        /// The password.
        password: Option<Secret>,
    },
    /// Make a token.
    CreateToken {
        /// Whose; without it the only account's.
        email: Option<String>,
        /// What it is for.
        client: String,
        /// How long it is good; without it for ever.
        life_s: Option<u64>,
        /// What it may be used for, with blanks between; without it everything.
        scopes: Option<String>,
    },
    /// List tokens.
    ListTokens {
        /// Of this account only.
        email: Option<String>,
    },
    /// End a token.
    RevokeToken {
        /// Its public id, or the token itself.
        token: Secret,
    },
    /// List acts, the newest first.
    ListActs {
        /// Only those before this number.
        before: Option<u64>,
        /// At most so many.
        count: u32,
    },
    /// Say whether the log of acts is as it was written.
    VerifyActs {},
    /// Open every stored secret, and say which master keys they need.
    CheckSecrets {},
    /// Seal every stored secret anew.
    RotateSecrets {},
    /// Remove a master key that no secret needs.
    DropMasterKey {
        /// Its id.
        key: String,
    },
    /// Something about hooks.
    Hook {
        /// What.
        hook: HookRequest,
    },
    /// Say up to where the journal is durable, for a backup beside the server.
    JournalMark {},
    /// Say how the server is.
    Status {},
    /// Say what is wrong, and why.
    Diagnose {},
}

impl Request {
    /// Whether the registry has to answer it.
    pub(super) fn asks_registry(&self) -> bool {
        !matches!(self, Self::JournalMark {} | Self::Status {} | Self::Diagnose {})
    }
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Response {
    /// Devices were registered.
    Added {
        /// These are new.
        added: usize,
        /// These were there already.
        unchanged: usize,
    },
    /// Devices.
    Devices {
        /// In order of their ids.
        devices: Vec<DeviceLine>,
    },
    /// Keys that nobody registered.
    UnknownKeys {
        /// In order of their devices.
        keys: Vec<UnknownKeyLine>,
    },
    /// Devices that talk with keys we no longer hold.
    Orphans {
        /// Those known by their session first.
        orphans: Vec<OrphanLine>,
    },
    /// The pairing window is open.
    Pairing(PairingLine),
    /// Accounts.
    Users {
        /// In order of creation.
        users: Vec<UserLine>,
    },
    /// A code with which the holder of an account chooses another password. The only time it can be seen.
    ResetCode {
        /// The code.
        code: Secret,
        /// When it ends.
        expires_at: String,
    },
    /// Acts.
    Acts {
        /// The newest first.
        acts: Vec<ActLine>,
    },
    /// What the log of acts is worth.
    ActsVerified(ActsVerdict),
    /// A token that was just made. The only time it can be seen.
    Token {
        /// The token.
        token: Secret,
        /// Its public id.
        id: String,
        /// When it ends.
        expires_at: Option<String>,
    },
    /// Tokens.
    Tokens {
        /// The newest first.
        tokens: Vec<TokenLine>,
    },
    /// What secrets are stored.
    Secrets(SecretsReport),
    /// Every secret is sealed anew.
    SecretsRotated(Rotated),
    /// What was asked about hooks.
    Hook {
        /// As it was asked.
        hook: Box<HookAnswer>,
    },
    /// How the server is.
    Status(Status),
    /// What is wrong, and why.
    Diagnosis(Box<Diagnosis>),
    /// Up to where the journal is durable.
    JournalMark {
        /// Number of the segment that is being written.
        segment: u64,
        /// How many bytes of it are synced.
        bytes: u64,
        /// The position that the next event will get.
        next_position: u64,
    },
    /// It is done.
    Done {},
    /// It was not done.
    Refused {
        /// Why.
        error: String,
    },
}

/// A device to register.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSpec {
    /// Its id, 24 hex digits.
    pub id: String,
    /// Where its key comes from.
    pub key: KeySource,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The kind of hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_id: Option<u16>,
    /// The product it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<u32>,
}

/// Where a device's key comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// The key itself: PEM, or Base64 or hex of DER.
    Text(String),
    /// The unknown key that the device has proved; this one if it has proved several.
    Unknown(Option<String>),
}

/// Whose new devices shall be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// The only account's; an error if there are none or several.
    OnlyAccount,
    /// This account's.
    Account(String),
    /// Nobody's.
    Nobody,
}

/// A device in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceLine {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// The address of its owner.
    pub owner: Option<String>,
    /// The product it belongs to.
    pub product: Option<u32>,
    /// The kind of hardware, as registered.
    pub platform_id: Option<u16>,
    /// The hash of its key.
    pub key_hash: Option<String>,
    /// When it was registered.
    pub created_at: String,
    /// What it does now, if a server runs that knows: `online`, `offline`, `asleep until` a time, or `safe mode`.
    #[serde(default)]
    pub status: Option<String>,
}

/// An unknown key in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UnknownKeyLine {
    /// The id its device says it has.
    pub device: String,
    /// Its hash.
    pub key_hash: String,
    /// Its kind.
    pub algorithm: String,
    /// The kind of hardware its device says it is.
    pub platform_id: u16,
    /// When it came first.
    pub first_seen: String,
    /// When it came last.
    pub last_seen: String,
}

/// A device in a list of those that talk with keys we no longer hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OrphanLine {
    /// The registered device that it is or, as far as its address tells, may be. Several where devices share an address.
    pub devices: Vec<String>,
    /// The id of its session, if it sends one.
    pub session: Option<String>,
    /// Where it spoke from last.
    pub address: String,
    /// How many datagrams came.
    pub datagrams: u64,
    /// When it was heard first.
    pub first_heard: String,
    /// When it was heard last.
    pub last_heard: String,
}

/// The pairing window while it is open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PairingLine {
    /// The address of the account it is open for; without it any account.
    pub email: Option<String>,
    /// When it closes.
    pub until: String,
    /// How many devices came through it.
    pub paired: u32,
}

/// An account in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UserLine {
    /// The address its holder logs in with.
    pub email: String,
    /// How many devices it has.
    pub devices: usize,
    /// When it was created.
    pub created_at: String,
}

/// A token in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenLine {
    /// Its public id.
    pub id: String,
    /// The address of the account.
    pub user: Option<String>,
    /// The program it was made for.
    pub client: String,
    /// What it may be used for.
    pub scopes: String,
    /// When it ends.
    pub expires_at: Option<String>,
    /// When it was made.
    pub created_at: String,
}

/// An act in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ActLine {
    /// Its number.
    pub number: u64,
    /// When it was done.
    pub at: String,
    /// Who did it.
    pub who: String,
    /// The address that the request came from.
    pub address: Option<String>,
    /// What was done.
    pub act: String,
    /// To what.
    pub object: String,
    /// More about it.
    pub detail: String,
    /// The hash over this act and the one before it.
    pub hash: String,
}

/// What the log of acts is worth.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum ActsVerdict {
    /// It is as it was written.
    Whole {
        /// How many acts there are.
        rows: u64,
        /// The hash of the last one.
        last_hash: String,
    },
    /// It is not.
    Broken {
        /// The first act that is not as it was written, or is not there.
        number: u64,
        /// What is wrong.
        why: String,
    },
}

/// A text that crosses the socket and shows itself nowhere else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_one_line_that_reads_back() {
        let spec = DeviceSpec { id: "a".into(), key: KeySource::Text("b\nc".into()), name: None, platform_id: Some(12), product: None };
        for request in [
            Request::AddDevices { devices: vec![spec], owner: Owner::Account("a@b".into()) },
            Request::UnknownKeys { open_s: Some(600) },
            Request::AddUser { email: "a@b".into(), password: Secret("secret words".into()) },
            Request::ResetPassword { email: "a@b".into(), password: Some(Secret("secret words".into())) },
            Request::ListUsers {},
        ] {
            let line = serde_json::to_string(&request).expect("it can be written");
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Request>(&line).expect("it reads back"), request);
            assert!(!format!("{request:?}").contains("secret words"));
        }
    }

    #[test]
    fn what_is_no_command_is_not_read() {
        for bad in ["{}", "{\"command\":\"fly\"}", "{\"command\":\"list_users\",\"extra\":1}", "[]"] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
    }
}
