//! Modules of a device's firmware, as its system describe lists them (docs/protocol.md): Protocol Buffers since Device OS 5.5, JSON before.
//!
//! Only what tells whether the application has everything it needs is read: a device whose application lacks something is in safe mode.

use serde::Deserialize;
use serde_json::Value as Json;

/// Most modules that are taken from one describe, and most things that one module needs.
pub const MODULES_MAX: usize = 64;

/// What a module is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModuleKind {
    /// All of the system in one.
    Monolithic,
    /// A part of the system.
    System,
    /// The application.
    Application,
    /// Anything else, by its number in firmware.
    Other(u32),
}

/// A module that another needs: at least this version of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Need {
    /// What it is.
    pub kind: ModuleKind,
    /// Which of its kind.
    pub index: u32,
    /// The lowest version that will do.
    pub version: u32,
}

/// A module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Module {
    /// What it is.
    pub kind: ModuleKind,
    /// Which of its kind.
    pub index: u32,
    /// Its version.
    pub version: u32,
    /// Whether it stands where it runs, not in a backup.
    pub runs: bool,
    /// What it needs.
    pub needs: Vec<Need>,
}

/// The modules of one device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Modules(Vec<Module>);

impl Modules {
    /// Reads a system describe of either age; `None` if it is none. Modules beyond [`MODULES_MAX`] are left out.
    pub fn parse(describe: &[u8]) -> Option<Self> {
        match describe.first() {
            Some(b'{') => Self::parse_json(describe),
            _ => Self::parse_protobuf(describe),
        }
    }

    /// The modules, in the device's order.
    pub fn iter(&self) -> impl Iterator<Item = &Module> {
        self.0.iter()
    }

    /// What the application needs and the device does not have. Anything at all means safe mode.
    pub fn missing(&self) -> impl Iterator<Item = Need> + '_ {
        let running = |kind| self.0.iter().filter(move |module| module.runs && module.kind == kind);
        let there = move |need: &Need| running(need.kind).any(|own| own.index == need.index && own.version >= need.version);
        let applications = self.0.iter().filter(|module| module.runs && module.kind == ModuleKind::Application);
        applications.flat_map(|module| module.needs.iter().copied()).filter(move |need| !there(need))
    }

    fn parse_protobuf(describe: &[u8]) -> Option<Self> {
        let mut modules = Vec::new();
        for field in Fields(describe) {
            let (number, value) = field?;
            if let (1, Value::Bytes(bytes)) = (number, value)
                && modules.len() < MODULES_MAX
            {
                modules.push(Module::parse(bytes)?);
            }
        }
        Some(Self(modules))
    }

    fn parse_json(describe: &[u8]) -> Option<Self> {
        let json: DescribeJson = serde_json::from_slice(describe).ok()?;
        Some(Self(json.m.into_iter().take(MODULES_MAX).filter_map(ModuleJson::module).collect()))
    }
}

impl Module {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (base, mut store, mut needs) = (Need::parse(bytes)?, 0, Vec::new());
        for field in Fields(bytes) {
            match field? {
                (4, Value::Number(number)) => store = number,
                (9, Value::Bytes(bytes)) if needs.len() < MODULES_MAX => needs.push(Need::parse(bytes)?),
                _ => {}
            }
        }
        // A dependency of no kind stands for none.
        needs.retain(|need| need.kind != ModuleKind::Other(0));
        Some(Self { kind: base.kind, index: base.index, version: base.version, runs: store == 0, needs })
    }
}

impl Need {
    /// Modules and what they need begin with the same three fields.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut need = Self { kind: ModuleKind::Other(0), index: 0, version: 0 };
        for field in Fields(bytes) {
            if let (number, Value::Number(value)) = field? {
                let value = u32::try_from(value).unwrap_or(u32::MAX);
                match number {
                    1 => need.kind = ModuleKind::from_number(value),
                    2 => need.index = value,
                    3 => need.version = value,
                    _ => {}
                }
            }
        }
        Some(need)
    }
}

impl ModuleKind {
    fn from_number(number: u32) -> Self {
        match number {
            3 => Self::Monolithic,
            4 => Self::System,
            5 => Self::Application,
            other => Self::Other(other),
        }
    }

    /// The letter of the older describes; `n` stands for none.
    fn from_letter(letter: &str) -> Option<Self> {
        Some(match letter {
            "r" => Self::Other(1),
            "b" => Self::Other(2),
            "m" => Self::Monolithic,
            "s" => Self::System,
            "u" => Self::Application,
            "c" => Self::Other(7),
            "a" => Self::Other(8),
            _ => return None,
        })
    }
}

/// A value of Protocol Buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes that mean nothing here.
    Fixed,
}

/// The fields of a message of Protocol Buffers. After `None` inside, which is damage, there is nothing more.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u32, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| {
            let field = self.field();
            if field.is_none() {
                self.0 = &[];
            }
            field
        })
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((u32::try_from(tag >> 3).ok()?, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.take(1)? else { return None };
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }
}

