//! What a page is made of.

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) title: String,
    pub(super) sections: Vec<Section>,
}

/// A part of it.
#[derive(Debug, Clone)]
pub(super) struct Section {
    pub(super) title: String,
    pub(super) text: String,
    pub(super) body: Body,
    /// Whether it also goes into the documentation.
    pub(super) is_main: bool,
}

/// What it shows.
#[derive(Debug, Clone)]
pub(super) enum Body {
    /// SVG.
    Plot(String),
    /// Text.
    Table {
        head: Vec<String>,
        rows: Vec<Vec<String>>,
    },
}

impl Section {
    /// A table.
    pub(super) fn table(title: &str, text: &str, head: &[&str], rows: Vec<Vec<String>>) -> Self {
        Self {
            title: title.to_owned(),
            text: text.to_owned(),
            body: Body::Table {
                head: head.iter().map(ToString::to_string).collect(),
                rows,
            },
            is_main: true,
        }
    }

    /// A plot.
    pub(super) fn plot(title: &str, text: &str, svg: String) -> Self {
        Self {
            title: title.to_owned(),
            text: text.to_owned(),
            body: Body::Plot(svg),
            is_main: false,
        }
    }
}
