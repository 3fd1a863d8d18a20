//! Frames: CoAP messages on a byte stream (docs/protocol.md).
//!
//! `length (2, big-endian) ‖ AES-128-CBC(message)`. Each direction has an initial vector of its own, which becomes the *first* ciphertext block of
//! each frame. There is no code and no number: what is out of order or forged shows as wrong padding, and is the end of the connection.

use thiserror::Error;

use crate::crypto::{BLOCK_LEN, Cbc};
use crate::tcp::handshake::SessionSecret;

/// Longest ciphertext a device sends, in bytes.
pub const FROM_DEVICE_MAX: usize = 1136;
/// Longest ciphertext any device takes, in bytes: a buffer of 1152 less 18.
pub const TO_DEVICE_MAX: usize = 1120;
/// Longest ciphertext for firmware whose Hello does not tell its buffer, in bytes.
pub const TO_OLD_DEVICE_MAX: usize = 768;
const HEADER_LEN: usize = 2;
/// What a device's buffer holds besides the ciphertext.
const BUFFER_OVERHEAD: usize = 18;

/// Why a stream cannot go on, or a message not be sent.
#[derive(Debug, Error, PartialEq, Eq, Hash, Clone, Copy)]
pub enum FrameError {
    /// The length is 0, not in whole blocks, or more than is allowed.
    #[error("a frame has an impossible length")]
    Length,
    /// Not encrypted with this session's key, or not in this place of the stream.
    #[error("a frame does not decrypt")]
    Padding,
    /// The message is longer than the device's buffer.
    #[error("the message is longer than a frame takes")]
    TooLong,
}

/// Longest message for a device whose Hello says `message_max`, in bytes. What a frame of one block holds always fits: nothing is shorter.
pub fn message_len_max(message_max: Option<u16>) -> u16 {
    let ciphertext = match message_max {
        Some(max) => usize::from(max).saturating_sub(BUFFER_OVERHEAD).clamp(BLOCK_LEN, TO_DEVICE_MAX),
        None => TO_OLD_DEVICE_MAX,
    };
    // Padding takes a byte at least.
    u16::try_from(ciphertext / BLOCK_LEN * BLOCK_LEN - 1).unwrap_or_default()
}

/// Takes messages out of a byte stream that comes in any pieces.
#[derive(Debug)]
pub struct FrameReader {
    direction: Direction,
    ciphertext_max: usize,
    /// The beginning of a frame that is not whole: at most one frame.
    partial: Vec<u8>,
}

/// Puts messages on a byte stream.
#[derive(Debug)]
pub struct FrameWriter {
    direction: Direction,
    ciphertext_max: usize,
}

/// Key and initial vector of one direction.
struct Direction {
    key: [u8; 16],
    vector: [u8; BLOCK_LEN],
}

impl std::fmt::Debug for Direction {
    /// Never shows key bytes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Direction(..)")
    }
}

impl Direction {
    fn new(secret: &SessionSecret) -> Self {
        Self { key: secret.key(), vector: secret.initial_vector() }
    }

    fn advance(&mut self, ciphertext: &[u8]) {
        if let Some(first) = ciphertext.first_chunk() {
            self.vector = *first;
        }
    }
}

impl FrameReader {
    /// For the first frame after the handshake. No frame may have more than `ciphertext_max` bytes of ciphertext.
    pub fn new(secret: &SessionSecret, ciphertext_max: usize) -> Self {
        Self { direction: Direction::new(secret), ciphertext_max, partial: Vec::new() }
    }

    /// The next message, taken from the front of `bytes`; `None` if its end has not come yet, and then all of `bytes` is taken. After an error
    /// the stream has no meaning any more.
    pub fn take(&mut self, cipher: &mut Cbc, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        if self.partial.is_empty()
            && let Some(len) = self.frame_len(bytes)?
            && let Some((frame, rest)) = bytes.split_at_checked(len)
        {
            *bytes = rest;
            return self.open(cipher, &frame[HEADER_LEN..]).map(Some);
        }
        self.fill(bytes, HEADER_LEN);
        let Some(len) = self.frame_len(&self.partial)? else { return Ok(None) };
        self.fill(bytes, len);
        if self.partial.len() < len {
            return Ok(None);
        }
        // Between frames nothing is held.
        let frame = std::mem::take(&mut self.partial);
        self.open(cipher, &frame[HEADER_LEN..]).map(Some)
    }

    /// Length of the frame that begins with `bytes`, if its header is there.
    fn frame_len(&self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(header) = bytes.first_chunk() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes(*header));
        let possible = (1..=self.ciphertext_max).contains(&len) && len.is_multiple_of(BLOCK_LEN);
        possible.then_some(Some(HEADER_LEN + len)).ok_or(FrameError::Length)
    }

    fn fill(&mut self, bytes: &mut &[u8], len: usize) {
        let missing = len.saturating_sub(self.partial.len());
        let (head, rest) = bytes.split_at(missing.min(bytes.len()));
        self.partial.extend_from_slice(head);
        *bytes = rest;
    }

    fn open(&mut self, cipher: &mut Cbc, ciphertext: &[u8]) -> Result<Vec<u8>, FrameError> {
        let message = cipher.open(&self.direction.key, &self.direction.vector, ciphertext).ok_or(FrameError::Padding)?;
        self.direction.advance(ciphertext);
        Ok(message)
    }
}

