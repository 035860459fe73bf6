//! Who agrees, and who is followed: the intersection of bounds (RFC 5905, section 11.2.1; Marzullo).

mod combine;

use crate::time::Seconds;

pub use combine::combine;

/// One source as selection sees it: its truth lies within ±`bound` of `offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate<Id> {
    /// Who.
    pub id: Id,
    /// Reference − local.
    pub offset: Seconds,
    /// Largest credible error of `offset`.
    pub bound: Seconds,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection<Id> {
    /// Whom to follow: the tightest of those who agree.
    pub chosen: Option<Id>,
    /// All who agree, the chosen one among them.
    pub agreeing: Vec<Id>,
    /// Who contradicts the majority.
    pub falsetickers: Vec<Id>,
}

/// How many times wider than the best's bound the followed source's may be before it is left: changing sources costs a wobble.
const LOYALTY: f64 = 2.0;

/// Finds the point that most bounds contain; who contains it is a truechimer, if they are a majority. Of those the tightest is chosen,
/// but `followed` is kept while it is nearly as good. Of two that contradict each other nobody can be chosen but by their bounds.
#[must_use]
pub fn select<Id: Copy + PartialEq>(candidates: &[Candidate<Id>], followed: Option<Id>) -> Selection<Id> {
    let agreed = best_point(candidates);
    let holds = |c: &&Candidate<Id>| agreed.is_some_and(|point| c.contains(point));
    let (true_ones, false_ones): (Vec<&Candidate<Id>>, Vec<&Candidate<Id>>) =
        candidates.iter().partition(holds);
    let falsetickers = false_ones.iter().map(|c| c.id).collect();
    let agreeing = true_ones.iter().map(|c| c.id).collect();
    let Some(best) = true_ones.iter().min_by(|a, b| a.bound.0.total_cmp(&b.bound.0)) else {
        return Selection { chosen: None, agreeing, falsetickers };
    };
    let kept = true_ones.iter().find(|c| Some(c.id) == followed && c.bound.0 <= best.bound.0 * LOYALTY);
    Selection { chosen: Some(kept.unwrap_or(best).id), agreeing, falsetickers }
}

/// A point in more than half of the intervals, if there is one: the one in most, the first such lower edge.
fn best_point<Id>(candidates: &[Candidate<Id>]) -> Option<f64> {
    let containing = |point: f64| candidates.iter().filter(|c| c.contains(point)).count();
    candidates
        .iter()
        .map(|c| c.offset.0 - c.bound.0)
        .map(|edge| (containing(edge), edge))
        .max_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)))
        .filter(|(count, _)| count * 2 > candidates.len())
        .map(|(_, edge)| edge)
}

impl<Id> Candidate<Id> {
    /// Whether the truth could be there; a nanosecond of rounding is forgiven, and what rounding does to an offset of many years.
    fn contains(&self, point_s: f64) -> bool {
        let rounding_s = 1e-9 + self.offset.0.abs() * f64::EPSILON;
        (self.offset.0 - point_s).abs() <= self.bound.0 + rounding_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: u8, offset: f64, bound: f64) -> Candidate<u8> {
        Candidate { id, offset: Seconds(offset), bound: Seconds(bound) }
    }

    #[test]
    fn a_clock_that_begins_in_1970_is_believed_to_be_that_far_off() {
        for offset in [1_764_021_075.147_3, 795_557_048.123_456_7, -1_764_021_075.999_9] {
            for bound in [1e-9, 73e-9, 190e-9, 1e-3] {
                let selection = select(&[candidate(0, offset, bound)], None);
                assert_eq!(selection.chosen, Some(0), "{offset} {bound}");
            }
        }
    }

    #[test]
    fn the_liar_of_three_is_left_out() {
        let three = [candidate(0, 0.0, 1e-3), candidate(1, 5.0, 1e-4), candidate(2, 0.5e-3, 2e-3)];
        let expected = Selection { chosen: Some(0), agreeing: vec![0, 2], falsetickers: vec![1] };
        assert_eq!(select(&three, None), expected);
    }

    #[test]
    fn two_that_contradict_each_other_are_both_left() {
        let two = [candidate(0, 0.0, 1e-3), candidate(1, 5.0, 1e-3)];
        assert_eq!(select(&two, Some(0)).chosen, None);
    }

    #[test]
    fn one_alone_is_followed_and_a_slightly_better_one_changes_nothing() {
        assert_eq!(select(&[candidate(3, 9.0, 1e-3)], None).chosen, Some(3));
        let two = [candidate(0, 0.0, 1.5e-3), candidate(1, 0.0, 1e-3)];
        assert_eq!(select(&two, Some(0)).chosen, Some(0));
        assert_eq!(select(&two, None).chosen, Some(1));
    }
}
