//! `perf report`: a set of records as a page: tables and plots in one HTML file without anything outside it,
//! and the tables as Markdown.

mod controlplane;
mod drawings;
mod page;
mod plots;
mod render;
mod section;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::Error;
use crate::set::Set;

/// Between these lines of a document the tables are written.
const MARKS: [&str; 2] = ["<!-- figures: begin -->\n", "<!-- figures: end -->\n"];

/// As typed.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Records: a file of JSON lines, or a folder of such files.
    pub records: PathBuf,
    /// Write the page here.
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Write the tables as Markdown here.
    #[arg(long)]
    pub markdown: Option<PathBuf>,
    /// Put the table of figures and the peers into this document, between its marks.
    #[arg(long)]
    pub into: Option<PathBuf>,
    /// Folder with the records of other commits, for the plot by commit.
    #[arg(long, default_value = "perf/records")]
    pub history: PathBuf,
}

/// Writes what was asked for; the Markdown to stdout if nothing was.
///
/// # Errors
///
/// [`Error::Usage`] for records that cannot be read, [`Error::Run`] for files that cannot be written.
pub fn run(options: &Options) -> Result<(), Error> {
    let set = Set::read(&options.records)?;
    if set.records.is_empty() && set.control_planes.is_empty() && set.others.is_empty() {
        return Err(Error::Usage(format!(
            "{} holds no records",
            options.records.display()
        )));
    }
    let mut history = Set::default();
    if options.history.is_dir() {
        history = Set::read(&options.history)?;
    }
    let page = page::page(&set, &history)?;
    if let Some(path) = &options.html {
        write(path, &render::html(&page))?;
    }
    if let Some(path) = &options.markdown {
        write(path, &render::markdown(&page.sections))?;
    }
    if let Some(path) = &options.into {
        let document = fs::read_to_string(path)
            .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
        let tables: Vec<_> = page
            .sections
            .iter()
            .filter(|section| section.is_main)
            .cloned()
            .collect();
        let document = insert(&document, &render::markdown(&tables)).ok_or_else(|| {
            Error::Usage(format!(
                "{} lacks the lines {}and {}",
                path.display(),
                MARKS[0],
                MARKS[1]
            ))
        })?;
        write(path, &document)?;
    }
    if options.html.is_none() && options.markdown.is_none() && options.into.is_none() {
        print!("{}", render::markdown(&page.sections));
    }
    Ok(())
}

/// The document with `text` between its marks.
fn insert(document: &str, text: &str) -> Option<String> {
    let (before, rest) = document.split_once(MARKS[0])?;
    let (_, after) = rest.split_once(MARKS[1])?;
    Some([before, MARKS[0], "\n", text, "\n", MARKS[1], after].concat())
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text)
        .map_err(|error| Error::Run(format!("{} cannot be written: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let document = format!("a\n{}old\n{}b\n", MARKS[0], MARKS[1]);
        let once = insert(&document, "new\n").unwrap();
        assert!(once.starts_with("a\n") && once.ends_with("b\n") && !once.contains("old"));
        assert_eq!(
            insert(&once, "new\n").unwrap(),
            once,
            "again changes nothing"
        );
        assert_eq!(insert("no marks\n", "new"), None);
    }
}
