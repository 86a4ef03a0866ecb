//! What is not served, and why, in sentences for people.

use std::fmt::{self, Write};

/// Something that is not served as written, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Warning {
    /// What it is about: kind and name of an object, or a file.
    pub subject: String,
    /// Field, value and rule, or what else is wrong.
    pub message: String,
}

/// One line, whatever the names of files and fields hold: control characters are shown as in Rust's strings.
impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = OneLine(formatter);
        write!(line, "{}: {}", self.subject, self.message)
    }
}

struct OneLine<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(char::is_control) {
            match piece.char_indices().next_back() {
                Some((at, last)) if last.is_control() => {
                    self.0.write_str(&piece[..at])?;
                    write!(self.0, "{}", last.escape_default())?;
                }
                _ => self.0.write_str(piece)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_one_line_whatever_it_is_about() {
        let warning = Warning {
            subject: "a\nfile\u{85}.yaml".into(),
            message: "ä\tis odd\n".into(),
        };
        assert_eq!(warning.to_string(), r"a\nfile\u{85}.yaml: ä\tis odd\n");
    }
}
