//! `portgate top`: what the gateway does now, on a screen.

mod draw;
mod screen;
mod view;

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use settings::Settings;

use crate::args::TopOptions;
use crate::failure::Failure;

use self::screen::Caught;
use self::view::{Reading, View};

/// Size of the screen that `--once` prints.
const COLUMNS: u16 = 100;
const ROWS: u16 = 36;

/// Between two looks whether a signal came.
const GLANCE: Duration = Duration::from_millis(100);

/// Shows the gateway until told to stop, or once.
pub(crate) fn run(
    settings: &Settings,
    options: &TopOptions,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let period = Duration::from_secs_f64(options.interval);
    let first = Reading::of(settings)?;
    if options.once || json {
        std::thread::sleep(period);
        let view = View::between(&first, &Reading::of(settings)?);
        if json {
            writeln!(out, "{}", view.document())?;
        } else {
            out.write_all(page(&view)?.as_bytes())?;
        }
        return Ok(());
    }
    if !std::io::stdout().is_terminal() {
        return Err(Failure::Wrong(
            "top needs a terminal; --once prints one screen, --json one document".to_owned(),
        ));
    }
    screen::with(|terminal, caught| live(settings, period, first, terminal, caught))
}

/// The screen as text.
fn page(view: &View) -> Result<String, Failure> {
    let backend = TestBackend::new(COLUMNS, ROWS);
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("cannot draw: {error}"));
    let mut terminal = Terminal::new(backend).map_err(|error| failed(&error))?;
    terminal
        .draw(|frame| draw::draw(view, frame))
        .map_err(|error| failed(&error))?;
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for row in buffer.content.chunks(usize::from(COLUMNS)) {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Ok(text)
}

fn live(
    settings: &Settings,
    period: Duration,
    first: Reading,
    terminal: &mut ratatui::DefaultTerminal,
    caught: &Caught,
) -> Result<(), Failure> {
    let (mut before, mut view) = (first, View::default());
    loop {
        terminal.draw(|frame| draw::draw(&view, frame))?;
        let end = Instant::now() + period;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if caught.signal().is_some() {
                return Ok(());
            }
            if !event::poll(left.min(GLANCE))? {
                continue;
            }
            if is_quit(&event::read()?) {
                return Ok(());
            }
            // It may have been given another size.
            terminal.draw(|frame| draw::draw(&view, frame))?;
        }
        let now = Reading::of(settings)?;
        view = View::between(&before, &now);
        before = now;
    }
}

fn is_quit(event: &Event) -> bool {
    let Event::Key(key) = event else {
        return false;
    };
    let is_interrupt =
        key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && (is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}
