//! Describes: what a device says of its firmware, its application and its vitals (docs/protocol.md), and the blocks they come in.

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::coap::Block;
use crate::session::subscribe::NAME_MAX;
use crate::session::variable::VariableType;

/// Longest describe that is put together, in bytes: devices of the largest kind stay under half of it.
pub const DESCRIBE_MAX: usize = 16 * 1024;
/// Most functions, and most variables, that are taken from one describe.
pub const ENTRIES_MAX: usize = 256;

/// The three kinds of describe.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum DescribeKind {
    /// Modules of the firmware; flag 1.
    System,
    /// Functions and variables; flag 2.
    Application,
    /// Vitals page; flag 4.
    Metrics,
}

impl DescribeKind {
    /// The query byte. A device drops its connection on any other (docs/protocol.md).
    pub fn flag(self) -> u8 {
        match self {
            Self::System => 1,
            Self::Application => 2,
            Self::Metrics => 4,
        }
    }

    /// The kind of a describe that a device posts. Firmware up to 3.2 may post firmware and application in one object, under both flags; it
    /// counts as a system describe, and [`Application::within_system`] finds the rest.
    pub(crate) fn posted_with(flag: u8) -> Option<Self> {
        match flag {
            3 => Some(Self::System),
            flag => Self::from_flag(flag),
        }
    }

    /// The kind with this query byte.
    pub fn from_flag(flag: u8) -> Option<Self> {
        match flag {
            1 => Some(Self::System),
            2 => Some(Self::Application),
            4 => Some(Self::Metrics),
            _ => None,
        }
    }
}

/// Functions and variables of the application. Names stay in the order the device gave them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Application {
    /// Names that can be called.
    pub functions: Vec<String>,
    /// Names that can be read, with their types.
    pub variables: Vec<(String, VariableType)>,
}

#[derive(Deserialize)]
struct ApplicationJson {
    f: Option<Vec<String>>,
    v: Option<Map<String, Json>>,
}

impl Application {
    /// Parses the JSON of an application describe. Entries with impossible names or unknown types are left out.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        ApplicationJson::parse(payload).map(Self::from)
    }

    /// What a system describe says of the application as well: firmware up to 3.2 may put both into one JSON object (docs/protocol.md).
    pub fn within_system(payload: &[u8]) -> Option<Self> {
        let json = payload.starts_with(b"{").then(|| ApplicationJson::parse(payload))??;
        (json.f.is_some() || json.v.is_some()).then(|| json.into())
    }

    /// The JSON, as the device's side sends it.
    pub fn encode(&self) -> Vec<u8> {
        let variables: Map<String, Json> = self.variables.iter().map(|(name, kind)| (name.clone(), kind.number().into())).collect();
        serde_json::json!({ "f": self.functions, "v": variables }).to_string().into_bytes()
    }

    /// Type of the variable `name`.
    pub fn variable(&self, name: &str) -> Option<VariableType> {
        self.variables.iter().find(|(own, _)| own == name).map(|(_, kind)| *kind)
    }

    /// Whether `name` can be called.
    pub fn has_function(&self, name: &str) -> bool {
        self.functions.iter().any(|own| own == name)
    }
}

impl ApplicationJson {
    /// The parser refuses what it would keep if that is nested more than 128 deep, and passes over the rest without recursion.
    fn parse(payload: &[u8]) -> Option<Self> {
        (payload.len() <= DESCRIBE_MAX).then_some(())?;
        serde_json::from_slice(payload).ok()
    }
}

impl From<ApplicationJson> for Application {
    fn from(json: ApplicationJson) -> Self {
        let named = |name: &String| (1..=NAME_MAX).contains(&name.len());
        let typed = |(name, number): (String, Json)| Some((name, VariableType::from_number(number.as_u64()?)?));
        let (functions, variables) = (json.f.unwrap_or_default(), json.v.unwrap_or_default());
        Self {
            functions: functions.into_iter().filter(named).take(ENTRIES_MAX).collect(),
            variables: variables.into_iter().filter_map(typed).filter(|(name, _)| named(name)).take(ENTRIES_MAX).collect(),
        }
    }
}

/// Blocks of one describe being put together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Assembly {
    pub(crate) kind: DescribeKind,
    size_exponent: u8,
    bytes: Vec<u8>,
}

