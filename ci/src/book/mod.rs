//! The pages of documentation as a test sees them: blocks of commands, output that is shown, links.

pub mod blocks;
pub mod links;
pub mod shown;

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the source.
///
/// # Panics
/// Never: this crate is in a folder of it.
pub fn root() -> PathBuf {
    let ci = Path::new(env!("CARGO_MANIFEST_DIR"));
    ci.parent().unwrap_or(ci).to_owned()
}

/// Text of a page, by its path below the root.
///
/// # Panics
/// If it cannot be read.
pub fn text(page: &str) -> String {
    let path = root().join(page);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The README and all pages below docs, by their paths below the root: in the order in which the book's table of contents
/// (docs/README.md) names them last, then all others; the README at the end, for it needs what the book sets up.
pub fn pages() -> Vec<String> {
    let mut all = vec!["README.md".to_owned()];
    collect(&root().join("docs"), "docs", &mut all);
    let contents = links::links("docs/README.md", &text("docs/README.md"));
    let mut order: Vec<String> = vec!["docs/README.md".to_owned()];
    order.extend(contents.into_iter().map(|link| link.path));
    all.sort_by_key(|page| {
        let place = order.iter().rposition(|named| named == page);
        let place = place.filter(|_| page != "README.md");
        (place.unwrap_or(order.len()), page.clone())
    });
    all
}

fn collect(folder: &Path, name: &str, pages: &mut Vec<String>) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let path = entry.path();
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        if path.is_dir() {
            collect(&path, &name, pages);
        } else if name.ends_with(".md") {
            pages.push(name);
        }
    }
}
