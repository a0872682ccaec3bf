//! Text out of markup, as BeautifulSoup with Python's own parser gives it.
//!
//! Captions off the web are seldom whole documents, so what matters is how broken markup is read: this follows the parser's state
//! machine, not the HTML standard. No tree is built: document order is the order of the text.
//! Source: CPython 3.11.7 `html/parser.py`, `_markupbase.py`; beautifulsoup4 4.15 `builder/_htmlparser.py`.

use std::collections::HashMap;

use super::references::{character, named, number_of, windows_1252};
use super::words::is_space;

/// `BeautifulSoup(markup, features="html.parser").text`; markup that the parser rejects comes back as it is.
pub(super) fn text_of(markup: &str) -> String {
    if !markup.contains(['<', '&']) {
        return Soup::whole(markup);
    }
    let mut parser = Parser {
        raw: markup.chars().collect(),
        at: 0,
        cdata: None,
        row_ends: HashMap::new(),
        soup: Soup::default(),
    };
    if parser
        .go_ahead(false)
        .and_then(|()| parser.go_ahead(true))
        .is_err()
    {
        return markup.to_owned();
    }
    parser.soup.end_data(Kind::Text);
    parser.soup.text
}

/// The kinds of strings that BeautifulSoup tells apart; the first two are text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Cdata,
    /// Comments, declarations, processing instructions.
    Other,
}

/// The part of a BeautifulSoup that decides what is text.
#[derive(Default)]
struct Soup {
    text: String,
    data: String,
    open: Vec<String>,
}

impl Soup {
    fn whole(text: &str) -> String {
        let mut soup = Self::default();
        soup.data.push_str(text);
        soup.end_data(Kind::Text);
        soup.text
    }

    /// `endData`: a string of ASCII spaces alone shrinks to one, and text inside of scripts, styles, templates and ruby marks is not the document's.
    fn end_data(&mut self, kind: Kind) {
        let data = std::mem::take(&mut self.data);
        if data.is_empty() {
            return;
        }
        let holds = |names: &[&str]| self.open.iter().any(|tag| names.contains(&tag.as_str()));
        let is_dropped = match kind {
            Kind::Text => holds(&["rt", "rp", "style", "script", "template"]),
            Kind::Cdata => false,
            Kind::Other => true,
        };
        if is_dropped {
            return;
        }
        let is_blank = data
            .chars()
            .all(|character| " \n\t\x0c\r".contains(character));
        if is_blank && !holds(&["pre", "textarea"]) {
            self.text.push(if data.contains('\n') { '\n' } else { ' ' });
        } else {
            self.text.push_str(&data);
        }
    }

    fn start(&mut self, tag: String) {
        const EMPTY: [&str; 24] = [
            "area", "base", "br", "col", "embed", "hr", "img", "input", "keygen", "link",
            "menuitem", "meta", "param", "source", "track", "wbr", "basefont", "bgsound",
            "command", "frame", "image", "isindex", "nextid", "spacer",
        ];
        self.end_data(Kind::Text);
        if !EMPTY.contains(&tag.as_str()) {
            self.open.push(tag);
        }
    }

    /// Closes up to the last open tag of this name, if there is one.
    fn end(&mut self, tag: &str) {
        self.end_data(Kind::Text);
        if let Some(position) = self.open.iter().rposition(|open| open == tag) {
            self.open.truncate(position);
        }
    }

    fn other(&mut self, data: &str, kind: Kind) {
        self.end_data(Kind::Text);
        // The reference takes an empty section for one of spaces alone.
        self.data.push_str(if data.is_empty() { " " } else { data });
        self.end_data(kind);
    }
}

/// Markup on which the reference's parser gives up with an exception.
struct Rejected;

/// `HTMLParser` with `convert_charrefs` off. Positions are in characters.
struct Parser {
    raw: Vec<char>,
    at: usize,
    /// `script` or `style` while inside one.
    cdata: Option<&'static str>,
    /// Ends of rows of attributes by where they start.
    row_ends: HashMap<usize, usize>,
    soup: Soup,
}

/// Where a construct ends, or that it is not complete.
type End = Option<usize>;

impl Parser {
    fn is(&self, at: usize, text: &str) -> bool {
        text.chars()
            .enumerate()
            .all(|(offset, character)| self.raw.get(at + offset) == Some(&character))
    }

    fn find(&self, character: char, from: usize) -> End {
        let rest = self.raw.get(from..)?;
        Some(from + rest.iter().position(|&found| found == character)?)
    }