#[derive(Deserialize)]
struct DescribeJson {
    #[serde(default)]
    m: Vec<ModuleJson>,
}

/// Names, indices and versions come as numbers or as texts, by age.
#[derive(Deserialize)]
struct ModuleJson {
    #[serde(default)]
    l: Option<String>,
    #[serde(flatten)]
    base: NeedJson,
    #[serde(default)]
    d: Vec<NeedJson>,
}

#[derive(Deserialize)]
struct NeedJson {
    #[serde(default)]
    f: Option<String>,
    #[serde(default)]
    n: Json,
    #[serde(default)]
    v: Json,
}

impl ModuleJson {
    fn module(self) -> Option<Module> {
        let Need { kind, index, version } = self.base.need()?;
        let needs = self.d.iter().take(MODULES_MAX).filter_map(NeedJson::need).collect();
        Some(Module { kind, index, version, runs: self.l.is_none_or(|place| place == "m"), needs })
    }
}

impl NeedJson {
    fn need(&self) -> Option<Need> {
        let kind = ModuleKind::from_letter(self.f.as_deref()?)?;
        Some(Need { kind, index: number(&self.n), version: number(&self.v) })
    }
}

fn number(json: &Json) -> u32 {
    let number = json.as_u64().or_else(|| json.as_str()?.parse().ok()).unwrap_or(0);
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The describe of a virtual Boron whose application needs a newer system.
    const SAFE_MODE: &str = "0a19080218bd092880808005351e0000003d1e00000058848080050a220804100118b8302880808005351e0000003d1e0000004a05080218bd0958\
                             848080050a450805100118062880808005351e0000003d1e00000042200000000000000000000000000000000000000000000000000000000000000\
                             0004a070804100118a8465884808005";

    fn missing(describe: &[u8]) -> Option<Vec<Need>> {
        Some(Modules::parse(describe)?.missing().collect())
    }

    #[test]
    fn the_recorded_describe_of_a_device_in_safe_mode_is_read() {
        let modules = Modules::parse(&hex::decode(SAFE_MODE).unwrap()).unwrap();
        let seen: Vec<_> = modules.iter().map(|module| (module.kind, module.index, module.version, module.runs)).collect();
        let expected = [(ModuleKind::Other(2), 0, 1213), (ModuleKind::System, 1, 6200), (ModuleKind::Application, 1, 6)];
        assert_eq!(seen, expected.map(|(kind, index, version)| (kind, index, version, true)));
        let need = Need { kind: ModuleKind::System, index: 1, version: 9000 };
        assert_eq!(modules.missing().collect::<Vec<_>>(), [need]);
    }

    #[test]
    fn a_device_that_has_what_its_application_needs_lacks_nothing() {
        let sound = SAFE_MODE.replace("18a846", "18b830");
        assert_eq!(missing(&hex::decode(sound).unwrap()), Some(vec![]));
        assert_eq!(missing(&[0x0a, 0x00]), Some(vec![]), "a module of which nothing is said");
        assert_eq!(missing(&[]), Some(vec![]));
    }

    #[test]
    fn older_describes_are_read() {
        let describe = |version: &str, place: &str| {
            format!(
                r#"{{"p":6,"m":[{{"s":16384,"l":"m","vc":30,"vv":30,"f":"b","n":"0","v":5,"d":[]}},
                {{"s":1,"l":"{place}","f":"s","n":"2","v":{version},"d":[{{"f":"s","n":"1","v":1512,"_":""}}]}},
                {{"s":1,"l":"m","u":"00","f":"u","n":"1","v":6,"d":[{{"f":"s","n":"2","v":1512}},{{"f":"n"}}]}},{{}}]}}"#
            )
        };
        assert_eq!(missing(describe("1512", "m").as_bytes()), Some(vec![]));
        assert_eq!(missing(describe("\"1600\"", "m").as_bytes()), Some(vec![]), "whatever the system needs is its own business");
        for (version, place) in [("1511", "m"), ("1512", "b")] {
            assert_eq!(missing(describe(version, place).as_bytes()).unwrap().len(), 1, "{version} {place}");
        }
        assert_eq!(missing(br#"{"f":[],"v":{}}"#), Some(vec![]));
    }

    #[test]
    fn what_is_cut_or_something_else_is_no_describe_and_much_is_bounded() {
        let whole = hex::decode(SAFE_MODE).unwrap();
        let whole_parts = [0, 27, 63, whole.len()];
        for len in (0..whole.len()).filter(|len| !whole_parts.contains(len)) {
            assert_eq!(Modules::parse(&whole[..len]), None, "{len}");
        }
        for bad in
            [&b"{"[..], b"{\"m\":1}", b"\x0b", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"]
        {
            assert_eq!(Modules::parse(bad), None, "{bad:?}");
        }
        assert_eq!(Modules::parse(&[0x0a, 0x00].repeat(1000)).unwrap().iter().count(), MODULES_MAX);
    }
}
