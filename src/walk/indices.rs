//! Some rows of an array, by their numbers.

use std::collections::TryReserveError;

/// Some rows of an array, by their numbers.
#[derive(Debug, Default)]
pub struct Indices {
    list: Vec<usize>,
    end: usize,
    are_rising: bool,
}

impl Indices {
    /// The rows with these numbers. Negative ones become larger than the number of rows of any array.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn new(numbers: &[i64]) -> Result<Self, TryReserveError> {
        let mut list = Vec::new();
        list.try_reserve_exact(numbers.len())?;
        let (mut last, mut are_rising) = (0, true);
        for numbers in numbers.chunks(1_024) {
            let start = list.len();
            let index = |&number: &i64| usize::try_from(number.cast_unsigned());
            list.extend(numbers.iter().map(|number| index(number).unwrap_or(usize::MAX)));
            // Compared with the one before, in loops without dependences.
            let pairs = list[start.saturating_sub(1)..].windows(2);
            are_rising &= pairs.filter(|pair| pair[0] >= pair[1]).count() == 0;
            last = list[start..].iter().fold(last, |last, &index| last.max(index));
        }
        let end = if list.is_empty() { 0 } else { last.saturating_add(1) };
        Ok(Self { list, end, are_rising })
    }

    /// The numbers.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[usize] {
        &self.list
    }

    /// Whether no number comes twice.
    ///
    /// # Errors
    /// When there is no memory to find out.
    pub fn are_distinct(&self) -> Result<bool, TryReserveError> {
        if self.are_rising {
            return Ok(true);
        }
        // A bit for each row up to the last, except for a few rows of a huge number of them.
        if self.end / 64 > 4 * self.list.len() {
            let mut sorted = Vec::new();
            sorted.try_reserve_exact(self.list.len())?;
            sorted.extend_from_slice(&self.list);
            sorted.sort_unstable();
            return Ok(sorted.is_sorted_by(|a, b| a < b));
        }
        let mut known: Vec<u64> = Vec::new();
        known.try_reserve_exact(self.end / 64 + 1)?;
        known.resize(self.end / 64 + 1, 0);
        // To continue when one has come twice is quicker than to check it each time.
        let twice = self.list.iter().fold(0, |twice, &index| {
            let (word, bit) = (&mut known[index / 64], 1 << (index % 64));
            let had = *word & bit;
            *word |= bit;
            twice | had
        });
        Ok(twice == 0)
    }

    /// The smallest number of rows of an array that has all of these.
    #[must_use]
    pub fn end(&self) -> usize {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_know_whether_they_are_distinct() {
        let indices = |numbers: &[i64]| Indices::new(numbers).expect("memory");
        let far = 1 << 40;
        for (numbers, end, are_distinct) in [
            (vec![], 0, true),
            (vec![0, 3, 7], 8, true),
            (vec![3, 0, 7], 8, true),
            (vec![3, 3], 4, false),
            (vec![3, 0, 64, 128, 0], 129, false),
            (vec![far, 0, 5], (1 << 40) + 1, true),
            (vec![far, 5, far], (1 << 40) + 1, false),
            (vec![-1, 0], usize::MAX, true),
        ] {
            let indices = indices(&numbers);
            assert_eq!(indices.end(), end);
            assert_eq!(indices.are_distinct().ok(), Some(are_distinct), "{numbers:?}");
        }
    }
}
