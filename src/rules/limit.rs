//! Not a rule, but the limit of all rules' speed: it loads and stores the same arrays, with one addition
//! for each stored one. For benchmarks.

use super::{MAX_STATES, Rule};
use crate::element::Float;

pub(crate) struct Limit;

impl<const S: usize> Rule<0, 0, S> for Limit {
    const HYPERS: [&'static str; 0] = [];
    const STATES: [&'static str; S] = {
        const NAMES: [&str; MAX_STATES] = ["a", "b", "c", "d"];
        *NAMES.first_chunk().expect("as many names as states")
    };

    fn coefficients([]: [f64; 0]) -> [f64; 0] {
        []
    }

    #[inline(always)]
    fn update<F: Float>([]: [F; 0], p: F, g: F, mut state: [F; S]) -> (F, [F; S]) {
        for s in &mut state {
            *s = *s + g;
        }
        (p + g, state)
    }
}
