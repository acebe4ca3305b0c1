//! What is copied between an array and a tile, by which loops.

use std::cmp;

/// In bytes.
pub const CACHE_LINE: usize = 64;

/// A loop of the copy between the memory of an array and a tile.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loop {
    /// How often.
    pub len: usize,
    /// In the memory, in bytes.
    pub step: isize,
    /// In the tile, in elements.
    pub place: usize,
}

/// What is copied between an array and a tile.
#[derive(Clone, Copy, Debug)]
pub struct Copying<'a> {
    /// Where in memory it starts, in bytes from the array's first element.
    pub offset: isize,
    /// If the outermost loop is over some rows: these, with the step from row to row in bytes and the
    /// place of the next in the tile.
    pub rows: Option<(&'a [usize], isize, usize)>,
    /// From the outermost to the innermost.
    pub loops: &'a [Loop],
}

/// Puts loops into the order in which the copy is quickest.
#[inline]
pub(super) fn put_in_order(loops: &mut [Loop]) {
    // The closest elements innermost; but a loop of few turns costs more than it is worth there,
    // if another stays within the cache line as well.
    let is_near = |a: &Loop| a.len >= 8 && a.step.unsigned_abs() < CACHE_LINE;
    let any_near = loops.iter().any(is_near);
    sort(loops, |a| cmp::Reverse((any_near && !is_near(a), a.step.unsigned_abs())));
    // Next comes what is closest in the tile: the two are done at once.
    if let [others @ .., inner] = loops
        && inner.place != 1
        && let Some(at) = others.iter().position(|a| a.place == 1)
    {
        others[at..].rotate_left(1);
    }
}

/// Sorts the few there are.
#[inline]
fn sort<K: Ord>(loops: &mut [Loop], key: impl Fn(&Loop) -> K) {
    for i in 1..loops.len() {
        let mut k = i;
        while k > 0 && key(&loops[k]) < key(&loops[k - 1]) {
            loops.swap(k, k - 1);
            k -= 1;
        }
    }
}
