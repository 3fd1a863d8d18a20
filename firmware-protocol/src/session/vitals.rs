//! Vitals: what a device measures about itself, as the page of a metrics describe carries it (docs/protocol.md).
//!
//! A page names its readings by number only. What a number stands for is in a table here; numbers it does not have are kept all the same.

/// Most readings that are taken from one page. Firmware has about fifty.
pub const READINGS_MAX: usize = 256;

/// Marker of binary data, then the type of the page, the size of an id and the size of a value, little-endian.
const HEADER: [u8; 7] = [0, 4, 0, 2, 0, 4, 0];
/// Bytes of one reading.
const READING_LEN: usize = 6;
/// With this bit a vital of the system could not be read. Ids of the application's own vitals have it always.
const FAILED: u16 = 0x8000;
/// Where the error codes of firmware are.
const ERRORS: std::ops::RangeInclusive<i32> = -9_999..=-1;

/// Number of a vital. From 32 768 on they are the application's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VitalId(pub u16);

/// What a vital was when the page was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// 32 bits, to be read by [`VitalId::unit`].
    Value(i32),
    /// It could not be read, for the reason with this error code of firmware.
    Failed(i32),
}

/// How the 32 bits of a reading are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// A number, or a code that stands for something.
    Number,
    /// Bytes of memory.
    Bytes,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Percent in 256ths.
    Percent,
    /// dBm in 65 536ths.
    Dbm,
    /// 65 536ths of what the access technology measures its quality in.
    Quality,
}

/// The readings of one page, in its order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Vitals {
    readings: Vec<(VitalId, Reading)>,
}

/// Vitals of the system, in order of their numbers.
const KNOWN: [(u16, &str, Unit); 46] = [
    (1, "sys:reset", Unit::Number),
    (2, "mem:free", Unit::Bytes),
    (3, "batt:soc", Unit::Percent),
    (4, "sys:loop", Unit::Number),
    (5, "app:loop", Unit::Number),
    (6, "sys:uptime", Unit::Seconds),
    (7, "batt:state", Unit::Number),
    (8, "net:stat", Unit::Number),
    (9, "net:err", Unit::Number),
    (10, "cloud:stat", Unit::Number),
    (12, "net:dconn", Unit::Number),
    (13, "cloud:err", Unit::Number),
    (14, "cloud:dconn", Unit::Number),
    (15, "net:ip:addr", Unit::Number),
    (16, "net:ip:gw", Unit::Number),
    (17, "net:flags", Unit::Number),
    (18, "net:cntry", Unit::Number),
    (19, "net:rssi", Unit::Number),
    (20, "pub:limit", Unit::Number),
    (21, "coap:retransmit", Unit::Number),
    (22, "coap:unack", Unit::Number),
    (23, "coap:transmit", Unit::Number),
    (24, "pwr:src", Unit::Number),
    (25, "sys:tram", Unit::Bytes),
    (26, "sys:uram", Unit::Bytes),
    (27, "net:connatt", Unit::Number),
    (28, "net:dconnrsn", Unit::Number),
    (29, "cloud:connatt", Unit::Number),
    (30, "cloud:dconnrsn", Unit::Number),
    (31, "coap:roundtrip", Unit::Milliseconds),
    (33, "net:sigstr", Unit::Percent),
    (34, "net:sigqual", Unit::Percent),
    (35, "net:sigqualv", Unit::Quality),
    (36, "net:at", Unit::Number),
    (37, "net:sigstrv", Unit::Dbm),
    (40, "net:cell:cgi:mcc", Unit::Number),
    (41, "net:cell:cgi:mnc", Unit::Number),
    (42, "net:cell:cgi:lac", Unit::Number),
    (43, "net:cell:cgi:ci", Unit::Number),
    (44, "cloud:connif", Unit::Number),
    (45, "net:alt:sigstrv", Unit::Dbm),
    (46, "net:alt:sigstr", Unit::Percent),
    (47, "net:alt:sigqual", Unit::Percent),
    (48, "net:alt:sigqualv", Unit::Quality),
    (49, "net:alt:at", Unit::Number),
    (60, "sys:protected", Unit::Number),
];

