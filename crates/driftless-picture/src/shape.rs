//! Ranges that hold curves, curves that stay within ranges, and no more points than a picture can show.

use crate::{Axis, Curve};

/// Of the range that holds values, so much is left free at either end.
const MARGIN: f64 = 0.06;

impl Axis {
    /// An axis that holds all values, and `must` too; with decades only what is above zero.
    #[must_use]
    pub fn holding(label: &str, values: impl Iterator<Item = f64>, must: &[f64]) -> Self {
        Self::fitted(label, values.chain(must.iter().copied()), false)
    }

    /// The same in decades.
    #[must_use]
    pub fn decades(label: &str, values: impl Iterator<Item = f64>) -> Self {
        Self::fitted(label, values.filter(|value| *value > 0.0), true)
    }

    fn fitted(label: &str, values: impl Iterator<Item = f64>, is_log: bool) -> Self {
        let axis = Self { label: label.to_owned(), range: (0.0, 1.0), is_log };
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return axis;
        }
        if is_log {
            // Whole decades, so that their lines are labelled.
            let (from, to) = (low.log10().floor(), high.log10().ceil());
            return Self { range: (10_f64.powf(from), 10_f64.powf(to.max(from + 1.0))), ..axis };
        }
        let margin = if high > low { (high - low) * MARGIN } else { low.abs().max(1e-9) * MARGIN };
        Self { range: (low - margin, high + margin), ..axis }
    }

    /// Without the free ends.
    #[must_use]
    pub fn exactly(label: &str, from: f64, to: f64) -> Self {
        Self { label: label.to_owned(), range: (from, to), is_log: false }
    }

    /// A value as it is drawn: its logarithm where decades are.
    #[must_use]
    pub fn drawn(&self, value: f64) -> f64 {
        if self.is_log { value.log10() } else { value }
    }

    /// The range as it is drawn.
    #[must_use]
    pub fn drawn_range(&self) -> (f64, f64) {
        (self.drawn(self.range.0), self.drawn(self.range.1))
    }

    /// A drawn value as people read it; nothing for what lies between decades.
    #[must_use]
    pub fn read(&self, drawn: f64) -> String {
        if self.is_log {
            let is_decade = (drawn - drawn.round()).abs() < 1e-6;
            return if is_decade { decade(drawn.round()) } else { String::new() };
        }
        let step = (self.range.1 - self.range.0).abs() / 5.0;
        let decimals = [0_usize, 1, 2, 3, 4, 5, 6, 7, 8, 9]
            .into_iter()
            .find(|decimals| step >= 10_f64.powi(-i32::try_from(*decimals).unwrap_or(9)))
            .unwrap_or(9);
        // −0 is 0.
        format!("{:.decimals$}", drawn + 0.0)
            .replace("-0.0", "0.0")
            .replace("-0", if decimals == 0 && drawn > -0.5 { "0" } else { "-0" })
    }
}

/// 0.01, 1, 100; beyond that with an exponent.
fn decade(exponent: f64) -> String {
    if (-3.0..=4.0).contains(&exponent) {
        format!("{}", 10_f64.powf(exponent))
    } else {
        format!("1e{exponent}")
    }
}