/// What one more block came to.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Assembled {
    /// More are to come.
    Partial,
    /// That was the last.
    Complete(Vec<u8>),
    /// It does not continue what is there.
    Stray,
    /// More than [`DESCRIBE_MAX`].
    TooLong,
}

impl Assembly {
    /// Takes `block` of a describe of `kind` into `slot`. Block 0 starts anew; a repeated block changes nothing.
    pub(crate) fn take(slot: &mut Option<Self>, kind: DescribeKind, block: Block, payload: &[u8]) -> Assembled {
        if block.number == 0 {
            *slot = Some(Self { kind, size_exponent: block.size_exponent, bytes: Vec::new() });
        }
        let Some(assembly) = slot.as_mut().filter(|own| own.kind == kind && own.size_exponent == block.size_exponent) else {
            return Assembled::Stray;
        };
        let full = block.size();
        let offset = full * usize::try_from(block.number).unwrap_or(usize::MAX >> 16);
        if payload.len() > full || block.more && payload.len() != full || offset > assembly.bytes.len() {
            return Assembled::Stray;
        }
        if offset + payload.len() > DESCRIBE_MAX {
            *slot = None;
            return Assembled::TooLong;
        }
        if offset == assembly.bytes.len() {
            assembly.bytes.extend_from_slice(payload);
        }
        match block.more {
            true => Assembled::Partial,
            false => slot.take().map_or(Assembled::Stray, |assembly| Assembled::Complete(assembly.bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_application_describe_parses() {
        let application = Application::parse(br#"{"f":["fn"],"v":{"i":2,"d":9,"b":1,"s":4,"odd":7,"":2}}"#).unwrap();
        assert!(application.has_function("fn") && !application.has_function("i"));
        assert_eq!(application.variables.len(), 4);
        assert_eq!(application.variable("d"), Some(VariableType::Double));
        assert_eq!(Application::parse(&application.encode()), Some(application));
        assert_eq!(Application::parse(b"{}"), Some(Application::default()));
        assert_eq!(Application::parse(b"[1"), None);
    }

    fn block(number: u32, more: bool) -> Block {
        Block { number, more, size_exponent: 0 }
    }

    #[test]
    fn blocks_join_in_order_and_repeats_change_nothing() {
        let (mut slot, kind) = (None, DescribeKind::Application);
        assert_eq!(Assembly::take(&mut slot, kind, block(0, true), &[1; 16]), Assembled::Partial);
        assert_eq!(Assembly::take(&mut slot, kind, block(1, true), &[2; 16]), Assembled::Partial);
        assert_eq!(Assembly::take(&mut slot, kind, block(1, true), &[2; 16]), Assembled::Partial);
        let whole = [vec![1; 16], vec![2; 16], vec![3]].concat();
        assert_eq!(Assembly::take(&mut slot, kind, block(2, false), &[3]), Assembled::Complete(whole));
        assert_eq!(slot, None);
    }

    #[test]
    fn blocks_that_do_not_continue_are_strays() {
        let (mut slot, kind) = (None, DescribeKind::System);
        assert_eq!(Assembly::take(&mut slot, kind, block(1, false), &[1]), Assembled::Stray);
        assert_eq!(Assembly::take(&mut slot, kind, block(0, true), &[1; 16]), Assembled::Partial);
        assert_eq!(Assembly::take(&mut slot, kind, block(2, true), &[1; 16]), Assembled::Stray);
        assert_eq!(Assembly::take(&mut slot, DescribeKind::Application, block(1, false), &[1]), Assembled::Stray);
        assert_eq!(Assembly::take(&mut slot, kind, block(1, true), &[1; 15]), Assembled::Stray);
        assert_eq!(Assembly::take(&mut slot, kind, block(1, false), &[1; 17]), Assembled::Stray);
    }

    #[test]
    fn a_describe_has_a_limit() {
        let (mut slot, kind) = (None, DescribeKind::System);
        let whole =
            (0..).map(|n| Assembly::take(&mut slot, kind, block(n, true), &[0; 16])).take_while(|a| *a == Assembled::Partial).count();
        assert_eq!(whole * 16, DESCRIBE_MAX);
        assert_eq!(slot, None);
    }
}
