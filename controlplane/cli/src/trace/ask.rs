//! Asking the data plane for a trace.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use engine::trace::{Message, Request, socket_path};

use crate::failure::Failure;

/// What the data plane says to a request.
pub(super) struct Answers {
    lines: BufReader<UnixStream>,
    line: String,
}

impl Answers {
    /// Asks the data plane that serves this region.
    pub(super) fn to(region: &Path, request: &Request) -> Result<Self, Failure> {
        let path = socket_path(region);
        let mut stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => Failure::Failed(format!(
                "cannot ask the data plane at {}: {error}; traces show what people send, so only \
                 the data plane's user, root as a rule, may have them",
                path.display()
            )),
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => Failure::Failed(format!(
                "no data plane answers at {}: start portgate-dataplane, or name the file of its region in region.path",
                path.display()
            )),
            _ => Failure::Failed(format!(
                "cannot ask the data plane at {}: {error}",
                path.display()
            )),
        })?;
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        stream.write_all(line.as_bytes()).map_err(lost)?;
        Ok(Self {
            lines: BufReader::new(stream),
            line: String::new(),
        })
    }

    /// The next message; waits for it.
    pub(super) fn next(&mut self) -> Result<Message, Failure> {
        self.line.clear();
        self.lines.read_line(&mut self.line).map_err(lost)?;
        if !self.line.ends_with('\n') {
            return Err(lost(ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_str(&self.line).map_err(|error| {
            Failure::Failed(format!(
                "the data plane says what this version of portgate does not know: {error}"
            ))
        })
    }
}

fn lost(error: io::Error) -> Failure {
    Failure::Failed(match error.kind() {
        ErrorKind::UnexpectedEof => "the data plane ended before the trace did".to_owned(),
        _ => format!("the connection to the data plane is lost: {error}"),
    })
}