    fn run(&self, from: usize, holds: impl Fn(char) -> bool) -> usize {
        let rest = self.raw.get(from..).unwrap_or_default();
        from + rest
            .iter()
            .take_while(|&&character| holds(character))
            .count()
    }

    fn spaces(&self, from: usize) -> usize {
        self.run(from, is_space)
    }

    fn slice(&self, from: usize, to: usize) -> String {
        self.raw.get(from..to).unwrap_or_default().iter().collect()
    }

    fn data(&mut self, from: usize, to: usize) {
        let data = self.slice(from, to);
        self.soup.data.push_str(&data);
    }

    /// `goahead`: first with `end` false for all that is complete, then with true for the rest.
    fn go_ahead(&mut self, end: bool) -> Result<(), Rejected> {
        let length = self.raw.len();
        while self.at < length {
            let Some(next) = self.next_interesting() else {
                break;
            };
            self.data(self.at, next);
            self.at = next;
            if next == length {
                break;
            }
            let went_on = if self.raw[next] == '<' {
                self.markup(end)?
            } else if self.is(next, "&#") {
                self.numeric_reference()
            } else {
                self.named_reference(end)
            };
            if !went_on {
                break;
            }
        }
        if end && self.at < length && self.cdata.is_none() {
            self.data(self.at, length);
            self.at = length;
        }
        Ok(())
    }

    /// The next `<` or `&`, or inside a script its end tag; none when a script has no end.
    fn next_interesting(&self) -> Option<usize> {
        match self.cdata {
            None => Some(self.run(self.at, |character| !matches!(character, '<' | '&'))),
            Some(tag) => (self.at..self.raw.len()).find(|&at| {
                if !self.is(at, "</") {
                    return false;
                }
                let name = self.spaces(at + 2);
                self.is(name, tag) && self.is(self.spaces(name + tag.len()), ">")
            }),
        }
    }

    /// At a `<`; false when the rest must wait for the end.
    fn markup(&mut self, end: bool) -> Result<bool, Rejected> {
        let at = self.at;
        let after = self.raw.get(at + 1).copied();
        let to = if after.is_some_and(|character| character.is_ascii_alphabetic()) {
            self.start_tag(at)
        } else if after == Some('/') {
            self.end_tag(at)
        } else if self.is(at, "<!--") {
            self.comment(at)
        } else if after == Some('?') {
            self.skip_to_bracket(at)
        } else if after == Some('!') {
            self.declaration(at)?
        } else if after.is_some() {
            self.soup.data.push('<');
            Some(at + 1)
        } else {
            return Ok(false);
        };
        self.at = match to {
            Some(to) => to,
            None if !end => return Ok(false),
            None => {
                let to = self
                    .find('>', at + 1)
                    .map(|bracket| bracket + 1)
                    .or_else(|| self.find('<', at + 1))
                    .unwrap_or(at + 1);
                self.data(at, to);
                to
            }
        };
        Ok(true)
    }

    /// `&#..`; false when it is broken, which ends the parsing of all that follows.
    fn numeric_reference(&mut self) -> bool {
        let at = self.at;
        let is_hexadecimal = matches!(self.raw.get(at + 2), Some('x' | 'X'));
        let digits = at + 2 + usize::from(is_hexadecimal);
        let stop = if is_hexadecimal {
            self.run(digits, |character| character.is_ascii_hexdigit())
        } else {
            self.run(digits, |character| character.is_ascii_digit())
        };
        let is_closed = self
            .raw
            .get(stop)
            .is_some_and(|character| !character.is_ascii_hexdigit());
        if stop == digits || !is_closed {
            if self.find(';', at).is_some() {
                self.data(at, at + 2);
                self.at = at + 2;
            }
            return false;
        }
        let code = number_of(&self.slice(at + 2, stop));
        let character = match code {
            Some(code @ 0x80..=0x9F) => windows_1252(code),
            code => character(code),
        };
        self.soup.data.push(character);
        self.at = stop + usize::from(self.raw[stop] == ';');
        true
    }

