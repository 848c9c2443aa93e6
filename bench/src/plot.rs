//! Plots as SVG. Pure.
//!
//! In: results. Out: pictures: ratios as bars with their least and most and their targets; latencies as lines.

use crate::{
    config::{NONE, OURS, PEER},
    results::{Curve, Results},
    table::Summary,
    target::{Bound, Fate, Verdict, verdicts},
};

/// A drawing and its name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Picture {
    /// The file's name.
    pub file: String,
    /// What it shows.
    pub title: String,
    /// The drawing.
    pub svg: String,
}

const LEFT: f64 = 260.0;
const WIDTH: f64 = 640.0;
const ROW: f64 = 24.0;
const TOP: f64 = 44.0;

/// All that can be drawn of these results.
pub(crate) fn all(results: &Results) -> Vec<Picture> {
    let mut all = Vec::new();
    let ratios: Vec<Verdict> = verdicts(results).into_iter().filter(|it| value(it).is_some()).collect();
    for (file, title, more) in [
        ("more.svg", "More is better: share of the target (black line), with least and most (grey)", true),
        ("less.svg", "Less is better: share of the target (black line), with least and most (grey)", false),
    ] {
        let shown: Vec<&Verdict> =
            ratios.iter().filter(|it| more == matches!(it.target.bound, Bound::AtLeast(_))).collect();
        if !shown.is_empty() {
            all.push(Picture { file: file.to_owned(), title: title.to_owned(), svg: bars(title, &shown) });
        }
    }
    let mut measures: Vec<&str> = results.latency.iter().map(|curve| curve.measure.as_str()).collect();
    measures.dedup();
    for measure in measures {
        let of: Vec<&Curve> =
            results.latency.iter().filter(|curve| curve.measure == measure && curve.points.len() > 1).collect();
        if !of.is_empty() {
            let title = format!("{measure}: latency from when a request was due");
            all.push(Picture { file: format!("{measure}.svg"), svg: lines(&title, &of), title });
        }
    }
    all
}

/// What was found, as a share of the target, so that all fit one scale.
fn value(verdict: &Verdict) -> Option<Summary> {
    let (Fate::Met(found) | Fate::Missed(found)) = &verdict.fate else { return None };
    let (Bound::AtLeast(bound) | Bound::AtMost(bound)) = verdict.target.bound;
    let share = |value: f64| value / bound;
    Some(Summary { median: share(found.median), min: share(found.min), max: share(found.max) })
}

fn bars(title: &str, verdicts: &[&Verdict]) -> String {
    let values: Vec<Summary> = verdicts.iter().filter_map(|verdict| value(verdict)).collect();
    let most = values.iter().map(|value| value.max).fold(1.0, f64::max) * 1.05;
    let x = |value: f64| LEFT + value / most * WIDTH;
    let height = TOP + ROW * values.len() as f64 + 10.0;
    let mut svg = begin(title, height);
    for (at, (verdict, value)) in verdicts.iter().zip(&values).enumerate() {
        let y = TOP + ROW * at as f64;
        let colour = if matches!(verdict.fate, Fate::Met(_)) { "#4e9a5b" } else { "#c8553d" };
        let (name, middle) = (format!("{} {}", verdict.target.measure, verdict.target.what), y + 9.0);
        svg.push_str(&format!(
            "<text x=\"4\" y=\"{:.1}\">{}</text><rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"18\" fill=\"{colour}\">\
             <title>{}: {}</title></rect>\n",
            y + 13.0,
            escaped(&name),
            value.median / most * WIDTH,
            escaped(&name),
            escaped(&verdict.target.wish())
        ));
        svg.push_str(&format!(
            "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"#888\" stroke-width=\"3\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\">{}</text>\n",
            x(value.min),
            x(value.max),
            LEFT + 4.0,
            y + 13.0,
            escaped(&verdict.target.wish())
        ));
    }
    let target = x(1.0);
    svg.push_str(&format!(
        "<line x1=\"{target:.1}\" x2=\"{target:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"black\" stroke-width=\"2\"/>\n</svg>\n",
        TOP - 6.0,
        height - 6.0
    ));
    svg
}

/// Shares of requests upwards, each nine as high as the one before; microseconds to the right, each ten as wide.
fn lines(title: &str, curves: &[&Curve]) -> String {
    let micros = || curves.iter().flat_map(|curve| &curve.points).map(|point| point.1.max(1.0));
    let (least, most) =
        (micros().fold(f64::MAX, f64::min).log10().floor(), micros().fold(1.0, f64::max).log10().ceil());
    let (bottom, high) = (340.0, 290.0);
    let x = |micros: f64| 60.0 + (micros.max(1.0).log10() - least) / (most - least).max(1.0) * (LEFT + WIDTH - 190.0);
    let y = |share: f64| bottom + (1.0 - share).log10() / 4.0 * high;
    let mut svg = begin(title, bottom + 30.0);
    for (share, name) in [(0.0, "0"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")] {
        let y = y(share);
        svg.push_str(&format!(
            "<text x=\"4\" y=\"{:.1}\">{name}</text><line x1=\"60\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\n",
            y + 4.0,
            LEFT + WIDTH - 130.0
        ));
    }
    for power in least as i32..=most as i32 {
        let micros = 10_f64.powi(power);
        svg.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\">{micros} us</text><line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" \
             stroke=\"#ddd\"/>\n",
            x(micros) - 10.0,
            bottom + 16.0,
            x(micros),
            x(micros)
        ));
    }
    for (at, curve) in curves.iter().enumerate() {
        let colour = colour(&curve.column);
        let points: Vec<String> =
            curve.points.iter().map(|(share, micros)| format!("{:.1},{:.1}", x(*micros), y(*share))).collect();
        svg.push_str(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{} ({})</text>\n",
            points.join(" "),
            LEFT + WIDTH - 120.0,
            TOP + 16.0 * (at as f64 + 1.0),
            escaped(&curve.column),
            curve.count
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

fn colour(column: &str) -> &'static str {
    match column {
        NONE => "#777777",
        OURS => "#2a6fbb",
        PEER => "#c8553d",
        _ => "#8a5fb0",
    }
}

fn begin(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"4\" y=\"18\" font-size=\"14\">{}</text>\n",
        LEFT + WIDTH + 20.0,
        escaped(title)
    )
}

/// Text that an XML reader takes for text.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Number;

    #[test]
    fn bars_are_as_long_as_their_share_of_the_target() {
        let mut results = Results::default();
        for (column, value) in [(OURS, 8.0), (PEER, 4.0)] {
            results.measures.add("same.tcp1.up", column, &Number { what: "throughput", unit: "Gbit/s", value });
        }
        let pictures = all(&results);
        assert_eq!(pictures.len(), 1);
        // Two of four, where the target itself takes 1/1.05 of the width.
        assert!(pictures[0].svg.contains("width=\"304.8\""), "{}", pictures[0].svg);
    }

    #[test]
    fn latencies_are_lines_and_names_are_escaped() {
        let curve = |column: &str| Curve {
            measure: "m".to_owned(),
            column: column.to_owned(),
            count: 9,
            points: vec![(0.5, 100.0), (0.99, 1000.0)],
        };
        let results = Results { latency: vec![curve(OURS), curve("<b>")], ..Results::default() };
        let pictures = all(&results);
        assert_eq!(pictures.len(), 1);
        assert_eq!(pictures[0].svg.matches("<polyline").count(), 2);
        assert!(pictures[0].svg.contains("&lt;b&gt;") && !pictures[0].svg.contains("<b>"));
    }
}
