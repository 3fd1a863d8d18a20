//! What comes on an event stream, from the bytes in which it comes. It is taken apart line by line, wherever reads divide it.

use serde_json::Value;

/// Longest line: the data of an event is far shorter.
const LINE_MAX: usize = 1 << 20;

/// Something that a stream says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line<'a> {
    /// It is open.
    Opening,
    /// Events are missing here.
    Gap,
    /// It ends, and why.
    Cut,
    /// An event.
    Event {
        /// Its id.
        position: u64,
        /// Its name.
        name: &'a str,
        /// Its text, if it has one.
        data: Option<&'a str>,
    },
}

/// The lines of one connection.
#[derive(Default, Debug)]
pub(super) struct Parser {
    line: Vec<u8>,
    name: String,
    position: Option<u64>,
    data: String,
}

impl Parser {
    /// Takes what came, and tells what is whole with it. What is cut off by the end of the connection was not said.
    pub(super) fn feed(&mut self, bytes: &[u8], mut say: impl FnMut(Line<'_>)) {
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            if self.line.len() + piece.len() <= LINE_MAX {
                self.line.extend_from_slice(piece);
            }
            if pieces.peek().is_some() {
                let line = std::mem::take(&mut self.line);
                self.take(&String::from_utf8_lossy(&line), &mut say);
            }
        }
    }

    fn take(&mut self, line: &str, say: &mut impl FnMut(Line<'_>)) {
        match line.split_once(": ") {
            Some(("", comment)) if comment.starts_with("gap") => say(Line::Gap),
            Some(("", comment)) if comment.starts_with("cut") => say(Line::Cut),
            Some(("event", name)) => name.clone_into(&mut self.name),
            Some(("id", id)) => self.position = id.parse().ok(),
            Some(("data", data)) => data.clone_into(&mut self.data),
            _ if line == ":ok" => say(Line::Opening),
            _ if line.is_empty() => self.end(say),
            _ => {}
        }
    }

    fn end(&mut self, say: &mut impl FnMut(Line<'_>)) {
        if let Some(position) = self.position.take() {
            let json: Value = serde_json::from_str(&self.data).unwrap_or_default();
            say(Line::Event { position, name: &self.name, data: json["data"].as_str() });
        }
        self.name.clear();
        self.data.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n:ok\n\nevent: a\nid: 7\ndata: {\"data\":\"x: y\",\"ttl\":60}\n\n\n\n\
        : gap, events 8 to 9 are no longer kept\n\nevent: b\nid: 9\ndata: {\"data\":null}\n\n: cut, too slow\n\nevent: c\nid: 10\ndata: {\"da";

    fn said(pieces: impl Iterator<Item = &'static [u8]>) -> Vec<String> {
        let (mut parser, mut said) = (Parser::default(), Vec::new());
        pieces.for_each(|piece| parser.feed(piece, |line| said.push(format!("{line:?}"))));
        said
    }

    #[test]
    fn a_stream_says_the_same_however_it_is_cut_into_pieces() {
        let whole = said([STREAM].into_iter());
        let expected = [
            Line::Opening,
            Line::Event { position: 7, name: "a", data: Some("x: y") },
            Line::Gap,
            Line::Event { position: 9, name: "b", data: None },
            Line::Cut,
        ];
        assert_eq!(whole, expected.map(|line| format!("{line:?}")));
        for len in [1, 2, 3, 7, 50] {
            assert_eq!(said(STREAM.chunks(len)), whole, "{len}");
        }
    }
}