    /// `&name`; false when it is not complete.
    fn named_reference(&mut self, end: bool) -> bool {
        let at = self.at;
        let Some(&first) = self.raw.get(at + 1) else {
            return false;
        };
        if !first.is_ascii_alphabetic() {
            self.soup.data.push('&');
            self.at = at + 1;
            return true;
        }
        let longest = self.run(at + 1, |character| {
            character.is_ascii_alphanumeric() || matches!(character, '-' | '.')
        });
        // The name must have a character behind it that is neither letter nor digit, so it may have to give back a `-` or `.`.
        let stop = (at + 2..=longest).rev().find(|&stop| {
            self.raw
                .get(stop)
                .is_some_and(|character| !character.is_ascii_alphanumeric())
        });
        let Some(stop) = stop else {
            if end && at + 2 == self.raw.len() {
                self.at = at + 1;
            }
            return false;
        };
        let name = self.slice(at + 1, stop);
        // BeautifulSoup keeps one table of names without `;`.
        let found = named(&format!("{name};")).or_else(|| named(&name));
        if let Some(characters) = found {
            self.soup.data.push_str(characters);
        } else {
            self.soup.data.push('&');
            self.soup.data.push_str(&name);
        }
        self.at = stop + usize::from(self.raw[stop] == ';');
        true
    }

    /// `[a-zA-Z][^\t\n\r\f />\x00]*`
    fn tag_name(&self, from: usize) -> usize {
        self.run(from, |character| {
            !matches!(
                character,
                '\t' | '\n' | '\r' | '\x0c' | ' ' | '/' | '>' | '\0'
            )
        })
    }

    /// `(?:\s|/(?!>))*`
    fn gap(&self, mut at: usize) -> usize {
        loop {
            match self.raw.get(at) {
                Some(&character) if is_space(character) => at += 1,
                Some('/') if self.raw.get(at + 1) != Some(&'>') => at += 1,
                _ => return at,
            }
        }
    }

    /// Where a row of attributes ends. Rows that begin in one another end alike, and are remembered: a page of `<a <a <a` would otherwise be
    /// read to its end from each of them.
    fn attributes(&mut self, from: usize) -> usize {
        let mut row = Vec::new();
        let mut at = from;
        let end = loop {
            if let Some(&end) = self.row_ends.get(&at) {
                break end;
            }
            let Some(next) = self.attribute(at) else {
                break at;
            };
            row.push(at);
            at = next;
        };
        self.row_ends
            .extend(row.into_iter().map(|start| (start, end)));
        end
    }

    /// One attribute with the gap behind it, or none.
    fn attribute(&self, at: usize) -> End {
        let before = *self.raw.get(at.checked_sub(1)?)?;
        let first = *self.raw.get(at)?;
        if !(matches!(before, '\'' | '"' | '/') || is_space(before))
            || is_space(first)
            || matches!(first, '/' | '>')
        {
            return None;
        }
        let name = self.run(at + 1, |character| {
            !is_space(character) && !matches!(character, '/' | '=' | '>')
        });
        Some(self.gap(self.value(name).unwrap_or(name)))
    }

    /// `\s*=+\s*` and a value, quoted or bare.
    fn value(&self, at: usize) -> End {
        let signs = self.spaces(at);
        let behind = self.run(signs, |character| character == '=');
        if behind == signs {
            return None;
        }
        let start = self.spaces(behind);
        let bare = |from| self.run(from, |character| character != '>' && !is_space(character));
        match self.raw.get(start) {
            Some(&quote @ ('\'' | '"')) => match self.find(quote, start + 1) {
                Some(close) => Some(close + 1),
                // An open quote: the pattern gives back a space, and takes an empty value, or an `=`, and takes the rest as a bare one.
                None if start > behind => Some(start),
                None if behind > signs + 1 => Some(bare(behind - 1)),
                None => None,
            },
            _ => Some(bare(start)),
        }
    }

    /// `check_for_whole_start_tag` and `parse_starttag`.
    fn start_tag(&mut self, at: usize) -> End {
        let name = self.tag_name(at + 1);
        let mut stop = self.run(name, |character| is_space(character) || character == '/');
        stop = self.attributes(stop);
        let stop = self.spaces(stop);
        let to = match self.raw.get(stop)? {
            '>' => stop + 1,
            '/' if self.raw.get(stop + 1) == Some(&'>') => stop + 2,
            '/' | '=' => return None,
            character if character.is_ascii_alphabetic() => return None,
            _ => stop,
        };
        let mut rest = self.gap(name);
        while rest < to {
            let Some(next) = self.attribute(rest) else {
                break;
            };
            rest = next;
        }
        let tag = self.slice(at + 1, name).to_lowercase();
        match self.slice(rest, to).trim_matches(is_space) {
            ">" => {
                self.cdata = ["script", "style"].into_iter().find(|&raw| raw == tag);
                self.soup.start(tag);
            }
            "/>" => {
                self.soup.start(tag.clone());
                self.soup.end(&tag);
            }
            _ => self.data(at, to),
        }
        Some(to)
    }

