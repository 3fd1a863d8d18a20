//! Who changes the registry, for the log of acts.

use std::fmt;
use std::net::IpAddr;

use firmware_protocol::id::{DeviceId, OwnerId, ProductId};

use super::{ApiUserId, ClientNumber, Holder};

/// Somebody who acts, and from where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Actor {
    /// Who it is.
    pub who: Who,
    /// The address that the request came from, if it came over a network.
    pub address: Option<IpAddr>,
}

/// Who acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// The server by itself, or somebody that nobody named.
    Server,
    /// Whoever may type commands where the data directory is.
    Operator,
    /// An account.
    User(OwnerId),
    /// An API user of a product.
    ApiUser(ProductId, ApiUserId),
    /// An OAuth client.
    Client(ClientNumber),
    /// A device that proved its key.
    Device(DeviceId),
    /// Somebody without a token: who signs up, or has a code.
    Stranger,
}

impl Actor {
    /// The server by itself.
    pub const SERVER: Self = Self { who: Who::Server, address: None };
    /// Whoever types commands.
    pub const OPERATOR: Self = Self { who: Who::Operator, address: None };

    /// Somebody over the network.
    pub fn at(who: Who, address: IpAddr) -> Self {
        Self { who, address: Some(address) }
    }
}

impl From<Who> for Actor {
    fn from(who: Who) -> Self {
        Self { who, address: None }
    }
}

impl From<&Holder> for Who {
    fn from(holder: &Holder) -> Self {
        match *holder {
            Holder::User(user) => Self::User(user),
            Holder::ApiUser { product, id } => Self::ApiUser(product, id),
            Holder::Client { number, .. } => Self::Client(number),
        }
    }
}

/// As the log has it.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("server"),
            Self::Operator => f.write_str("operator"),
            Self::User(user) => write!(f, "user:{}", user.0),
            Self::ApiUser(product, id) => write!(f, "api-user:{}/{}", product.0, id.0),
            Self::Client(number) => write!(f, "client:{}", number.0),
            Self::Device(device) => write!(f, "device:{device}"),
            Self::Stranger => f.write_str("stranger"),
        }
    }
}
