//! Shares of a group's members in its traffic (B20, B21).

/// Sum of the weights that are given, each cut to 0..=100.
pub(super) fn total(weights: &[Option<i64>]) -> u16 {
    weights.iter().flatten().map(|weight| cut(*weight)).sum()
}

fn cut(weight: i64) -> u16 {
    u16::try_from(weight.clamp(0, 100)).unwrap_or(100)
}

/// Positions in `weights` in the order in which they are tried, each with the end of its share in
/// percent. A single member has all; those with weights come first; the others share the rest in equal
/// parts. Weights that add up to more than 100 use it up in their order.
pub(super) fn shares(weights: &[Option<i64>]) -> Vec<(usize, u8)> {
    if let [_] = weights {
        return vec![(0, 100)];
    }
    let mut shares = Vec::with_capacity(weights.len());
    let mut end = 0;
    for (position, weight) in weights.iter().enumerate() {
        if let Some(weight) = weight {
            end = (end + cut(*weight)).min(100);
            shares.push((position, percent(usize::from(end))));
        }
    }
    let unweighted = weights.len() - shares.len();
    let (start, rest) = (usize::from(end), usize::from(100 - end));
    let others = weights.iter().enumerate().filter(|(_, weight)| weight.is_none());
    for (number, (position, _)) in others.enumerate() {
        // Half up, so the last is exactly 100.
        let part = (2 * rest * (number + 1) + unweighted) / (2 * unweighted);
        shares.push((position, percent(start + part)));
    }
    shares
}

fn percent(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B21: weights of the members, and who ends where.
    #[test]
    fn b21_shares() {
        type Case<'a> = (&'a [Option<i64>], &'a [(usize, u8)]);
        let cases: &[Case<'_>] = &[
            (&[None], &[(0, 100)]),
            (&[Some(10)], &[(0, 100)]),
            (&[Some(0)], &[(0, 100)]),
            (&[None, None], &[(0, 50), (1, 100)]),
            (&[None, None, None], &[(0, 33), (1, 67), (2, 100)]),
            (&[None, Some(20)], &[(1, 20), (0, 100)]),
            (&[Some(20), None, None], &[(0, 20), (1, 60), (2, 100)]),
            (&[Some(20), Some(30)], &[(0, 20), (1, 50)]),
            (&[Some(50), Some(50), None], &[(0, 50), (1, 100), (2, 100)]),
            (&[Some(0), None], &[(0, 0), (1, 100)]),
            (&[Some(60), Some(60)], &[(0, 60), (1, 100)]),
            (&[Some(150), Some(10)], &[(0, 100), (1, 100)]),
            (&[Some(-5), None], &[(0, 0), (1, 100)]),
        ];
        for (weights, expected) in cases {
            assert_eq!(shares(weights), *expected, "{weights:?}");
        }
    }

    /// Whatever is written, ends ascend and never pass 100.
    #[test]
    fn shares_ascend() {
        for count in 1..12_usize {
            for weighted in 0..=count {
                let weights: Vec<_> = (0..count)
                    .map(|n| (n < weighted).then_some((n * 17) as i64))
                    .collect();
                let ends: Vec<_> = shares(&weights).into_iter().map(|(_, end)| end).collect();
                assert!(
                    ends.is_sorted() && ends.iter().all(|end| *end <= 100),
                    "{weights:?} {ends:?}"
                );
                assert_eq!(ends.len(), count);
                assert!(
                    weighted == count || ends.last() == Some(&100),
                    "{weights:?} {ends:?}"
                );
            }
        }
    }
}