    /// `parse_endtag`.
    fn end_tag(&mut self, at: usize) -> End {
        let bracket = self.find('>', at + 1)?;
        let start = self.spaces(at + 2);
        let stop = self.run(start, |character| {
            character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | ':' | '_')
        });
        let is_letter = |at: usize| self.raw.get(at).is_some_and(char::is_ascii_alphabetic);
        if is_letter(start) && self.is(self.spaces(stop), ">") {
            self.soup.end(&self.slice(start, stop).to_lowercase());
            self.cdata = None;
            return Some(bracket + 1);
        }
        if !is_letter(at + 2) {
            if bracket > at + 2 {
                self.soup.other("", Kind::Other);
            }
            return Some(bracket + 1);
        }
        let name = self.tag_name(at + 2);
        let tag = self.slice(at + 2, name).to_lowercase();
        let to = self
            .find('>', self.gap(name))
            .map_or(0, |bracket| bracket + 1);
        self.soup.end(&tag);
        Some(to.max(at + 2))
    }

    /// `<!--` to `--\s*>`.
    fn comment(&mut self, at: usize) -> End {
        // Of a run of spaces only its end can be what is looked for: it is walked once.
        let mut from = at + 4;
        let to = loop {
            let dashes = (from..self.raw.len()).find(|&dashes| self.is(dashes, "--"))?;
            let bracket = self.spaces(dashes + 2);
            if self.is(bracket, ">") {
                break bracket + 1;
            }
            from = dashes + 1;
        };
        self.soup.other("", Kind::Other);
        Some(to)
    }

    /// Processing instructions, document types and odd comments: all end with the next `>` and are not text.
    fn skip_to_bracket(&mut self, at: usize) -> End {
        let bracket = self.find('>', at + 2)?;
        self.soup.other("", Kind::Other);
        Some(bracket + 1)
    }

    /// `parse_html_declaration`.
    fn declaration(&mut self, at: usize) -> Result<End, Rejected> {
        if self.is(at, "<![") {
            return self.marked_section(at);
        }
        Ok(self.skip_to_bracket(at))
    }

    /// `parse_marked_section`: `<![cdata[..]]>` is text, other sections are not, and unknown ones make the reference's parser fail.
    fn marked_section(&mut self, at: usize) -> Result<End, Rejected> {
        let start = at + 3;
        match self.raw.get(start) {
            None => return Ok(None),
            Some(character) if !character.is_ascii_alphabetic() => return Err(Rejected),
            Some(_) => {}
        }
        let name = self.run(start, |character| {
            character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.')
        });
        if self.spaces(name) == self.raw.len() {
            return Ok(None);
        }
        let brackets = match self.slice(start, name).to_lowercase().as_str() {
            "temp" | "cdata" | "ignore" | "include" | "rcdata" => 2,
            "if" | "else" | "endif" => 1,
            _ => return Err(Rejected),
        };
        let closing = |from: usize| {
            let mut end = from;
            for _ in 0..brackets {
                if !self.is(end, "]") {
                    return None;
                }
                end = self.spaces(end + 1);
            }
            self.is(end, ">").then_some((from, end + 1))
        };
        let Some((close, to)) = (start..self.raw.len()).find_map(closing) else {
            return Ok(None);
        };
        let data = self.slice(start, close);
        if data
            .get(..6)
            .is_some_and(|head| head.eq_ignore_ascii_case("cdata["))
        {
            self.soup.other(&data[6..], Kind::Cdata);
        } else {
            self.soup.other("", Kind::Other);
        }
        Ok(Some(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_go_and_text_stays() {
        for (markup, expected) in [
            ("a <b>red</b> cat", "a red cat"),
            ("a < b and b > a", "a < b and b > a"),
            ("<3 cats", "<3 cats"),
            ("a <br/> b<!-- no --> c", "a  b c"),
            ("<script>x < y</script>z", "z"),
            ("<template><i>x</i></template>z", "z"),
            ("<![cdata[a<b]]>c", "a<bc"),
            ("a<![cdata[]]>b", "a b"),
            ("<a href='x>y'>z</a>", "z"),
            ("open <a href=", "open <a href="),
            ("&eacute;t&eacute", "ét&eacute"),
            ("<![x[y]]>", "<![x[y]]>"),
        ] {
            assert_eq!(text_of(markup), expected, "{markup}");
        }
    }
}
