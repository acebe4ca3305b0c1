//! The order in which a step goes over arrays that are not all dense, and the blocks that it takes.
//!
//! The **order** is that of the parameter's memory. The sums of a norm depend on it, and take it. A step
//! does not, so it goes block by block. A block is a range of places of every axis. It has few enough
//! elements for the first-level cache, but along the axis on which the elements of an array are closest,
//! it has enough of them to use whole cache lines, for each of the arrays.
//!
//! A step runs over slices. Along a **run**, which is the innermost axis or several, some arrays are
//! dense: those are stepped in place. The others are gathered into tiles, in the order of the block,
//! and scattered back.

mod axes;
mod copying;
mod indices;

use std::ops::Range;
use std::sync::Arc;
use std::{array, iter};

pub use self::axes::{
    Axis, FIRST_STATE, GRADIENT, MAX_AXES, MAX_ROLES, PARAMETER, PLACE, in_order,
};
use self::copying::put_in_order;
pub use self::copying::{CACHE_LINE, Copying, Loop};
pub use self::indices::Indices;

/// The bytes of all tiles of a block together.
pub const BLOCK_BYTES: usize = 32 * 1024;

/// The bytes of a tile of elements in order: as many as leave room on any stack. The more there are,
/// the more elements of a cache line are read before it has to be fetched again.
pub const TILE_BYTES: usize = 64 * 1024;

/// The most elements of a block that needs no tiles.
const MOST: usize = 4_096;

/// The shortest run that is stepped in place: a shorter one takes longer to call than to copy.
const SHORTEST_RUN: usize = 16;

/// The axes of arrays that are not all dense, cut into blocks.
#[derive(Debug)]
pub struct Walk {
    /// From the outermost to the innermost, at least one.
    axes: Vec<Axis>,
    /// What the places of the first axis are, where they are some rows of the arrays; the gradient
    /// has these rows only, one after the other.
    rows: Option<Arc<Indices>>,
    /// The size of an element of each role, in bytes.
    sizes: [usize; MAX_ROLES],
    /// How many roles there are.
    roles: usize,
    /// The places of each axis that a block has.
    extents: Vec<usize>,
    /// The first axis of a run.
    run_from: usize,
    /// Whether the array of a role is dense along a run.
    in_place: [bool; MAX_ROLES],
    /// Whether the gradient is dense in the order of the walk.
    gradient_is_dense: bool,
    /// Whether the arrays of all roles are.
    all_are_dense: bool,
}

/// Some places of every axis.
#[derive(Debug)]
pub struct Block {
    first: [usize; MAX_AXES],
    lens: [usize; MAX_AXES],
    /// The number of elements.
    pub len: usize,
}

impl Default for Block {
    fn default() -> Self {
        Self { first: [0; MAX_AXES], lens: [1; MAX_AXES], len: 0 }
    }
}

impl Walk {
    /// `axes` in order. Of the arrays of all roles, those that `are_aligned` have aligned elements, of
    /// as many bytes as `sizes` says, at their beginning. `rows` are the places of the first axis, if
    /// they are not simply one after the other.
    ///
    /// # Panics
    /// When there are more axes or roles than [`MAX_AXES`] and [`MAX_ROLES`].
    #[must_use]
    pub fn new(
        mut axes: Vec<Axis>,
        rows: Option<Arc<Indices>>,
        sizes: [usize; MAX_ROLES],
        are_aligned: &[bool],
    ) -> Self {
        if axes.is_empty() {
            let steps = array::from_fn(|role| sizes.get(role).map_or(1, |size| size.cast_signed()));
            axes.push(Axis { len: 1, steps });
        }
        assert!(
            axes.len() <= MAX_AXES
                && rows.as_ref().is_none_or(|rows| rows.as_slice().len() == axes[0].len)
        );
        let roles = are_aligned.len();
        let multiple =
            |role: usize| axes.iter().all(|axis| axis.steps[role] % sizes[role].cast_signed() == 0);
        let in_place =
            array::from_fn(|role| are_aligned.get(role).is_some_and(|is| *is && multiple(role)));
        let extents = axes.iter().map(|axis| axis.len).collect();
        let mut walk = Self {
            axes,
            rows,
            sizes,
            roles,
            extents,
            run_from: 0,
            in_place,
            gradient_is_dense: false,
            all_are_dense: false,
        };
        walk.gradient_is_dense = in_place[GRADIENT] && walk.is_dense_from(0, GRADIENT);
        walk.all_are_dense = (0..roles).all(|role| in_place[role] && walk.is_dense_from(0, role));
        let aligned = in_place;
        let mut tiles = walk.set_runs(aligned);
        loop {
            walk.set_extents();
            // Smaller blocks may leave no run that is long enough.
            let needed = walk.set_runs(aligned);
            if needed <= tiles {
                return walk;
            }
            tiles = needed;
        }
    }

