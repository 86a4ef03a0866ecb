//! Inputs that are kept in the tree: one file a target, one input a line, in hexadecimal digits.
//!
//! `seeds/TARGET` holds what a fuzzer begins with; `crashes/TARGET` every input that has once failed, below a
//! line (`# …`) that says how.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The file of a target's kept inputs of this kind, `seeds` or `crashes`.
#[must_use]
pub fn path(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(kind)
        .join(target)
}

/// Reads a file of inputs. Empty lines and comments do not count.
///
/// # Errors
///
/// The file cannot be read, or a line is not of hexadecimal digits.
pub fn read(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let text = fs::read_to_string(path)?;
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            from_hex(line).ok_or_else(|| {
                let start: String = line.chars().take(20).collect();
                io::Error::other(format!("{}: no hexadecimal: {start}", path.display()))
            })
        })
        .collect()
}

/// Writes a file of inputs, in order of length and content.
///
/// # Errors
///
/// The file cannot be written.
pub fn write(path: &Path, mut inputs: Vec<Vec<u8>>) -> io::Result<()> {
    inputs.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    inputs.dedup();
    let mut text = String::new();
    for input in inputs.iter().filter(|input| !input.is_empty()) {
        for byte in input {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    fs::write(path, text)
}

fn from_hex(line: &str) -> Option<Vec<u8>> {
    let digits = line.as_bytes();
    if !digits.len().is_multiple_of(2) || !line.is_ascii() {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(line.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_anything_else_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let inputs = vec![vec![1, 2], vec![0xff], vec![]];
        write(&path, inputs).unwrap();
        assert_eq!(read(&path).unwrap(), [vec![0xff], vec![1, 2]]);
        fs::write(&path, "# why\n\n00ff\n").unwrap();
        assert_eq!(read(&path).unwrap(), [vec![0, 0xff]]);
        for wrong in ["0", "0g", "é"] {
            fs::write(&path, wrong).unwrap();
            assert!(read(&path).is_err(), "{wrong}");
        }
    }
}
