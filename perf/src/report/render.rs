//! A page as HTML and as Markdown.

use super::section::{Body, Page, Section};

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:66em;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccc;padding:.25em .6em;text-align:right}\
td:first-child,th:first-child{text-align:left}th{background:#f3f3f3}svg{max-width:100%;height:auto}\
h2{margin-top:2em}";

/// One file, nothing outside it.
pub(super) fn html(page: &Page) -> String {
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n",
        title = escaped(&page.title)
    );
    for section in &page.sections {
        text += &format!("<h2>{}</h2>\n", escaped(&section.title));
        if !section.text.is_empty() {
            text += &format!("<p>{}</p>\n", escaped(&section.text));
        }
        match &section.body {
            Body::Plot(svg) => text += svg,
            Body::Table { head, rows } => {
                text += "<table>";
                text += &html_row("th", head);
                for row in rows {
                    text += &html_row("td", row);
                }
                text += "</table>\n";
            }
        }
    }
    text + "</body></html>\n"
}

/// The tables; plots are in the page.
pub(super) fn markdown(sections: &[Section]) -> String {
    let mut parts = Vec::new();
    for section in sections {
        let Body::Table { head, rows } = &section.body else {
            continue;
        };
        let mut text = format!("### {}\n\n", section.title);
        if !section.text.is_empty() {
            text += &format!("{}\n\n", section.text);
        }
        text += &markdown_row(head);
        text += &format!("|---|{}\n", "---:|".repeat(head.len().saturating_sub(1)));
        for row in rows {
            text += &markdown_row(row);
        }
        parts.push(text);
    }
    parts.join("\n")
}

fn html_row(tag: &str, cells: &[String]) -> String {
    let cells: Vec<_> = cells
        .iter()
        .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)))
        .collect();
    format!("<tr>{}</tr>\n", cells.concat())
}

fn markdown_row(cells: &[String]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let table = Body::Table {
            head: ["what", "ns"].map(str::to_owned).to_vec(),
            rows: vec![["a < b | c", "1.5"].map(str::to_owned).to_vec()],
        };
        let section = |title: &str, body| Section {
            title: title.to_owned(),
            text: String::new(),
            body,
            is_main: true,
        };
        Page {
            title: "T & U".to_owned(),
            sections: vec![
                section("table", table),
                section("plot", Body::Plot("<svg></svg>".to_owned())),
            ],
        }
    }

    #[test]
    fn html_is_escaped_and_holds_the_plots() {
        let text = html(&page());
        assert!(text.contains("<h1>T &amp; U</h1>") && text.contains("<td>a &lt; b | c</td>"));
        assert!(text.contains("<svg></svg>"));
        assert!(!text.contains("http"), "nothing outside the file");
    }

    #[test]
    fn markdown_has_the_tables_alone() {
        let text = markdown(&page().sections);
        assert_eq!(
            text,
            "### table\n\n| what | ns |\n|---|---:|\n| a < b \\| c | 1.5 |\n"
        );
    }
}
