//! Plots that need no library: horizontal bars, one panel per workload, and courses, one panel per thing, each with its
//! own scale; and lines over logarithmic axes.

use std::fmt::{Display, Write as _};

/// One bar.
pub struct Bar {
    /// Left of it.
    pub name: &'static str,
    /// Its length.
    pub value: f64,
    /// Right of it.
    pub told: String,
    /// Dark, for what stands out: an acknowledgement that means disk, or ours.
    pub dark: bool,
}

const LEFT: f64 = 220.0;
const LONGEST: f64 = 420.0;
const ROW: f64 = 22.0;
const WIDTH: f64 = 900.0;

/// The beginning of a picture, white, with its title.
fn sheet(title: &str, height: f64, font: u8) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"{font}\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n<text x=\"10\" y=\"{ROW}\" font-weight=\"bold\">{title}</text>\n"
    )
}

/// How something goes on: points in ascending order.
pub struct Course {
    /// What is shown.
    pub name: &'static str,
    /// Where.
    pub points: Vec<(f64, f64)>,
}

/// Height of the panel of a course.
const PANEL: f64 = 120.0;

/// Courses above one another over the same axis, as SVG; each panel begins at zero.
pub fn courses(title: &str, axis: &str, courses: &[Course]) -> String {
    let height = 2.0 * ROW + courses.len() as f64 * (PANEL + 3.0 * ROW);
    let mut svg = sheet(title, height, 13);
    let mut put = |piece: std::fmt::Arguments<'_>| {
        // Writing to a text does not fail.
        svg.write_fmt(piece).ok();
    };
    let (left, wide) = (70.0, WIDTH - 90.0);
    let all = || courses.iter().flat_map(|line| &line.points);
    let furthest = all().map(|(x, _)| *x).fold(1.0, f64::max);
    let mut top = 2.0 * ROW;
    for line in courses {
        let most = line.points.iter().map(|(_, y)| *y).fold(0.0, f64::max) * 1.1;
        let most = if most > 0.0 { most } else { 1.0 };
        let (above, bottom) = (top - 6.0, top + PANEL);
        let place = |(x, y): &(f64, f64)| {
            let (x, y) = (left + x / furthest * wide, bottom - y / most * PANEL);
            format!("{x:.1},{y:.1}")
        };
        let points: Vec<String> = line.points.iter().map(place).collect();
        let (middle, right, under) = (top + PANEL / 2.0, left + wide, bottom + 16.0);
        put(format_args!(
            "<text x=\"10\" y=\"{above}\" font-weight=\"bold\">{}</text>\
             <path d=\"M{left},{top} V{bottom} H{right}\" fill=\"none\" stroke=\"#888\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-size=\"11\">{most:.1}</text>\
             <text x=\"{}\" y=\"{middle}\" text-anchor=\"end\" font-size=\"11\">{:.1}</text>\
             <text x=\"{right}\" y=\"{under}\" text-anchor=\"end\" font-size=\"11\">{} {axis}</text>\
             <polyline points=\"{}\" fill=\"none\" stroke=\"#1f4e79\" stroke-width=\"2\"/>\n",
            line.name,
            left - 6.0,
            top + 10.0,
            left - 6.0,
            most / 2.0,
            crate::table::grouped(furthest),
            points.join(" "),
        ));
        top += PANEL + 3.0 * ROW;
    }
    svg.push_str("</svg>\n");
    svg
}

/// The picture, as SVG.
pub fn bars<N: Display>(title: &str, panels: &[(N, Vec<Bar>)]) -> String {
    let rows: usize = panels.iter().map(|(_, bars)| bars.len() + 2).sum();
    let height = ROW * (rows as f64 + 2.0);
    let mut svg = sheet(title, height, 13);
    let mut put = |piece: std::fmt::Arguments<'_>| {
        // Writing to a text does not fail.
        svg.write_fmt(piece).ok();
    };
    let mut y = 2.0 * ROW;
    for (name, bars) in panels {
        put(format_args!(
            "<text x=\"10\" y=\"{y}\" font-weight=\"bold\">{name}</text>\n"
        ));
        let most = bars.iter().map(|b| b.value).fold(1.0, f64::max);
        for bar in bars {
            y += ROW;
            let (top, wide) = (y - 13.0, (bar.value / most * LONGEST).max(1.0));
            let fill = if bar.dark { "#1f4e79" } else { "#b9c4d0" };
            let (right, after) = (LEFT - 8.0, LEFT + wide + 6.0);
            put(format_args!(
                "<text x=\"{right}\" y=\"{y}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LEFT}\" y=\"{top}\" width=\"{wide:.0}\" height=\"16\" fill=\"{fill}\"/>\
                 <text x=\"{after:.0}\" y=\"{y}\" font-size=\"11\">{}</text>\n",
                bar.name, bar.told
            ));
        }
        y += 2.0 * ROW;
    }
    svg.push_str("</svg>\n");
    svg
}

