//! Plots, as SVG text.

use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::Error;
use crate::set::Curve;

const SIZE: (u32, u32) = (760, 380);

/// Colours that are told apart on paper and by the colour-blind (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(120, 120, 120),
    RGBColor(0, 0, 0),
];

/// A named line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// Million packets a second by number of flows.
pub(super) fn by_flows(lines: &[Line]) -> Result<String, Error> {
    let (low, high) = range(lines, |point| point.0);
    let (_, top) = range(lines, |point| point.1);
    draw(
        lines,
        (low / 1.5..high * 1.5).log_scale(),
        0.0..top * 1.1,
        ("flows", "million packets a second"),
        &|flows| crate::set::count(*flows as usize),
        &|rate| format!("{rate:.0}"),
    )
}

/// Latency by percentile, the last ones stretched: each nine takes as much room.
pub(super) fn latency(curves: &[Curve]) -> Result<String, Error> {
    let lines: Vec<Line> = curves
        .iter()
        .map(|curve| Line {
            name: curve.name.clone(),
            points: curve
                .points
                .iter()
                .map(|(percentile, nanos)| (nines(*percentile), nanos / 1000.0))
                .collect(),
        })
        .collect();
    let (low, high) = range(&lines, |point| point.1);
    let (_, last) = range(&lines, |point| point.0);
    draw(
        &lines,
        0.0..last.max(1.0),
        (low.max(0.1) / 1.5..high * 1.5).log_scale(),
        ("percentile", "microseconds"),
        &|nines| percentile(*nines),
        &|micros| format!("{micros:.1}"),
    )
}

/// Nanoseconds a packet by commit.
pub(super) fn history(commits: &[String], lines: &[Line]) -> Result<String, Error> {
    let (low, top) = range(lines, |point| point.1);
    let last = commits.len().saturating_sub(1) as f64;
    draw(
        lines,
        -0.2..last + 0.2,
        (low / 1.5..top * 1.5).log_scale(),
        ("commit", "nanoseconds a packet"),
        &|at| {
            let near = at.round();
            let commit = commits.get(near.max(0.0) as usize);
            match commit {
                Some(commit) if (at - near).abs() < 0.01 => commit.clone(),
                _ => String::new(),
            }
        },
        &|nanos| format!("{nanos:.0}"),
    )
}

/// Bars from 1 to how many times as much each is, on a logarithmic scale.
pub(super) fn bars(rows: &[(String, f64)]) -> Result<String, Error> {
    let mut text = String::new();
    let height = 60 + 24 * rows.len() as u32;
    {
        let area = SVGBackend::with_string(&mut text, (SIZE.0, height)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let most = rows.iter().map(|row| row.1).fold(1.0, f64::max);
        let least = rows.iter().map(|row| row.1).fold(1.0, f64::min);
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .margin_right(60)
            .x_label_area_size(30)
            .y_label_area_size(190)
            .build_cartesian_2d(
                (least / 1.3..most * 1.3).log_scale(),
                0.0..rows.len().max(1) as f64,
            )
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .x_labels(6)
            .x_max_light_lines(0)
            .x_desc("times the nanoseconds of Portgate (more is slower)")
            .x_label_formatter(&|ratio| short(*ratio))
            .draw()
            .map_err(failed)?;
        let style = ("sans-serif", 13).into_font();
        for (number, (name, ratio)) in rows.iter().enumerate() {
            let middle = rows.len() as f64 - number as f64 - 0.5;
            let colour = COLOURS[usize::from(*ratio < 1.0)];
            let corners = [(1.0, middle - 0.32), (*ratio, middle + 0.32)];
            chart
                .draw_series([Rectangle::new(corners, colour.filled())])
                .map_err(failed)?;
            let (_, y) = chart.backend_coord(&(1.0, middle));
            let (x, _) = chart.backend_coord(&(ratio.max(1.0), middle));
            area.draw(&Text::new(name.clone(), (10, y - 7), style.clone()))
                .map_err(failed)?;
            area.draw(&Text::new(
                format!("{ratio:.2}"),
                (x + 5, y - 7),
                style.clone(),
            ))
            .map_err(failed)?;
        }
        area.present().map_err(failed)?;
    }
    Ok(text)
}

/// Lines with marks, a legend, and these axes.
fn draw<X, Y>(
    lines: &[Line],
    x: X,
    y: Y,
    (x_name, y_name): (&str, &str),
    x_label: &dyn Fn(&f64) -> String,
    y_label: &dyn Fn(&f64) -> String,
) -> Result<String, Error>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(x, y)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc(x_name)
            .y_desc(y_name)
            .x_label_formatter(&x_label)
            .y_label_formatter(&y_label)
            .draw()
            .map_err(failed)?;
        for (line, colour) in lines.iter().zip(COLOURS.into_iter().cycle()) {
            let style = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), style))
                .map_err(failed)?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
            let marks = line.points.iter();
            chart
                .draw_series(marks.map(|point| Circle::new(*point, 3, colour.filled())))
                .map_err(failed)?;
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.2))
            .draw()
            .map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(text)
}

