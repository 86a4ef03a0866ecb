//! The screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::widgets::{Block, Cell, Gauge, Paragraph, Row, Table};

use super::view::View;

/// Columns of a number.
const NUMBER: u16 = 12;

/// Draws everything.
pub(super) fn draw(view: &View, frame: &mut Frame<'_>) {
    // A border, a heading and a border, and a line each.
    let rows = [view.workers.len(), view.links.len()].map(|count| 3 + count as u16);
    let [head, flows, above, services, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Length(rows.iter().sum()),
        Constraint::Min(6),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let title = format!("portgate top   generation {}", view.generation);
    frame.render_widget(Paragraph::new(title).bold(), head);
    frame.render_widget(flow_gauge(view), flows);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(above);
    let [workers, links] = Layout::vertical(rows.map(Constraint::Length)).areas(left);
    draw_workers(view, frame, workers);
    draw_links(view, frame, links);
    draw_drops(view, frame, right);
    draw_services(view, frame, services);
    frame.render_widget(
        Paragraph::new("q quits; numbers are per second").dim(),
        foot,
    );
}

fn flow_gauge(view: &View) -> Gauge<'static> {
    let (open, capacity) = view.flows;
    let fill = (open as f64 / capacity.max(1) as f64).clamp(0.0, 1.0);
    let label = format!(
        "{open} of {capacity} ({:.1} %)   +{} -{}",
        100.0 * fill,
        number(view.created),
        number(view.removed)
    );
    Gauge::default()
        .block(Block::bordered().title("Flows"))
        .gauge_style(Style::new().fg(level(fill)))
        .ratio(fill)
        .label(label)
}

fn draw_workers(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let rows = view.workers.iter().enumerate().map(|(at, worker)| {
        let load = format!("{:.1} %", 100.0 * worker.load);
        Row::new([
            Cell::from(format!("worker {at}")),
            Cell::from(load).style(Style::new().fg(level(worker.load))),
            Cell::from(number(worker.frames)),
            Cell::from(format!("{:.1}", worker.burst)),
        ])
    });
    let heads = ["", "LOAD", "FRAMES", "A BURST"];
    frame.render_widget(table("Workers", heads, 10, rows), area);
}

fn draw_links(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let rows = view
        .links
        .iter()
        .map(|(name, [rx, rx_bytes, tx, tx_bytes])| {
            Row::new([
                name.clone(),
                format!("{} / {}", number(*rx), bits(*rx_bytes)),
                String::new(),
                format!("{} / {}", number(*tx), bits(*tx_bytes)),
            ])
        });
    let widths = [
        Constraint::Length(10),
        Constraint::Min(16),
        Constraint::Length(0),
        Constraint::Min(16),
    ];
    let heads = Row::new(["", "RX FRAMES / BITS", "", "TX FRAMES / BITS"]).dim();
    let links = Table::new(rows, widths).header(heads);
    frame.render_widget(links.block(Block::bordered().title("Links")), area);
}

fn draw_drops(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let rows = view.drops.iter().map(|(reason, rate, count)| {
        let row = Row::new([
            (*reason).to_owned(),
            number(*rate),
            count.to_string(),
            String::new(),
        ]);
        if *rate > 0.0 { row.red() } else { row }
    });
    let heads = ["REASON", "FRAMES", "IN ALL", ""];
    frame.render_widget(table("Drops", heads, 22, rows), area);
}

fn draw_services(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let rows = view.services.iter().map(|(name, rates)| {
        let [frames, bytes, flows, refused] = *rates;
        Row::new([
            name.clone(),
            number(frames),
            bits(bytes),
            number(flows),
            number(refused),
        ])
    });
    let widths = [
        Constraint::Min(30),
        Constraint::Length(NUMBER),
        Constraint::Length(NUMBER),
        Constraint::Length(NUMBER),
        Constraint::Length(NUMBER),
    ];
    let heads = Row::new(["SERVICE", "FRAMES", "BITS", "NEW FLOWS", "REFUSED"]).dim();
    let services = Table::new(rows, widths).header(heads);
    let title = format!("Services ({})", view.services.len());
    frame.render_widget(services.block(Block::bordered().title(title)), area);
}

fn table<'a>(
    title: &'a str,
    heads: [&'a str; 4],
    first: u16,
    rows: impl Iterator<Item = Row<'a>>,
) -> Table<'a> {
    let widths = [
        Constraint::Length(first),
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Min(0),
    ];
    Table::new(rows, widths)
        .header(Row::new(heads).dim())
        .block(Block::bordered().title(title))
}

/// Green, yellow, red.
const fn level(part: f64) -> Color {
    match part {
        part if part < 0.6 => Color::Green,
        part if part < 0.85 => Color::Yellow,
        _ => Color::Red,
    }
}

/// A rate with three digits and a prefix of the SI.
fn number(rate: f64) -> String {
    let (scaled, prefix) = match rate {
        rate if rate < 1e3 => (rate, ""),
        rate if rate < 1e6 => (rate / 1e3, "k"),
        rate if rate < 1e9 => (rate / 1e6, "M"),
        rate => (rate / 1e9, "G"),
    };
    match scaled {
        0.0 => "0".to_owned(),
        scaled if scaled < 10.0 => format!("{scaled:.2}{prefix}"),
        scaled if scaled < 100.0 => format!("{scaled:.1}{prefix}"),
        scaled => format!("{scaled:.0}{prefix}"),
    }
}

fn bits(bytes: f64) -> String {
    number(8.0 * bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits() {
        let all = [0.0, 0.5, 12.34, 999.4, 1234.0, 56_789.0, 1.5e6, 2e9];
        let expected = [
            "0", "0.50", "12.3", "999", "1.23k", "56.8k", "1.50M", "2.00G",
        ];
        assert_eq!(all.map(number), expected);
        assert_eq!(bits(125_000.0), "1.00M");
    }
}