impl VitalId {
    /// Its name in firmware, if it is one of the system's.
    pub fn name(self) -> Option<&'static str> {
        self.known().map(|(_, name, _)| *name)
    }

    /// How its readings are meant. What is not known is a number.
    pub fn unit(self) -> Unit {
        self.known().map_or(Unit::Number, |(_, _, unit)| *unit)
    }

    /// Whether it is one of the application's own.
    pub fn is_application(self) -> bool {
        self.0 & FAILED != 0
    }

    fn known(self) -> Option<&'static (u16, &'static str, Unit)> {
        KNOWN.binary_search_by_key(&self.0, |(id, _, _)| *id).ok().map(|at| &KNOWN[at])
    }
}

impl Unit {
    /// What `bits` stand for in this unit. Exact: every one of them is a 64-bit float.
    pub fn amount(self, bits: i32) -> f64 {
        match self {
            Self::Number | Self::Bytes | Self::Seconds | Self::Milliseconds => bits.into(),
            Self::Percent => f64::from(bits) / 256.0,
            Self::Dbm | Self::Quality => f64::from(bits) / 65_536.0,
        }
    }
}

impl Vitals {
    /// Reads a page; `None` if it is of another kind or cut short. Readings beyond [`READINGS_MAX`] are left out.
    ///
    /// The bit of a failed reading is also the highest bit of the application's own ids. A number with this bit is a failed reading of the
    /// system's vital below if there is such a vital, the page does not have it otherwise, and the value is an error code.
    pub fn parse(page: &[u8]) -> Option<Self> {
        let (entries, []) = page.strip_prefix(&HEADER)?.as_chunks::<READING_LEN>() else { return None };
        let entries = &entries[..entries.len().min(READINGS_MAX)];
        let mut system = [0_u64; 512];
        let (word, bit) = (|id: u16| usize::from(id / 64), |id: u16| 1_u64 << (id % 64));
        let taken = entries.iter().map(split).filter(|(id, _)| id & FAILED == 0);
        taken.for_each(|(id, _)| system[word(id)] |= bit(id));
        let reading = |entry: &[u8; READING_LEN]| {
            let (id, value) = split(entry);
            let below = VitalId(id & !FAILED);
            let free = system[word(below.0)] & bit(below.0) == 0;
            match id & FAILED != 0 && free && below.name().is_some() && ERRORS.contains(&value) {
                true => (below, Reading::Failed(value)),
                false => (VitalId(id), Reading::Value(value)),
            }
        };
        Some(Self { readings: entries.iter().map(reading).collect() })
    }

    /// The page, as the device's side sends it.
    pub fn encode(&self) -> Vec<u8> {
        let mut page = HEADER.to_vec();
        for (id, reading) in &self.readings {
            let (id, value) = match reading {
                Reading::Value(value) => (id.0, value),
                Reading::Failed(error) => (id.0 | FAILED, error),
            };
            page.extend_from_slice(&id.to_le_bytes());
            page.extend_from_slice(&value.to_le_bytes());
        }
        page
    }

    /// Readings in the order of the page.
    pub fn iter(&self) -> impl Iterator<Item = (VitalId, Reading)> + '_ {
        self.readings.iter().copied()
    }

    /// The reading of a vital, the first if the page has several.
    pub fn reading(&self, id: VitalId) -> Option<Reading> {
        self.iter().find(|(own, _)| *own == id).map(|(_, reading)| reading)
    }
}

impl FromIterator<(VitalId, Reading)> for Vitals {
    fn from_iter<I: IntoIterator<Item = (VitalId, Reading)>>(readings: I) -> Self {
        Self { readings: readings.into_iter().take(READINGS_MAX).collect() }
    }
}

