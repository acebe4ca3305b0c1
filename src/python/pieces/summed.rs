//! The step of a piece whose gradient is the sum of several arrays. They are added in their order, tile by
//! tile, and the sum is written nowhere else.

use std::array;

use super::Piece;
use crate::element::Element;
use crate::extras::{Extras, Step};
use crate::gradient;
use crate::isa::Level;
use crate::python::job::Work;
use crate::python::tiles::{Scratch, Tiles};
use crate::rules::MAX_STATES;
use crate::walk::{FIRST_STATE, GRADIENT, PARAMETER};

/// Room for so many elements as are summed at a time.
type Tile = Tiles<{ Extras::TILE * size_of::<f64>() }>;

/// Room for a sum, and for what is added to it.
pub(super) struct Room {
    sum: Tile,
    addend: Tile,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { sum: Tile::new(), addend: Tile::new() }
    }
}

impl Piece<'_> {
    /// The sum of `n` elements of the gradient, from `start` of this piece on in order.
    pub(super) fn sum<'r, F: Element>(
        &self,
        level: Level,
        start: usize,
        n: usize,
        room: &'r mut Room,
    ) -> &'r [F] {
        let sum = self.gather::<F, _>(GRADIENT, start, n, &mut room.sum);
        // What is read in the next tile comes in while this one is worked on.
        self.prefetch(GRADIENT, start + n, n);
        for term in 1..self.job.terms() {
            let own = Piece { start: self.start + start, len: n, term, ..*self };
            if self.job.is_dense() {
                own.prefetch(GRADIENT, n, n);
                gradient::add(level, own.dense(GRADIENT), sum);
            } else {
                gradient::add(level, own.gather(GRADIENT, 0, n, &mut room.addend), sum);
            }
        }
        sum
    }

    /// The step of arrays that are not dense, in the order of their elements.
    pub(super) fn sweep_gathered<F: Element>(&mut self, work: &Work, step: Step<'_, F>) {
        let others = work.others();
        let mut tiles: [_; MAX_STATES + 2] = array::from_fn(|_| Tile::new());
        let (mut room, mut scratch) = (Room::new(), Scratch::new());
        for (start, n) in self.tiles(Extras::TILE) {
            let sum = self.sum(work.level, start, n, &mut room);
            let [first, rest @ ..] = tiles.each_mut();
            let p = self.gather::<F, _>(PARAMETER, start, n, first);
            let mut k = 0;
            let mut rest = rest.map(|tile| {
                k += 1;
                if k > others {
                    return &mut [][..];
                }
                self.gather::<F, _>(FIRST_STATE + k - 1, start, n, tile)
            });
            work.step(step, p, sum, &mut rest[..others], scratch.zeros(n));
            self.scatter(PARAMETER, start, p);
            for (k, tile) in rest[..others].iter().enumerate() {
                self.scatter(FIRST_STATE + k, start, tile);
            }
        }
    }
}
