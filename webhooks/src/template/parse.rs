//! Reads templates: text to tags, tags to sections, and the lines that hold nothing but tags, of which nothing is left.

use super::{DEPTH_MAX, Name, Part, TAGS_MAX, TEMPLATE_LEN_MAX, TemplateError};

/// The parts of the template that the text is.
pub(super) fn parse(text: &str) -> Result<Vec<Part>, TemplateError> {
    if text.len() > TEMPLATE_LEN_MAX {
        return Err(TemplateError::TooLong);
    }
    let mut reader = Reader {
        text,
        at: 0,
        open: "{{".to_owned(),
        close: "}}".to_owned(),
        pieces: Vec::new(),
        sections: Vec::new(),
        line: Line::default(),
    };
    reader.read()?;
    Ok(nest(reader.pieces))
}

/// What a template consists of, before sections are put together.
enum Piece<'t> {
    Text(&'t str),
    Value { name: Name, is_escaped: bool },
    Begin { name: Name, is_inverted: bool },
    End,
}

/// What there is so far on the line that is read. A tag within which a line ends does not end it.
#[derive(Default)]
struct Line {
    /// Number of its first piece.
    first: usize,
    has_tag: bool,
    /// Whether something on it is seen: a character other than a blank, or a value.
    has_content: bool,
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    open: String,
    close: String,
    pieces: Vec<Piece<'t>>,
    /// Names of those that have begun and not ended.
    sections: Vec<&'t str>,
    line: Line,
}

impl<'t> Reader<'t> {
    fn read(&mut self) -> Result<(), TemplateError> {
        for _ in 0..=TAGS_MAX {
            let tag = self.rest().find(&self.open).map(|length| self.at + length);
            let end = tag.unwrap_or(self.text.len());
            self.words(end);
            if tag.is_none() {
                self.end_line();
                return match self.sections.pop() {
                    Some(name) => Err(TemplateError::SectionWithoutEnd { name: name.to_owned(), at: self.text.len() }),
                    None => Ok(()),
                };
            }
            self.tag()?;
        }
        Err(TemplateError::TooManyTags)
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// The text up to `end`, line by line.
    fn words(&mut self, end: usize) {
        for piece in self.text[self.at..end].split_inclusive('\n') {
            self.line.has_content |= !piece.chars().all(is_blank);
            self.pieces.push(Piece::Text(piece));
            if piece.ends_with('\n') {
                self.end_line();
            }
        }
        self.at = end;
    }

    /// Nothing is left of a line that held only tags that are not seen.
    fn end_line(&mut self) {
        let Line { first, has_tag, has_content } = self.line;
        if has_tag && !has_content {
            let own = self.pieces.split_off(first);
            self.pieces.extend(own.into_iter().filter(|piece| !matches!(piece, Piece::Text(_))));
        }
        self.line = Line { first: self.pieces.len(), ..Line::default() };
    }

    /// The tag that begins here.
    fn tag(&mut self) -> Result<(), TemplateError> {
        let start = self.at;
        self.line.has_tag = true;
        self.at += self.open.len();
        self.skip_blanks();
        let kind = self.rest().chars().next().filter(|kind| "#^/>{&=!".contains(*kind));
        self.at += kind.map_or(0, char::len_utf8);
        self.skip_blanks();
        match kind {
            Some('=') => self.delimiters(start),
            Some('{') => {
                let name = self.name(start, &format!("}}{}", self.close))?;
                self.value(name, false);
                Ok(())
            }
            kind => {
                let name = self.name(start, &self.close.clone())?;
                self.named(kind, name, start)
            }
        }
    }

    /// Text up to where the tag ends with `end`, without blanks before it.
    fn name(&mut self, start: usize, end: &str) -> Result<&'t str, TemplateError> {
        let length = self.rest().find(end).ok_or(TemplateError::TagWithoutEnd(start))?;
        let name = self.rest()[..length].trim_end_matches(is_blank);
        self.at += length + end.len();
        Ok(name)
    }

    fn named(&mut self, kind: Option<char>, name: &'t str, start: usize) -> Result<(), TemplateError> {
        match kind {
            Some(kind @ ('#' | '^')) => return self.begin(name, kind == '^'),
            Some('/') => return self.end(name, start),
            // A comment, or a partial: there are none.
            Some('!' | '>') => {}
            kind => self.value(name, kind.is_none()),
        }
        Ok(())
    }

    fn value(&mut self, name: &str, is_escaped: bool) {
        self.line.has_content = true;
        self.pieces.push(Piece::Value { name: Name::new(name), is_escaped });
    }

    fn begin(&mut self, name: &'t str, is_inverted: bool) -> Result<(), TemplateError> {
        if self.sections.len() == DEPTH_MAX {
            return Err(TemplateError::TooDeep);
        }
        self.sections.push(name);
        self.pieces.push(Piece::Begin { name: Name::new(name), is_inverted });
        Ok(())
    }

    fn end(&mut self, name: &str, at: usize) -> Result<(), TemplateError> {
        match self.sections.pop() {
            Some(begun) if begun == name => {
                self.pieces.push(Piece::End);
                Ok(())
            }
            Some(begun) => Err(TemplateError::SectionWithoutEnd { name: begun.to_owned(), at }),
            None => Err(TemplateError::SectionWithoutBegin { name: name.to_owned(), at }),
        }
    }

    /// `{{=<% %>=}}`. What stands between the second `=` and the end of the tag means nothing.
    fn delimiters(&mut self, start: usize) -> Result<(), TemplateError> {
        let said = self.name(start, "=")?;
        let close = self.close.clone();
        self.name(start, &close)?;
        let mut words = said.split(is_blank).filter(|word| !word.is_empty());
        match (words.next(), words.next()) {
            (Some(open), Some(close)) => {
                (self.open, self.close) = (open.to_owned(), close.to_owned());
                Ok(())
            }
            _ => Err(TemplateError::BadDelimiters(start)),
        }
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches(is_blank).len();
    }
}

/// Puts sections together, and texts that follow each other.
fn nest(pieces: Vec<Piece>) -> Vec<Part> {
    let (mut parts, mut outer) = (Vec::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Text(text) => push_text(&mut parts, text),
            Piece::Value { name, is_escaped } => parts.push(Part::Value { name, is_escaped }),
            Piece::Begin { name, is_inverted } => outer.push((name, is_inverted, std::mem::take(&mut parts))),
            Piece::End => {
                if let Some((name, is_inverted, before)) = outer.pop() {
                    let within = std::mem::replace(&mut parts, before);
                    parts.push(Part::Section { name, is_inverted, parts: within });
                }
            }
        }
    }
    parts
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(before)) => before.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

/// What JavaScript takes for white space.
fn is_blank(c: char) -> bool {
    c == '\u{feff}' || c != '\u{85}' && c.is_whitespace()
}
