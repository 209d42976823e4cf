//! Plots, as SVG.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 60.0;

/// A curve with a dot for each of its values: (what it was measured at, its cost).
pub struct Curve {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Curves over a logarithmic axis, or an even one; the vertical axis begins at 0.
pub fn svg(title: &str, across: &str, up: &str, logarithmic: bool, curves: &[Curve]) -> String {
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let scale = |x: f64| if logarithmic { x.ln() } else { x };
    let (low, high) =
        all().map(|(x, _)| scale(*x)).fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(x), b.max(x)));
    let top = all().map(|(_, y)| *y).fold(0.0, f64::max) * 1.1;
    let place = |(x, y): (f64, f64)| {
        let x = if high > low { (scale(x) - low) / (high - low) } else { 0.5 };
        (MARGIN + x * (WIDTH - 2.0 * MARGIN), HEIGHT - MARGIN - y / top * (HEIGHT - 2.0 * MARGIN))
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\" font-size=\"15\">{title}</text>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{across}</text>\n\
         <text x=\"16\" y=\"{}\" transform=\"rotate(-90 16 {})\" text-anchor=\"middle\">{up}</text>\n",
        WIDTH / 2.0,
        HEIGHT - 16.0,
        HEIGHT / 2.0,
        HEIGHT / 2.0
    );
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let (_, y) = place((f64::from(1), value));
        let _ = writeln!(
            out,
            "<line x1=\"{MARGIN}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.1}</text>",
            WIDTH - MARGIN,
            MARGIN - 6.0,
            y + 4.0
        );
    }
    let mut marks: Vec<f64> = all().map(|(x, _)| *x).collect();
    marks.sort_by(f64::total_cmp);
    marks.dedup();
    for x in marks {
        let (at, _) = place((x, 0.0));
        let y = HEIGHT - MARGIN + 16.0;
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{y}\" text-anchor=\"middle\">{x}</text>");
    }
    for (number, (curve, colour)) in curves.iter().zip(["#1f77b4", "#d62728", "#2ca02c"]).enumerate() {
        let places: Vec<_> = curve.points.iter().map(|&point| place(point)).collect();
        let line: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            line.join(" ")
        );
        for (x, y) in places {
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let y = 40.0 + 16.0 * number as f64;
        let _ = writeln!(out, "<text x=\"{MARGIN}\" y=\"{y}\" fill=\"{colour}\">{}</text>", curve.name);
    }
    out + "</svg>\n"
}