    /// Whether the array of a role is dense over the places that a block has from an axis on.
    fn is_dense_from(&self, axis: usize, role: usize) -> bool {
        let mut dense = self.sizes[role];
        let mut whole = true;
        (axis..self.axes.len()).rev().all(|k| {
            let (len, extent) = (self.axes[k].len, self.extents[k]);
            // Of an axis that is cut, the last block has fewer places: nothing runs on from there.
            let runs_on = whole
                && !(k == 0 && self.are_rows_of(role))
                && self.axes[k].steps[role] == dense.cast_signed();
            dense *= extent;
            whole &= extent == len;
            runs_on || extent == 1
        })
    }

    /// Chooses the axes of a run, and what is stepped in place. Returns how many tiles that takes.
    fn set_runs(&mut self, aligned: [bool; MAX_ROLES]) -> usize {
        let in_place_from =
            |axis| array::from_fn::<_, MAX_ROLES, _>(|k| aligned[k] && self.is_dense_from(axis, k));
        let mut run_from = self.axes.len() - 1;
        let mut run: usize = self.extents[run_from];
        while run < SHORTEST_RUN && run_from > 0 {
            run_from -= 1;
            run *= self.extents[run_from];
        }
        let in_place = in_place_from(run_from);
        // The longest runs that have no more in tiles.
        while run_from > 0 && in_place_from(run_from - 1) == in_place {
            run_from -= 1;
        }
        (self.run_from, self.in_place) = (run_from, in_place);
        in_place[..self.roles].iter().filter(|&&is| !is).count()
    }

    /// Chooses the places of each axis that a block has.
    fn set_extents(&mut self) {
        let tiled = (0..self.roles).filter(|&role| !self.in_place[role]);
        // What an element takes of the cache, until it is scattered back.
        let bytes: usize = tiled.map(|role| self.spacing(role)).sum();
        let most = BLOCK_BYTES.checked_div(bytes).unwrap_or(MOST);
        let innermost = self.axes.len() - 1;
        let close: Vec<_> = (0..self.axes.len())
            .filter(|&k| k < innermost && (0..self.roles).any(|role| self.closest(role) == k))
            .collect();
        // A cache line in both directions; in three, there is room for half of one.
        let width =
            if close.len() > 1 { CACHE_LINE / 2 } else { CACHE_LINE } / self.sizes[PARAMETER];
        let mut rest = most;
        self.extents.fill(1);
        for k in close.into_iter().rev().chain([innermost]) {
            let width = if k == innermost { rest } else { width };
            self.extents[k] = self.axes[k].len.min(width).min(rest);
            rest /= self.extents[k].max(1);
        }
        for k in (0..=innermost).rev() {
            let extent = self.axes[k].len.min(self.extents[k] * rest);
            rest /= extent.div_ceil(self.extents[k].max(1)).max(1);
            self.extents[k] = extent;
        }
    }

    /// How far apart the elements of a role are, in bytes; a cache line if they are further.
    fn spacing(&self, role: usize) -> usize {
        let axes = &self.axes[usize::from(self.are_rows_of(role))..];
        let steps = axes.iter().filter(|axis| axis.len > 1).map(|axis| axis.steps[role]);
        let closest = steps.map(isize::unsigned_abs).filter(|&step| step > 0).min();
        closest.unwrap_or(CACHE_LINE / 4).clamp(self.sizes[role], CACHE_LINE)
    }

    /// The axis along which the elements of a role are closest to each other.
    fn closest(&self, role: usize) -> usize {
        let innermost = self.axes.len() - 1;
        let step = |k: usize| self.axes[k].steps[role].unsigned_abs();
        let first = usize::from(self.rows.is_some() && role != GRADIENT);
        // Where an element is repeated there is nothing to bring closer.
        let moves = (first..innermost).filter(|&k| step(k) > 0);
        let closest = moves.min_by_key(|&k| step(k)).unwrap_or(innermost);
        let pays = step(closest) < step(innermost) && step(closest) < CACHE_LINE;
        if pays { closest } else { innermost }
    }

