//! A plot that needs no library: horizontal bars, one panel per workload, each with its own scale.

use std::fmt::Write as _;

/// One bar.
pub struct Bar {
    /// Left of it.
    pub name: &'static str,
    /// Its length.
    pub value: f64,
    /// Right of it.
    pub told: String,
    /// Dark, for what its acknowledgement means disk.
    pub disk: bool,
}

const LEFT: f64 = 220.0;
const LONGEST: f64 = 420.0;
const ROW: f64 = 22.0;
const WIDTH: f64 = 900.0;

/// The picture, as SVG.
pub fn bars(title: &str, panels: &[(&str, Vec<Bar>)]) -> String {
    let rows: usize = panels.iter().map(|(_, bars)| bars.len() + 2).sum();
    let height = ROW * (rows as f64 + 2.0);
    let mut svg = String::new();
    let mut put = |piece: std::fmt::Arguments<'_>| {
        // Writing to a text does not fail.
        svg.write_fmt(piece).ok();
    };
    put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n<text x=\"10\" y=\"{ROW}\" font-weight=\"bold\">{title}</text>\n"
    ));
    let mut y = 2.0 * ROW;
    for (name, bars) in panels {
        put(format_args!(
            "<text x=\"10\" y=\"{y}\" font-weight=\"bold\">{name}</text>\n"
        ));
        let most = bars.iter().map(|b| b.value).fold(1.0, f64::max);
        for bar in bars {
            y += ROW;
            let (top, wide) = (y - 13.0, (bar.value / most * LONGEST).max(1.0));
            let fill = if bar.disk { "#1f4e79" } else { "#b9c4d0" };
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
