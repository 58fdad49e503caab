//! Medians, and ratios taken pair by pair.

/// The median; `NaN` of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.get(middle) {
        None => f64::NAN,
        Some(upper) if values.len() % 2 == 1 => *upper,
        Some(upper) => (values[middle - 1] + upper) / 2.0,
    }
}

/// The median of `value / base`, each pair taken in the same round: what slows a whole round down
/// counts on both sides.
pub fn paired_ratio(values: &[u64], bases: &[u64]) -> f64 {
    median(values.iter().zip(bases).map(|(value, base)| *value as f64 / *base as f64))
}

/// Nanoseconds as milliseconds.
pub fn milliseconds(nanoseconds: f64) -> f64 {
    nanoseconds / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_round_that_is_slow_for_both_sides_does_not_move_the_ratio() {
        assert_eq!(paired_ratio(&[20, 20, 2000], &[10, 10, 1000]), 2.0);
    }
}