fn split(entry: &[u8; READING_LEN]) -> (u16, i32) {
    let [low, high, a, b, c, d] = *entry;
    (u16::from_le_bytes([low, high]), i32::from_le_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The page of a virtual device with Device OS 6.2.
    const PAGE: &str = "000400020004000600180000000800040000000900000000000a00020000000c00000000000d00000000000e000000000014000000000015000000\
                        000016000000000017002200000019809cffffff1a809cffffff1b00010000001c00000000001d00010000001e00000000001f0002000000218\
                        09cffffff22809cffffff23809cffffff24000100000025809cffffff3c0000000000";

    fn page(entries: &[(u16, i32)]) -> Vec<u8> {
        let entry = |(id, value): &(u16, i32)| [&id.to_le_bytes()[..], &value.to_le_bytes()].concat();
        [&HEADER[..], &entries.iter().flat_map(entry).collect::<Vec<_>>()].concat()
    }

    #[test]
    fn the_recorded_page_is_read_whole() {
        let recorded = hex::decode(PAGE).unwrap();
        let vitals = Vitals::parse(&recorded).unwrap();
        assert_eq!((recorded.len(), vitals.iter().count()), (151, 24));
        assert_eq!(vitals.encode(), recorded);
        let reading = |id| vitals.reading(VitalId(id));
        assert_eq!((reading(6), reading(23), reading(10)), (Some(Reading::Value(24)), Some(Reading::Value(34)), Some(Reading::Value(2))));
        assert_eq!((reading(25), reading(37), reading(3)), (Some(Reading::Failed(-100)), Some(Reading::Failed(-100)), None));
        assert!(vitals.iter().all(|(id, _)| id.name().is_some()), "all of them are the system's");
    }

    #[test]
    fn names_and_units_are_those_of_firmware() {
        let of = |id| (VitalId(id).name(), VitalId(id).unit());
        assert_eq!((of(6), of(31)), ((Some("sys:uptime"), Unit::Seconds), (Some("coap:roundtrip"), Unit::Milliseconds)));
        assert_eq!((of(3), of(37)), ((Some("batt:soc"), Unit::Percent), (Some("net:sigstrv"), Unit::Dbm)));
        assert_eq!((of(11), of(0x8001)), ((None, Unit::Number), (None, Unit::Number)));
        assert!(KNOWN.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!((Unit::Percent.amount(0x4280), Unit::Dbm.amount(-71 * 65_536 - 32_768)), (66.5, -71.5));
        assert_eq!(Unit::Number.amount(i32::MIN), -2_147_483_648.0);
    }

    #[test]
    fn what_is_the_applications_is_told_from_what_failed() {
        let read = |entries: &[(u16, i32)]| Vitals::parse(&page(entries)).unwrap().iter().collect::<Vec<_>>();
        let (failed, value) = (|id, error| (VitalId(id), Reading::Failed(error)), |id, value| (VitalId(id), Reading::Value(value)));
        assert_eq!(read(&[(0x8019, -100)]), [failed(25, -100)]);
        assert_eq!(read(&[(0x8019, 7)]), [value(0x8019, 7)], "not an error code");
        assert_eq!(read(&[(0x8001 + 90, -100)]), [value(0x8001 + 90, -100)], "the system has no vital 91");
        assert_eq!(read(&[(0x8019, -100), (25, 4096)]), [value(0x8019, -100), value(25, 4096)], "the system's is there already");
        assert_eq!(read(&[(0xffff, i32::MIN)]), [value(0xffff, i32::MIN)]);
    }

    #[test]
    fn other_pages_and_cut_ones_are_refused_and_long_ones_bounded() {
        let whole = hex::decode(PAGE).unwrap();
        for len in (0..whole.len()).filter(|len| *len < 7 || (len - 7) % 6 != 0) {
            assert_eq!(Vitals::parse(&whole[..len]), None, "{len}");
        }
        for at in 0..7 {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert_eq!(Vitals::parse(&other), None, "{at}");
        }
        assert_eq!(Vitals::parse(&page(&[])), Some(Vitals::default()));
        assert_eq!(Vitals::parse(&page(&[(1, 1); 3000])).unwrap().iter().count(), READINGS_MAX);
    }

    proptest! {
        #[test]
        fn every_page_means_the_same_after_it_was_encoded_again(entries in prop::collection::vec((0u16.., any::<i32>()), 0..40)) {
            let vitals = Vitals::parse(&page(&entries)).unwrap();
            prop_assert_eq!(vitals.encode(), page(&entries));
        }
    }
}