    /// The number of roles.
    #[must_use]
    pub fn roles(&self) -> usize {
        self.roles
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.axes.iter().map(|axis| axis.len).product()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest [`PLACE`] of its elements; `None` if there is no such number.
    #[must_use]
    pub fn last_place(&self) -> Option<u64> {
        let mut last = 0_u64;
        for (k, axis) in self.axes.iter().enumerate() {
            let len = match &self.rows {
                Some(rows) if k == 0 => rows.end(),
                _ => axis.len,
            };
            let step = axis.steps[PLACE].unsigned_abs() as u64;
            last = last.checked_add(step.checked_mul(len.saturating_sub(1) as u64)?)?;
        }
        Some(last)
    }

    /// Whether another one has the same blocks, and neither is of rows.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.rows.is_none()
            && other.rows.is_none()
            && self.extents == other.extents
            && iter::zip(&self.axes, &other.axes).all(|(own, other)| own.len == other.len)
    }

    /// Whether the places of the first axis are some rows.
    #[must_use]
    pub fn is_of_rows(&self) -> bool {
        self.rows.is_some()
    }

    /// Drops the rows, so that none are left.
    pub fn drop_rows(&mut self) {
        if self.rows.is_some() {
            self.rows = Some(Arc::default());
            self.axes[0].len = 0;
        }
    }

    /// Whether the array of a role is stepped in place.
    #[must_use]
    pub fn is_in_place(&self, role: usize) -> bool {
        self.in_place[role]
    }

    /// Whether the elements of the gradient are one after the other in order.
    #[must_use]
    pub fn gradient_is_dense(&self) -> bool {
        self.gradient_is_dense
    }

    /// The numbers of the blocks of one of `parts` parts, alike in size; all parts have all blocks.
    #[must_use]
    pub fn blocks(&self, part: usize, parts: usize) -> Range<usize> {
        let counts = iter::zip(&self.axes, &self.extents);
        let blocks: usize =
            counts.map(|(axis, &extent)| axis.len.div_ceil(extent.max(1))).product();
        blocks * part / parts..blocks * (part + 1) / parts
    }

    /// Sets `block` to the one of a number. Blocks of different numbers have no element in common.
    #[inline]
    pub fn set_block(&self, mut number: usize, block: &mut Block) {
        block.len = 1;
        for k in (0..self.axes.len()).rev() {
            let (len, extent) = (self.axes[k].len, self.extents[k]);
            let count = len.div_ceil(extent);
            let first = number % count * extent;
            number /= count;
            block.first[k] = first;
            block.lens[k] = extent.min(len - first);
            block.len *= block.lens[k];
        }
        debug_assert!(number == 0);
    }

    /// Sets `block` to elements that follow one another in order: as many as can be from `start` on,
    /// but not more than `most`.
    #[inline]
    pub fn set_stretch(&self, start: usize, most: usize, block: &mut Block) {
        let mut index = start;
        (block.len, block.first, block.lens) = (1, [0; MAX_AXES], [1; MAX_AXES]);
        // Whether all axes inside are at their beginnings, and are taken whole.
        let mut whole = true;
        for k in (0..self.axes.len()).rev() {
            let len = self.axes[k].len;
            block.first[k] = index % len;
            index /= len;
            if whole {
                block.lens[k] = (most / block.len).min(len - block.first[k]).max(1);
                block.len *= block.lens[k];
                whole = block.lens[k] == len;
            }
        }
    }

    /// Whether every array is one run of elements, all in the same order.
    #[must_use]
    pub fn is_one_run(&self) -> bool {
        self.rows.is_none() && self.all_are_dense
    }

    /// The places of elements that follow one another in order, from `start` on: the first, the step
    /// from each to the next, and how many are that far apart.
    ///
    /// # Panics
    /// When only some rows are walked.
    #[inline]
    #[must_use]
    pub fn places_from(&self, start: usize) -> (isize, isize, usize) {
        assert!(self.rows.is_none());
        let innermost = self.axes[self.axes.len() - 1];
        let (mut first, mut index) = (0, start);
        for axis in self.axes.iter().rev() {
            first += axis.steps[PLACE] * (index % axis.len).cast_signed();
            index /= axis.len;
        }
        (first, innermost.steps[PLACE], innermost.len - start % innermost.len)
    }

    /// Where in the array of a role a block begins, in bytes from its beginning, but for its rows.
    #[inline]
    fn offset(&self, role: usize, first: &[usize; MAX_AXES]) -> isize {
        let from = usize::from(self.are_rows_of(role));
        let axes = iter::zip(&self.axes, first).skip(from);
        axes.map(|(axis, &first)| axis.steps[role] * first.cast_signed()).sum()
    }