/// The pieces of a curve that lie within both axes, as drawn, cut at the frame.
#[must_use]
pub fn pieces(curve: &Curve, x: &Axis, y: &Axis) -> Vec<Vec<(f64, f64)>> {
    let ((left, right), (low, high)) = (x.drawn_range(), y.drawn_range());
    let drawn = || curve.points.iter().map(|point| (x.drawn(point.0), y.drawn(point.1)));
    let is_inside = |p: (f64, f64)| (left..=right).contains(&p.0) && (low..=high).contains(&p.1);
    if curve.is_dots {
        return vec![drawn().filter(|point| is_inside(*point)).collect()];
    }
    let mut pieces = Vec::new();
    let mut piece: Vec<(f64, f64)> = Vec::new();
    let mut before: Option<(f64, f64)> = None;
    for point in drawn() {
        if !(point.0.is_finite() && point.1.is_finite()) {
            pieces.push(core::mem::take(&mut piece));
            before = None;
            continue;
        }
        let cut = before.and_then(|before| clipped(before, point, (left, right), (low, high)));
        if let Some((from, to)) = cut {
            if piece.is_empty() {
                piece.push(from);
            }
            piece.push(to);
        } else if before.is_none() && is_inside(point) {
            piece.push(point);
        }
        if !is_inside(point) {
            pieces.push(core::mem::take(&mut piece));
        }
        before = Some(point);
    }
    pieces.push(piece);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// The part of a line that lies in a frame (Liang and Barsky).
fn clipped(
    from: (f64, f64),
    to: (f64, f64),
    (left, right): (f64, f64),
    (low, high): (f64, f64),
) -> Option<((f64, f64), (f64, f64))> {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let (mut enters, mut leaves) = (0.0_f64, 1.0_f64);
    for (towards, room) in
        [(-dx, from.0 - left), (dx, right - from.0), (-dy, from.1 - low), (dy, high - from.1)]
    {
        let at = room / towards;
        match towards.total_cmp(&0.0) {
            core::cmp::Ordering::Less => enters = enters.max(at),
            core::cmp::Ordering::Greater => leaves = leaves.min(at),
            core::cmp::Ordering::Equal if room < 0.0 => return None,
            core::cmp::Ordering::Equal => {}
        }
    }
    let at = |part: f64| (from.0 + part * dx, from.1 + part * dy);
    (enters <= leaves).then(|| (at(enters), at(leaves)))
}

/// No more of a line than `columns` columns can show: of each its first, least, greatest and last point.
#[must_use]
pub fn thinned(points: &[(f64, f64)], (left, right): (f64, f64), columns: f64) -> Vec<(f64, f64)> {
    let column = |point: &(f64, f64)| ((point.0 - left) / (right - left) * columns).floor();
    let mut kept = Vec::new();
    for group in points.chunk_by(|one, two| column(one).total_cmp(&column(two)).is_eq()) {
        let by = |one: &&(f64, f64), two: &&(f64, f64)| one.1.total_cmp(&two.1);
        let chosen = [group.first(), group.iter().min_by(by), group.iter().max_by(by), group.last()];
        let mut chosen: Vec<(f64, f64)> = chosen.into_iter().flatten().copied().collect();
        chosen.sort_by(|one, two| one.0.total_cmp(&two.0));
        chosen.dedup();
        kept.extend(chosen);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[(f64, f64)]) -> Curve {
        Curve { points: points.to_vec(), ..Curve::default() }
    }

    #[test]
    fn a_line_is_cut_where_it_leaves_the_frame_and_taken_up_where_it_comes_back() {
        let (x, y) = (Axis::exactly("", 0.0, 10.0), Axis::exactly("", -1.0, 1.0));
        let found = pieces(&line(&[(0.0, 0.0), (2.0, 2.0), (4.0, 0.0), (5.0, f64::NAN), (6.0, 0.0)]), &x, &y);
        let expected = vec![vec![(0.0, 0.0), (1.0, 1.0)], vec![(3.0, 1.0), (4.0, 0.0)], vec![(6.0, 0.0)]];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_line_across_the_whole_frame_is_seen() {
        let (x, y) = (Axis::exactly("", 0.0, 10.0), Axis::exactly("", -1.0, 1.0));
        let found = pieces(&line(&[(4.0, -3.0), (6.0, 3.0)]), &x, &y);
        assert_eq!(found.len(), 1);
        assert!((found[0][0].1 + 1.0).abs() < 1e-9 && (found[0][1].1 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn thinning_keeps_every_peak() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|n| (f64::from(n), 0.0)).collect();
        points[5_003].1 = 7.0;
        let kept = thinned(&points, (0.0, 10_000.0), 100.0);
        assert!(kept.len() <= 400 && kept.contains(&(5_003.0, 7.0)));
    }

    #[test]
    fn values_are_read_without_needless_digits() {
        let axis = Axis::exactly("", -50.0, 50.0);
        assert_eq!([axis.read(-0.0), axis.read(-20.0), axis.read(50.0)], ["0", "-20", "50"]);
        assert_eq!(Axis::exactly("", 0.0, 1.0).read(0.2), "0.2");
        let decades = Axis::decades("", [3e-9, 2e-6].into_iter());
        assert_eq!((decades.read(-8.0), decades.read(-7.5)), ("1e-8".to_owned(), String::new()));
        assert!((decades.range.0 / 1e-9 - 1.0).abs() < 1e-9 && (decades.range.1 / 1e-5 - 1.0).abs() < 1e-9);
    }
}
