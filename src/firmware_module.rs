//! The numbers in a firmware binary: for which hardware it was built, and as which version of which product.
//!
//! A module begins with 24 bytes that say where it is loaded and what it is, and ends with a suffix whose length stands before the CRC-32 at the very end
//! (Device OS, `module_info.h`). All numbers but the CRC are little-endian. Nothing of a module is executed here, and nothing but these numbers is read.

use crc::{CRC_32_ISO_HDLC, Crc};
use thiserror::Error;

/// Offset of the kind of hardware in the prefix.
const PLATFORM_AT: usize = 12;
/// Offset of what kind of module it is.
const FUNCTION_AT: usize = 14;
const PREFIX_LEN: usize = 24;
/// The kind that applications have.
const USER_PART: u8 = 5;
const CRC_LEN: usize = 4;
/// From the start of an application's suffix: the product, and the version of it.
const PRODUCT_AT: usize = 0;
const VERSION_AT: usize = 2;
/// Length of that suffix: two numbers, a reserved one, SHA-256 and its own length.
const SUFFIX_LEN: usize = 40;
/// What stands for no number.
const NONE: u16 = u16::MAX;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// An application.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Application {
    /// The kind of hardware.
    pub platform_id: u16,
    /// The product it was built for, if that was said.
    pub product: Option<u16>,
    /// Its version within that.
    pub version: Option<u16>,
}

/// Bytes that are no application.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NotAnApplication {
    /// Too short, or its parts do not fit.
    #[error("the file is no firmware")]
    Malformed,
    /// Some bytes are others than were built.
    #[error("the firmware is damaged: its checksum is wrong")]
    Damaged,
    /// A part of Device OS, or a bootloader.
    #[error("the firmware is no application")]
    OtherModule,
}

/// Reads the numbers of an application.
///
/// # Errors
/// It is none, or damaged.
pub fn application(bytes: &[u8]) -> Result<Application, NotAnApplication> {
    use NotAnApplication::{Damaged, Malformed, OtherModule};
    let (rest, crc) = bytes.split_last_chunk::<CRC_LEN>().ok_or(Malformed)?;
    if rest.len() < PREFIX_LEN + SUFFIX_LEN {
        return Err(Malformed);
    }
    if CRC.checksum(rest) != u32::from_be_bytes(*crc) {
        return Err(Damaged);
    }
    if rest[FUNCTION_AT] != USER_PART {
        return Err(OtherModule);
    }
    let suffix = &rest[rest.len() - SUFFIX_LEN..];
    if usize::from(number(suffix, SUFFIX_LEN - 2)) != SUFFIX_LEN {
        return Err(Malformed);
    }
    let said = |at| Some(number(suffix, at)).filter(|number| *number != NONE);
    Ok(Application { platform_id: number(rest, PLATFORM_AT), product: said(PRODUCT_AT), version: said(VERSION_AT) })
}

fn number(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.extend(CRC.checksum(&bytes).to_be_bytes());
        bytes
    }

    fn built(platform: u16, function: u8, product: u16, version: u16) -> Vec<u8> {
        let mut bytes = vec![0x5a; 300];
        bytes[PLATFORM_AT..PLATFORM_AT + 2].copy_from_slice(&platform.to_le_bytes());
        bytes[FUNCTION_AT] = function;
        bytes.extend(product.to_le_bytes());
        bytes.extend(version.to_le_bytes());
        bytes.extend([0; 34]);
        bytes.extend(40_u16.to_le_bytes());
        sealed(bytes)
    }

    #[test]
    fn an_application_says_what_it_was_built_for() {
        let read = application(&built(13, USER_PART, 10_001, 7));
        assert_eq!(read, Ok(Application { platform_id: 13, product: Some(10_001), version: Some(7) }));
        let read = application(&built(32, USER_PART, 0xffff, 0xffff));
        assert_eq!(read, Ok(Application { platform_id: 32, product: None, version: None }));
    }

    #[test]
    fn what_is_none_is_told_apart() {
        assert_eq!(application(b""), Err(NotAnApplication::Malformed));
        assert_eq!(application(&[0; 67]), Err(NotAnApplication::Malformed));
        assert_eq!(application(&built(13, 4, 0, 0)), Err(NotAnApplication::OtherModule));
        let mut damaged = built(13, USER_PART, 1, 1);
        damaged[100] ^= 1;
        assert_eq!(application(&damaged), Err(NotAnApplication::Damaged));
        let mut odd = built(13, USER_PART, 1, 1);
        odd.truncate(odd.len() - CRC_LEN - 2);
        assert_eq!(application(&sealed([odd, vec![41, 0]].concat())), Err(NotAnApplication::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = application(&sealed(bytes.clone()));
            prop_assert!(application(&bytes).is_err());
        }
    }
}