/// 90 % is 1, 99 % is 2, and so on; the last hundred-thousandth is not told apart.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).max(1e-5).log10()
}

fn percentile(nines: f64) -> String {
    let text = format!("{:.3}", 100.0 * (1.0 - 10_f64.powf(-nines)));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Two digits that count, without zeros at the end.
fn short(value: f64) -> String {
    let decimals = (1 - value.log10().floor() as i32).max(0) as usize;
    let text = format!("{value:.decimals$}");
    if decimals == 0 {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn range(lines: &[Line], of: impl Fn(&(f64, f64)) -> f64) -> (f64, f64) {
    let values = || lines.iter().flat_map(|line| &line.points).map(&of);
    let low = values().fold(f64::MAX, f64::min);
    let high = values().fold(f64::MIN_POSITIVE, f64::max);
    (low.min(high), high)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Run(format!("a plot cannot be drawn: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nine_takes_as_much_room() {
        for (given, expected) in [
            (0.0, 0.0),
            (90.0, 1.0),
            (99.0, 2.0),
            (99.9, 3.0),
            (100.0, 5.0),
        ] {
            assert!((nines(given) - expected).abs() < 1e-9, "{given}");
        }
        assert_eq!(
            (percentile(1.0).as_str(), percentile(3.0).as_str()),
            ("90", "99.9")
        );
    }

    #[test]
    fn ticks_have_no_more_digits_than_they_need() {
        let texts: Vec<_> = [0.05, 0.30000000000000004, 1.0, 20.0, 150.0]
            .map(short)
            .to_vec();
        assert_eq!(texts, ["0.05", "0.3", "1", "20", "150"]);
    }

    #[test]
    fn every_line_and_bar_is_in_its_plot() {
        let line = |name: &str| Line {
            name: name.to_owned(),
            points: vec![(1000.0, 50.0), (1_000_000.0, 25.0)],
        };
        let plot = by_flows(&[line("first"), line("second")]).unwrap();
        for part in [
            "<svg",
            "first",
            "second",
            "million packets",
            "polyline",
            "circle",
        ] {
            assert!(plot.contains(part), "{part}");
        }
        let plot = bars(&[("slow peer".to_owned(), 40.0), ("floor".to_owned(), 0.5)]).unwrap();
        for part in ["slow peer", "40.00", "floor", "0.50", "<rect"] {
            assert!(plot.contains(part), "{part}");
        }
        let commits = ["aaa", "bbb"].map(str::to_owned);
        let points = vec![(0.0, 50.0), (1.0, 20.0)];
        let name = "history".to_owned();
        let plot = history(&commits, &[Line { name, points }]).unwrap();
        assert!(plot.contains("aaa") && plot.contains("bbb"), "{plot}");
        let curve = Curve {
            name: "p".to_owned(),
            points: vec![(50.0, 2000.0), (99.9, 9000.0)],
        };
        assert!(latency(&[curve]).unwrap().contains("percentile"));
    }
}