/// A line through points; all of them above 0.
pub struct Line {
    /// Beside the panel.
    pub name: String,
    /// Which of the colours, `INKS`.
    pub ink: usize,
    /// For one that may lie on another.
    pub dashed: bool,
    /// Left to right.
    pub points: Vec<(f64, f64)>,
}

/// Colours of lines.
const INKS: [&str; 4] = ["#8a97a5", "#c0504d", "#1f4e79", "#2e8b57"];
const PLOT_WIDE: f64 = 520.0;
const PLOT_HIGH: f64 = 220.0;

/// Panels of lines below each other, both axes logarithmic, with a tick at each power of ten.
pub fn lines(title: &str, panels: &[(String, &str, Vec<Line>)]) -> String {
    let each = PLOT_HIGH + 3.5 * ROW;
    let height = 2.0 * ROW + each * panels.len() as f64;
    let mut svg = sheet(title, height, 12);
    for (number, (name, across, lines)) in panels.iter().enumerate() {
        let top = 3.0 * ROW + each * number as f64;
        panel(&mut svg, top, (name.as_str(), *across), lines);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Whole powers of ten that hold all of these.
fn decades(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let (low, high) = (
        values.clone().fold(f64::INFINITY, f64::min),
        values.fold(0.0, f64::max),
    );
    let (low, high) = (low.log10().floor(), high.log10().ceil());
    (low, high.max(low + 1.0))
}

fn panel(svg: &mut String, top: f64, (name, across): (&str, &str), lines: &[Line]) {
    let mut put = |piece: std::fmt::Arguments<'_>| {
        // Writing to a text does not fail.
        svg.write_fmt(piece).ok();
    };
    let left = 70.0;
    let points = lines.iter().flat_map(|line| line.points.iter().copied());
    let (x_low, x_high) = decades(points.clone().map(|(x, _)| x));
    let (y_low, y_high) = decades(points.map(|(_, y)| y));
    let x_at = |x: f64| left + (x.log10() - x_low) / (x_high - x_low) * PLOT_WIDE;
    let y_at = |y: f64| top + PLOT_HIGH - (y.log10() - y_low) / (y_high - y_low) * PLOT_HIGH;
    let above = top - 8.0;
    put(format_args!(
        "<text x=\"10\" y=\"{above}\" font-weight=\"bold\">{name}</text>\n\
         <rect x=\"{left}\" y=\"{top}\" width=\"{PLOT_WIDE}\" height=\"{PLOT_HIGH}\" fill=\"none\" \
         stroke=\"#999\"/>\n"
    ));
    let powers = |low: f64, high: f64| (low as i32..=high as i32).map(|power| 10_f64.powi(power));
    for tick in powers(x_low, x_high) {
        let (x, y) = (x_at(tick), top + PLOT_HIGH + 15.0);
        put(format_args!(
            "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"middle\">{tick}</text>\n"
        ));
    }
    for tick in powers(y_low, y_high) {
        let (x, y, below) = (left - 6.0, y_at(tick), y_at(tick) + 4.0);
        let right = left + PLOT_WIDE;
        put(format_args!(
            "<text x=\"{x}\" y=\"{below:.0}\" text-anchor=\"end\">{tick}</text>\
             <path d=\"M{left} {y:.1}H{right}\" stroke=\"#eee\"/>\n"
        ));
    }
    let (middle, below) = (left + PLOT_WIDE / 2.0, top + PLOT_HIGH + 32.0);
    put(format_args!(
        "<text x=\"{middle}\" y=\"{below:.0}\" text-anchor=\"middle\">{across}</text>\n"
    ));
    for (number, line) in lines.iter().enumerate() {
        let ink = INKS.get(line.ink).copied().unwrap_or("#000");
        let dash = if line.dashed { "6 4" } else { "none" };
        let path: Vec<String> = line
            .points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", x_at(*x), y_at(*y)))
            .collect();
        let (right, y) = (left + PLOT_WIDE + 10.0, top + 14.0 + ROW * number as f64);
        put(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{ink}\" stroke-width=\"2\" \
             stroke-dasharray=\"{dash}\"/><text x=\"{right}\" y=\"{y}\" fill=\"{ink}\">{}</text>\n",
            path.join(" "),
            line.name
        ));
    }
}
