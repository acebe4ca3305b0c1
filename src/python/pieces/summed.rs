//! The step of a piece whose gradient is the sum of several arrays. They are added in their order, tile by
//! tile, and the sum is written nowhere else.
//!
//! What has room for tiles is never inlined, as in `run.rs`.

use std::array;

use super::Piece;
use crate::element::Element;
use crate::extras::{Extras, Step};
use crate::gradient;
use crate::isa::Level;
use crate::python::job::Work;
use crate::python::tiles::{Scratch, Sums, Tiles};
use crate::rules::MAX_STATES;
use crate::walk::{FIRST_STATE, GRADIENT, PARAMETER};

/// Room for a tile of another array.
type Tile = Tiles<{ Extras::TILE * size_of::<f64>() }>;

impl Piece<'_> {
    /// The sum of `n` elements of the gradient, from `start` of this piece on in order.
    pub(super) fn sum<'r, F: Element>(
        &self,
        level: Level,
        start: usize,
        n: usize,
        room: &'r mut Sums,
    ) -> &'r [F] {
        let Sums { sum, addend } = room;
        let sum = self.gather::<F, _>(GRADIENT, start, n, sum);
        // What is read in the next tile comes in while this one is worked on.
        self.prefetch(GRADIENT, start + n, n);
        for term in 1..self.job.terms() {
            let own = Piece { start: self.start + start, len: n, term, ..*self };
            if self.job.is_dense() {
                own.prefetch(GRADIENT, n, n);
                gradient::add(level, own.dense(GRADIENT), sum);
            } else {
                gradient::add(level, own.gather(GRADIENT, 0, n, addend), sum);
            }
        }
        sum
    }

    /// Visits the sums of all elements of the gradient in order.
    #[inline(never)]
    pub(super) fn each_sum<F: Element>(&self, level: Level, mut visit: impl FnMut(&[F])) {
        let mut room = Sums::new();
        for (start, n) in self.tiles(Extras::TILE) {
            visit(self.sum(level, start, n, &mut room));
        }
    }

    /// The step, a tile at a time in the order of the elements.
    #[inline(never)]
    pub(super) fn sweep_summed<F: Element>(&mut self, work: &Work, step: Step<'_, F>) {
        if !self.job.is_dense() {
            return self.sweep_gathered(work, step);
        }
        let others = work.others();
        let (mut room, mut scratch) = (Sums::new(), Scratch::new());
        for (start, n) in self.tiles(Extras::TILE) {
            let sum = self.sum(work.level, start, n, &mut room);
            let mut tile = Piece { start: self.start + start, len: n, ..*self };
            let (p, _, mut slices) = tile.slices(others);
            work.step(step, p, sum, &mut slices[..others], scratch.zeros(n));
        }
    }

    /// The same for arrays that are not dense.
    #[inline(never)]
    fn sweep_gathered<F: Element>(&mut self, work: &Work, step: Step<'_, F>) {
        let others = work.others();
        let mut tiles: [_; MAX_STATES + 2] = array::from_fn(|_| Tile::new());
        let (mut room, mut scratch) = (Sums::new(), Scratch::new());
        for (start, n) in self.tiles(Extras::TILE) {
            let sum = self.sum(work.level, start, n, &mut room);
            let [first, rest @ ..] = tiles.each_mut();
            let p = self.gather::<F, _>(PARAMETER, start, n, first);
            let mut roles = FIRST_STATE..FIRST_STATE + others;
            let mut rest = rest.map(|tile| match roles.next() {
                Some(role) => self.gather::<F, _>(role, start, n, tile),
                None => &mut [],
            });
            work.step(step, p, sum, &mut rest[..others], scratch.zeros(n));
            self.scatter(PARAMETER, start, p);
            for (k, tile) in rest[..others].iter().enumerate() {
                self.scatter(FIRST_STATE + k, start, tile);
            }
        }
    }
}