    fn are_rows_of(&self, role: usize) -> bool {
        self.rows.is_some() && role != GRADIENT
    }

    /// How to copy the block of a role. The elements are in order in the tile.
    #[inline]
    pub fn copying<'a>(
        &'a self,
        role: usize,
        block: &Block,
        loops: &'a mut [Loop; MAX_AXES],
    ) -> Copying<'a> {
        let from = usize::from(self.are_rows_of(role));
        let (mut place, mut count) = (1, 0);
        for k in (from..self.axes.len()).rev() {
            let (len, step) = (block.lens[k], self.axes[k].steps[role]);
            if len > 1 {
                loops[count] = Loop { len, step, place };
                count += 1;
            }
            place *= len;
        }
        let loops = &mut loops[..count];
        put_in_order(loops);
        let rows = self.rows.as_ref().filter(|_| from == 1).map(|rows| {
            let first = block.first[0];
            (&rows.as_slice()[first..first + block.lens[0]], self.axes[0].steps[role], place)
        });
        Copying { offset: self.offset(role, &block.first), rows, loops }
    }

    /// The length of the runs of a block.
    #[inline]
    #[must_use]
    pub fn run_len(&self, block: &Block) -> usize {
        block.lens[self.run_from..self.axes.len()].iter().product()
    }

    /// Where a run of a block begins in the array of a role, in bytes from its beginning.
    #[inline]
    #[must_use]
    pub fn run(&self, role: usize, block: &Block, mut number: usize) -> isize {
        let mut offset = 0;
        for k in (0..self.axes.len()).rev() {
            let mut place = block.first[k];
            if k < self.run_from {
                place += number % block.lens[k];
                number /= block.lens[k];
            }
            let place = match &self.rows {
                Some(rows) if k == 0 && role != GRADIENT => rows.as_slice()[place],
                _ => place,
            };
            offset += self.axes[k].steps[role] * place.cast_signed();
        }
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random, and are the same in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(self.0 >> 33).expect("31 bits") % n
        }

        fn shuffled(&mut self, n: usize) -> Vec<usize> {
            let mut order: Vec<_> = (0..n).collect();
            (1..n).for_each(|i| order.swap(i, self.below(i + 1)));
            order
        }
    }

    const SIZE: usize = 4;
    const ROLES: usize = 4;

    struct Case {
        walk: Walk,
        /// Where the elements are, for each role, in the order of the walk.
        places: Vec<[isize; ROLES]>,
    }

    fn case(random: &mut Random) -> Case {
        let count = 1 + random.below(4);
        let most = [0, 3_000, 90, 24, 12][count];
        let lens: Vec<_> = (0..count).map(|_| 1 + random.below(most)).collect();
        let of_rows = random.below(3) == 0;
        let mut axes: Vec<_> =
            lens.iter().map(|&len| Axis { len, steps: [0; MAX_ROLES + 1] }).collect();
        for role in 0..ROLES {
            let mut order = random.shuffled(count);
            if random.below(2) == 0 {
                order.sort_unstable();
            }
            let mut step = SIZE * [1, 1, 1, 2, 30][random.below(5)];
            for &k in order.iter().rev() {
                let sign = if random.below(6) == 0 { -1 } else { 1 };
                axes[k].steps[role] = sign * step.cast_signed();
                if role == GRADIENT && random.below(6) == 0 {
                    axes[k].steps[role] = 0;
                }
                step *= lens[k] + [0, 0, 0, 2][random.below(4)];
            }
        }
        let (rows, axes) = if of_rows {
            let numbers: Vec<_> =
                random.shuffled(lens[0]).into_iter().map(|i| i.cast_signed() as i64).collect();
            let inner = in_order(axes.split_off(1), PARAMETER);
            axes.extend(inner);
            (Some(Arc::new(Indices::new(&numbers).expect("memory"))), axes)
        } else {
            (None, in_order(axes, PARAMETER))
        };
        let mut places = vec![[0; ROLES]];
        for (k, axis) in axes.iter().enumerate() {
            let at = |i: usize, role: usize| match &rows {
                Some(rows) if k == 0 && role != GRADIENT => rows.as_slice()[i],
                _ => i,
            };
            let of = |start: [isize; ROLES]| {
                (0..axis.len).map(move |i| {
                    array::from_fn(|role| {
                        start[role] + axis.steps[role] * at(i, role).cast_signed()
                    })
                })
            };
            places = places.into_iter().flat_map(of).collect();
        }
        let aligned: Vec<_> = (0..ROLES).map(|_| random.below(5) > 0).collect();
        Case { walk: Walk::new(axes, rows, [SIZE; MAX_ROLES], &aligned), places }
    }

    /// Where the elements of a block are, one after the other in its tile.
    fn copied(walk: &Walk, role: usize, block: &Block) -> Vec<isize> {
        let mut room = [Loop::default(); MAX_AXES];
        let Copying { offset, rows, loops } = walk.copying(role, block, &mut room);
        let mut found = vec![(offset, 0)];
        if let Some((rows, step, place)) = rows {
            let of = |(i, &row): (usize, &usize)| (offset + step * row.cast_signed(), i * place);
            found = rows.iter().enumerate().map(of).collect();
        }
        for each in loops {
            let of = |(at, place): (isize, usize)| {
                (0..each.len)
                    .map(move |i| (at + each.step * i.cast_signed(), place + each.place * i))
            };
            found = found.into_iter().flat_map(of).collect();
        }
        found.sort_by_key(|&(_, place)| place);
        assert!(found.iter().map(|&(_, place)| place).eq(0..block.len));
        found.into_iter().map(|(at, _)| at).collect()
    }

    #[test]
    fn blocks_have_every_element_once_and_the_same_for_each_role() {
        let mut random = Random(1);
        let (mut in_place, mut tiled) = (0, 0);
        for _ in 0..600 {
            let Case { walk, mut places } = case(&mut random);
            let parts = 1 + random.below(5);
            let mut block = Block::default();
            let mut found = Vec::new();
            for number in (0..parts).flat_map(|part| walk.blocks(part, parts)) {
                walk.set_block(number, &mut block);
                let copied: [_; ROLES] = array::from_fn(|role| copied(&walk, role, &block));
                found.extend((0..block.len).map(|i| array::from_fn(|role| copied[role][i])));
                let run = walk.run_len(&block);
                assert!(block.len.is_multiple_of(run));
                for role in (0..ROLES).filter(|&role| walk.is_in_place(role)) {
                    for (i, &place) in copied[role].iter().enumerate().take(block.len) {
                        let start = walk.run(role, &block, i / run);
                        assert_eq!(place, start + (i % run * SIZE).cast_signed());
                    }
                }
                let tiles = (0..ROLES).filter(|&role| !walk.is_in_place(role)).count();
                assert!(tiles * block.len * SIZE <= BLOCK_BYTES);
                (in_place, tiled) = (in_place + ROLES - tiles, tiled + tiles);
            }
            places.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, places, "{walk:?}");
        }
        assert!(in_place > 1_000 && tiled > 1_000, "{in_place} {tiled}");
    }

    #[test]
    fn nothing_runs_on_from_an_axis_that_is_cut() {
        // A gradient whose windows overlap, so that one begins where the block ends in another.
        let walk = |window: usize| {
            let steps = |each: [isize; 3]| array::from_fn(|k| each.get(k).copied().unwrap_or(0));
            let window = (window * SIZE).cast_signed();
            let axes = vec![
                Axis { len: 100, steps: steps([8_000, window, 4]) },
                Axis { len: 2_000, steps: steps([4, 4, 400]) },
            ];
            Walk::new(axes, None, [SIZE; MAX_ROLES], &[false, true, true])
        };
        let cut = walk(2_000).extents[1];
        assert!(cut < 2_000);
        let walk = walk(cut);
        assert_eq!((walk.extents[1], walk.is_in_place(GRADIENT), walk.run_from), (cut, true, 1));
    }

    #[test]
    fn stretches_are_in_the_order_of_the_axes() {
        let mut random = Random(2);
        for _ in 0..300 {
            let Case { walk, places } = case(&mut random);
            let most = 1 + random.below(500);
            let mut block = Block::default();
            let (mut start, mut stretches) = (0, 0);
            while start < places.len() {
                walk.set_stretch(start, most.min(places.len() - start), &mut block);
                assert!(0 < block.len && block.len <= most);
                for role in 0..ROLES {
                    let wanted = places[start..start + block.len].iter().map(|place| place[role]);
                    assert!(copied(&walk, role, &block).into_iter().eq(wanted), "{walk:?}");
                }
                start += block.len;
                stretches += 1;
            }
            assert!(stretches >= places.len().div_ceil(most));
            let dense = |(i, place): (usize, &[isize; ROLES])| {
                place[GRADIENT] - places[0][GRADIENT] == (i * SIZE).cast_signed()
            };
            assert!(!walk.gradient_is_dense() || places.iter().enumerate().all(dense));
        }
    }
}
