//! A flame graph from folded stacks. Pure but for its two ends.
//!
//! In: lines of `frame;frame;frame count`, as `perf script` becomes them. Out: an SVG; each box is as wide as its share of
//! samples, and callers are below callees. Hovering shows a frame's whole name and share.

use std::{collections::BTreeMap, io::Read as _, path::Path};

use anyhow::{Context as _, bail};

use crate::plot::escaped;

const WIDTH: f64 = 1200.0;
const ROW: f64 = 17.0;
/// Narrower boxes are left out: half a percent.
const WIDTH_MIN: f64 = WIDTH / 200.0;
/// Deeper frames are left out: code that recurses for ever has been seen.
const DEPTH_MAX: usize = 200;
/// How wide a letter is.
const LETTER: f64 = 7.0;

#[derive(Debug, Default)]
struct Frame {
    samples: u64,
    above: BTreeMap<String, Frame>,
}

/// Reads `file` (`-`: standard input); the drawing.
pub(crate) fn draw_file(file: &Path, title: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    }
    draw(&text, title)
}

/// The drawing of folded stacks.
pub(crate) fn draw(folded: &str, title: &str) -> anyhow::Result<String> {
    let mut root = Frame::default();
    for line in folded.lines().filter(|line| !line.trim().is_empty()) {
        let (stack, count) = line.rsplit_once(' ').with_context(|| format!("no count in {line:?}"))?;
        let count: u64 = count.parse().with_context(|| format!("no count in {line:?}"))?;
        root.samples += count;
        let mut at = &mut root;
        for name in stack.split(';').take(DEPTH_MAX) {
            at = at.above.entry(name.to_owned()).or_default();
            at.samples += count;
        }
    }
    if root.samples == 0 {
        bail!("no samples");
    }
    let height = ROW * (depth(&root) as f64 + 2.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" \
         font-size=\"11\">\n<text x=\"4\" y=\"13\">{} ({} samples)</text>\n",
        escaped(title),
        root.samples
    );
    let drawing = Drawing { per_sample: WIDTH / root.samples as f64, all: root.samples, height };
    drawing.frames(&root, 0.0, 1, &mut svg);
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn depth(frame: &Frame) -> usize {
    frame.above.values().map(|above| 1 + depth(above)).max().unwrap_or_default()
}

struct Drawing {
    per_sample: f64,
    all: u64,
    height: f64,
}

impl Drawing {
    /// What stands on `frame`, whose left edge is at `x`, in this row from below.
    fn frames(&self, frame: &Frame, mut x: f64, row: u32, svg: &mut String) {
        for (name, above) in &frame.above {
            let width = above.samples as f64 * self.per_sample;
            if width >= WIDTH_MIN {
                self.one(name, above.samples, (x, self.height - ROW * f64::from(row), width), svg);
                self.frames(above, x, row + 1, svg);
            }
            x += width;
        }
    }

    fn one(&self, name: &str, samples: u64, (x, y, width): (f64, f64, f64), svg: &mut String) {
        let share = 100.0 * samples as f64 / self.all as f64;
        let fits = (width / LETTER) as usize;
        let shown: String = if fits > 2 { name.chars().take(fits).collect() } else { String::new() };
        let (colour, name, shown) = (colour(name), escaped(name), escaped(&shown));
        svg.push_str(&format!(
            "<g><title>{name}: {share:.2} %</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" \
             fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\">{shown}</text></g>\n",
            ROW - 1.0,
            x + 2.0,
            y + ROW - 5.0,
        ));
    }
}

/// By kind: the kernel, cryptography, the runtime and protocols, the rest.
fn colour(name: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if has(&["_[k]", "[kernel"]) {
        "#e0925c"
    } else if has(&["aes", "gcm", "aws_lc", "rustls"]) {
        "#9db7e0"
    } else if has(&["h2::", "tokio", "hyper"]) {
        "#a9d18e"
    } else if has(&["memcpy", "memmove", "copy"]) {
        "#e6c84f"
    } else {
        "#d9b3a0"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_as_wide_as_their_share() {
        let svg = draw("main;read 3\nmain;write<u8> 1\n\n", "t").expect("stacks");
        assert!(svg.contains("<title>main: 100.00 %</title><rect x=\"0.0\""), "{svg}");
        assert!(svg.contains("<title>read: 75.00 %</title>") && svg.contains("width=\"900.0\""), "{svg}");
        assert!(svg.contains("<title>write&lt;u8&gt;: 25.00 %</title><rect x=\"900.0\""), "{svg}");
    }

    #[test]
    fn what_is_not_folded_is_refused() {
        for text in ["", "main", "main x", "main;a -1"] {
            assert!(draw(text, "t").is_err(), "{text:?}");
        }
    }
}
