//! Parts to messages.

use super::decode::{decode, start};
use crate::message::Message;
use crate::record::{Record, RecordError, RecordKind};

/// Puts the parts of commands together, one record at a time.
///
/// After an error it ignores what may belong to the broken message, up to the next first part.
/// A Begin always counts as the first part of a message: it is what a restarted control plane
/// sends after a message that its predecessor left unfinished.
#[derive(Debug, Default)]
pub struct Assembler {
    state: State,
    /// Parts so far; the capacity is kept from message to message.
    parts: Vec<Record>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum State {
    /// The next record must be the first of a message.
    #[default]
    Between,
    /// `parts` holds the beginning of a message of this kind and this many parts.
    Inside(RecordKind, usize),
    /// A message was broken: later parts are ignored.
    Skipping,
}

/// Capacity kept between messages, in records; a larger set's buffer is given back.
const KEPT: usize = 1024;

impl Assembler {
    /// An assembler that waits for the first part of a message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets an unfinished message, as when the ring that it came from was reset.
    pub fn reset(&mut self) {
        self.state = State::Between;
        self.parts.clear();
    }

    /// Takes the next record; gives a message when this was its last part.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the record, or the message that it completes, is not what
    /// [`encode`](super::encode) produces. The message is then lost as a whole.
    pub fn push(&mut self, record: &Record) -> Result<Option<Message>, RecordError> {
        let result = self.take(record);
        if result.is_err() {
            self.state = State::Skipping;
        }
        if !matches!(self.state, State::Inside(..)) {
            self.parts.clear();
            self.parts.shrink_to(KEPT);
        }
        result
    }

    fn take(&mut self, record: &Record) -> Result<Option<Message>, RecordError> {
        if record.kind == RecordKind::Begin.number() {
            self.reset();
        }
        match self.state {
            State::Skipping if record.part != 0 => return Ok(None),
            State::Between | State::Skipping => {
                let (kind, parts) = start(record)?;
                self.state = State::Inside(kind, parts);
            }
            State::Inside(..) => {
                let (first, expected) = (&self.parts[0], self.parts.len());
                if record.part == 0 {
                    return Err(RecordError::Interrupted);
                }
                if usize::from(record.part) != expected || !same_message(record, first) {
                    return Err(RecordError::Part);
                }
            }
        }
        self.parts.push(*record);
        match self.state {
            State::Inside(kind, parts) if self.parts.len() == parts => {
                self.state = State::Between;
                decode(kind, &self.parts).map(Some)
            }
            _ => Ok(None),
        }
    }
}

fn same_message(record: &Record, first: &Record) -> bool {
    let header = |record: &Record| {
        let &Record {
            kind,
            version,
            part: _,
            parts,
            key,
            count,
            reserved,
            body: _,
        } = record;
        (kind, version, parts, key, count, reserved)
    };
    header(record) == header(first)
}