impl FrameWriter {
    /// For the first frame after the handshake, to a receiver that takes `ciphertext_max` bytes of ciphertext.
    pub fn new(secret: &SessionSecret, ciphertext_max: usize) -> Self {
        Self { direction: Direction::new(secret), ciphertext_max }
    }

    /// The whole frame for `message`. It is to be written in one piece: a device that finds one byte of a header alone loses it.
    ///
    /// # Errors
    /// The message is too long; the stream goes on without it.
    pub fn write(&mut self, cipher: &mut Cbc, message: &[u8]) -> Result<Vec<u8>, FrameError> {
        let len = (message.len() / BLOCK_LEN + 1) * BLOCK_LEN;
        let header = u16::try_from(len).ok().filter(|_| len <= self.ciphertext_max).ok_or(FrameError::TooLong)?;
        let mut frame = Vec::with_capacity(HEADER_LEN + len + BLOCK_LEN);
        frame.extend_from_slice(&header.to_be_bytes());
        cipher.seal(&self.direction.key, &self.direction.vector, message, &mut frame).map_err(|_| FrameError::TooLong)?;
        self.direction.advance(&frame[HEADER_LEN..]);
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: SessionSecret = SessionSecret([0x5a; 40]);

    fn read_all(reader: &mut FrameReader, mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut cipher = Cbc::new().unwrap();
        let mut messages = Vec::new();
        while let Some(message) = reader.take(&mut cipher, &mut bytes)? {
            messages.push(message);
        }
        assert!(bytes.is_empty());
        Ok(messages)
    }

    #[test]
    fn a_header_with_an_impossible_length_ends_the_stream() {
        for len in [0u16, 1, 15, 17, 1119, 1152, 0x8000, 0xffff] {
            let mut reader = FrameReader::new(&SECRET, FROM_DEVICE_MAX);
            assert_eq!(read_all(&mut reader, &len.to_be_bytes()), Err(FrameError::Length), "{len}");
        }
        assert_eq!(read_all(&mut FrameReader::new(&SECRET, FROM_DEVICE_MAX), &1136u16.to_be_bytes()), Ok(vec![]));
    }

    #[test]
    fn what_was_changed_or_comes_out_of_order_does_not_decrypt() {
        let (mut cipher, mut writer) = (Cbc::new().unwrap(), FrameWriter::new(&SECRET, TO_DEVICE_MAX));
        let frames: Vec<_> = (0..3u8).map(|n| writer.write(&mut cipher, &[n; 4]).unwrap()).collect();
        let fresh = || FrameReader::new(&SECRET, FROM_DEVICE_MAX);
        assert_eq!(read_all(&mut fresh(), &frames.concat()).unwrap().len(), 3);
        let mut other = SECRET;
        other.0[0] ^= 1;
        assert_eq!(read_all(&mut FrameReader::new(&other, FROM_DEVICE_MAX), &frames[0]), Err(FrameError::Padding));
        let mut changed = frames[0].clone();
        changed[17] ^= 1;
        assert_eq!(read_all(&mut fresh(), &changed), Err(FrameError::Padding));
    }

    #[test]
    fn messages_fit_the_buffer_that_the_device_has() {
        assert_eq!([None, Some(1152), Some(u16::MAX), Some(800), Some(20), Some(0)].map(message_len_max), [767, 1119, 1119, 767, 15, 15]);
        let (mut cipher, mut writer) = (Cbc::new().unwrap(), FrameWriter::new(&SECRET, TO_DEVICE_MAX));
        assert_eq!(writer.write(&mut cipher, &[1; 1120]), Err(FrameError::TooLong));
        assert_eq!(writer.write(&mut cipher, &[1; 1119]).unwrap().len(), 1122);
        assert_eq!(writer.write(&mut cipher, &[1; 16]).unwrap().len(), 34, "there is always padding");
    }

    proptest! {
        #[test]
        fn messages_survive_any_cuts(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..12),
            cuts in prop::collection::vec(1usize..60, 1..40),
        ) {
            let (mut cipher, mut writer) = (Cbc::new().unwrap(), FrameWriter::new(&SECRET, TO_DEVICE_MAX));
            let stream: Vec<u8> = messages.iter().flat_map(|message| writer.write(&mut cipher, message).unwrap()).collect();
            let (mut reader, mut came, mut rest) = (FrameReader::new(&SECRET, FROM_DEVICE_MAX), Vec::new(), &stream[..]);
            for cut in cuts.iter().cycle() {
                let (piece, tail) = rest.split_at((*cut).min(rest.len()));
                came.extend(read_all(&mut reader, piece).unwrap());
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(came, messages);
            prop_assert!(reader.partial.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_panic_in_bounded_memory(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            let (mut cipher, mut reader, mut rest) = (Cbc::new().unwrap(), FrameReader::new(&SECRET, FROM_DEVICE_MAX), &bytes[..]);
            while let Ok(Some(_)) = reader.take(&mut cipher, &mut rest) {}
            prop_assert!(reader.partial.capacity() <= 2 * (HEADER_LEN + FROM_DEVICE_MAX));
        }
    }
}
