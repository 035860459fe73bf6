//! Tick and frequency: who of the two carries how much of a rate.

use crate::clock::Rate;
use crate::time::Frequency;

/// How far the fine part may go before the tick is moved: inside the kernel's ±500 ppm, so that a steady slew has room.
const FINE_MAX: Frequency = Frequency(450e-6);

/// All that is ever asked of the kernel: beyond ±10 % it takes no tick.
const TOTAL_MAX: Frequency = Frequency(0.1);

/// The rate nearest to `total` within ±10 %. The current tick is kept while the fine part fits beside it.
#[must_use]
pub fn split(total: Frequency, current: Rate) -> Rate {
    let total = total.clamp_to(TOTAL_MAX);
    let with = |tick: i32| {
        let coarse = Rate { tick, frequency: Frequency::ZERO }.total();
        Rate { tick, frequency: rounded((total - coarse).clamp_to(Rate::FREQUENCY_MAX)) }
    };
    let kept = Rate { tick: current.tick, frequency: Frequency::ZERO }.total();
    if (total - kept).abs() <= FINE_MAX && (Rate::TICK_MIN..=Rate::TICK_MAX).contains(&current.tick) {
        return with(current.tick);
    }
    with(nearest_tick(total))
}

/// What the kernel will keep of it: whole units of 2^-16 ppm.
fn rounded(frequency: Frequency) -> Frequency {
    Frequency::from_scaled_ppm(frequency.scaled_ppm())
}

#[expect(clippy::cast_possible_truncation, reason = "clamped to ±1000 first")]
fn nearest_tick(total: Frequency) -> i32 {
    let ticks = (total.0 / Rate::TICK_STEP.0).round();
    Rate::NOMINAL_TICK + ticks.clamp(-1000.0, 1000.0) as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_changes_leave_the_tick_alone() {
        let first = split(Frequency::from_ppm(-676.0), Rate::NOMINAL);
        assert_eq!(first.tick, 9_993);
        assert_eq!(split(Frequency::from_ppm(-1_100.0), first).tick, 9_993);
        assert_eq!(split(Frequency::from_ppm(-1_200.0), first).tick, 9_988);
    }

    proptest! {
        #[test]
        fn every_rate_within_ten_percent_is_had(ppm in -100_000.0..100_000.0_f64, tick in 9_000..=11_000_i32) {
            let rate = split(Frequency::from_ppm(ppm), Rate { tick, frequency: Frequency::ZERO });
            prop_assert!((rate.total().ppm() - ppm).abs() < 1e-4, "{rate:?}");
            prop_assert!(rate.frequency.abs() <= Rate::FREQUENCY_MAX);
            prop_assert!((Rate::TICK_MIN..=Rate::TICK_MAX).contains(&rate.tick));
        }
    }
}
