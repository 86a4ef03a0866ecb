//! Links of a page, and the anchors that links may lead to.

use std::collections::BTreeMap;

/// A link to a file of this source, or into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Line of the page, from 1.
    pub line: usize,
    /// The file, below the root.
    pub path: String,
    /// Where in it; empty = nowhere in particular.
    pub anchor: String,
}

/// All links of a page (given by its path below the root), but those to other sites.
pub fn links(page: &str, text: &str) -> Vec<Link> {
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut links = Vec::new();
    for (line, text) in prose(text) {
        for (at, _) in text.match_indices("](") {
            let target = &text[at + 2..];
            let target = target.split([')', ' ']).next().unwrap_or_default();
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() {
                page.to_owned()
            } else {
                joined(folder, path)
            };
            links.push(Link {
                line,
                path,
                anchor: anchor.to_owned(),
            });
        }
    }
    links
}

/// The anchors that GitHub makes of a page's headings.
pub fn anchors(text: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings = lines(text).filter(|(_, line)| line.starts_with('#'));
    let anchors = headings.map(|(_, line)| {
        let anchor = slug(line.trim_start_matches('#').trim());
        let times = seen.entry(anchor.clone()).or_default();
        *times += 1;
        match *times {
            1 => anchor,
            more => format!("{anchor}-{}", more - 1),
        }
    });
    anchors.collect()
}

/// What stands in backticks in the text of a page, with its line.
pub fn code_words(text: &str) -> Vec<(usize, String)> {
    let words = lines(text).flat_map(|(number, line)| {
        let inside = line.split('`').skip(1).step_by(2);
        inside.map(move |word| (number, word.to_owned()))
    });
    words.collect()
}

fn slug(heading: &str) -> String {
    let kept = heading.chars().filter_map(|char| match char {
        ' ' => Some('-'),
        '-' | '_' => Some(char),
        char if char.is_alphanumeric() => Some(char.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

/// Lines outside blocks, from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_open = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let is_fence = line.trim_start().starts_with("```");
        let is_text = !is_open && !is_fence;
        is_open ^= is_fence;
        is_text.then_some((at + 1, line))
    })
}

/// Lines outside blocks, without what stands in backticks.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> {
    lines(text).map(|(number, line)| {
        let outside = line.split('`').step_by(2);
        (number, outside.collect::<Vec<_>>().join("`"))
    })
}

/// `folder/path` without `..`.
fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            "." | "" => {}
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_with_their_place_and_code_is_none() {
        let text = "See [a](../x.md#b-c) and [`d`](e.md).\n```text\n[no](f.md)\n```\n`[no](g.md)` [h](#i) [j](https://k/l)";
        let found: Vec<_> = links("docs/page.md", text)
            .into_iter()
            .map(|link| (link.line, link.path, link.anchor))
            .collect();
        let expected = [
            (1, "x.md", "b-c"),
            (1, "docs/e.md", ""),
            (5, "docs/page.md", "i"),
        ];
        let expected =
            expected.map(|(line, path, anchor)| (line, path.to_owned(), anchor.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn anchors_are_githubs() {
        let text = "# A `b.c` d\n## Why not less?\n```sh\n# no\n```\n## Why not less?\n### `region.flows_v6`\n";
        assert_eq!(
            anchors(text),
            ["a-bc-d", "why-not-less", "why-not-less-1", "regionflows_v6"]
        );
    }
}
