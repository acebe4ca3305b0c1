//! What is done to the elements of a piece: its step, sums, copies.

use super::Piece;
use crate::element::{Bits, Element};
use crate::extras::{Extras, Step};
use crate::gradient;
use crate::isa::Level;
use crate::python::job::Work;
use crate::python::rule::BoundRule;
use crate::python::tiles::{Scratch, Tiles};
use crate::python::view::Dtype;
use crate::sweep;
use crate::walk::{BLOCK_BYTES, GRADIENT, PARAMETER, TILE_BYTES};

impl Piece<'_> {
    /// The sum of the squares of the array of a role.
    pub(in crate::python) fn sum_of_squares(&self, role: usize, level: Level) -> f64 {
        fn sum<F: Element>(piece: &Piece<'_>, role: usize, level: Level) -> f64 {
            let mut squares = gradient::Squares::default();
            piece.each_tile::<F>(level, role, |tile| squares.add(level, tile));
            squares.sum()
        }
        if self.job.storage.is_some() && !self.is_float32(role) {
            let mut squares = gradient::Squares::default();
            self.each_tile_stored(level, role, |tile| squares.add(level, tile));
            return squares.sum();
        }
        match self.job.dtype {
            Dtype::F64 => sum::<f64>(self, role, level),
            _ => sum::<f32>(self, role, level),
        }
    }

    /// Whether no element of the gradient is NaN or infinite.
    pub(in crate::python) fn is_finite(&self, level: Level) -> bool {
        fn finite<F: Element>(piece: &Piece<'_>, level: Level) -> bool {
            let mut finite = true;
            let look = |tile: &[F]| finite &= gradient::all_finite(level, tile);
            piece.each_tile::<F>(level, GRADIENT, look);
            finite
        }
        if self.job.storage.is_some() && !self.is_float32(GRADIENT) {
            let mut finite = true;
            let look = |tile: &[f32]| finite &= gradient::all_finite(level, tile);
            self.each_tile_stored(level, GRADIENT, look);
            return finite;
        }
        match self.job.dtype {
            Dtype::F64 => finite::<f64>(self, level),
            _ => finite::<f32>(self, level),
        }
    }

    /// The step of these elements, with the work of their job.
    pub(in crate::python) fn run(mut self, works: &[Work]) {
        self.run_with(&works[self.job.work]);
    }

    #[inline(never)]
    fn run_with(&mut self, work: &Work) {
        if self.job.scale.to_bits() == 1.0_f64.to_bits() {
            self.run_scaled(work);
        } else {
            let extras = Extras { scale: work.extras.scale * self.job.scale, ..work.extras };
            self.run_scaled(&Work { extras, ..work.clone() });
        }
    }

    fn run_scaled(&mut self, work: &Work) {
        if let Some(storage) = &self.job.storage {
            return self.run_stored(work, storage);
        }
        let level = work.level;
        match (self.job.dtype, &work.rule) {
            (Dtype::F64, BoundRule::Recipe(recipe, c)) => {
                self.sweep(work, &|p, g, s| {
                    (recipe.step_f64)(level, c, &mut [sweep::Arrays::of(p, g, s)]);
                });
            }
            (_, BoundRule::Recipe(recipe, c)) => {
                self.sweep(work, &|p, g, s| {
                    (recipe.step_f32)(level, c, &mut [sweep::Arrays::of(p, g, s)]);
                });
            }
            (_, BoundRule::Normed(..)) => unreachable!("`Plan::run` gives it its norms"),
            (Dtype::F64, BoundRule::Program(program, bound)) => {
                self.sweep(work, &|p, g, s| program.step_f64(level, bound, p, g, s));
            }
            (_, BoundRule::Program(program, bound)) => {
                self.sweep(work, &|p, g, s| program.step_f32(level, bound, p, g, s));
            }
        }
    }

    fn sweep<F: Element>(&mut self, work: &Work, step: Step<'_, F>) {
        let others = work.others();
        if self.job.has_sum() {
            self.sweep_summed(work, step);
        } else if let Some(walk) = &self.job.walk {
            self.sweep_blocks(walk, work, step);
        } else if work.is_rule_alone() {
            let (p, g, mut slices) = self.slices(others);
            step(p, g, &mut slices[..others]);
        } else {
            self.sweep_with_extras(work, step);
        }
    }

    /// The step with extra work, a tile at a time. Never inlined, as everything that has room for tiles: a
    /// function touches all pages of its room when it is called, even where it has no use for them.
    #[inline(never)]
    fn sweep_with_extras<F: Element>(&mut self, work: &Work, step: Step<'_, F>) {
        let others = work.others();
        let mut scratch = Scratch::new();
        for (start, n) in self.tiles(Extras::TILE) {
            let mut tile = Piece { start: self.start + start, len: n, ..*self };
            let (p, g, mut slices) = tile.slices(others);
            work.step(step, p, g, &mut slices[..others], scratch.zeros(n));
            if work.clear_gradient {
                tile.gradient_to_write::<F>().fill(F::default());
            }
        }
    }

    /// Copies the gradient's role to the parameter's.
    pub(in crate::python) fn copy<F: Bits>(&mut self) {
        if self.job.is_dense() {
            let (to, from, _) = self.slices::<F>(0);
            to.copy_from_slice(from);
        } else {
            let mut room = Tiles::<BLOCK_BYTES>::new();
            for (start, n) in self.tiles(BLOCK_BYTES / size_of::<F>()) {
                let tile = self.gather::<F, _>(GRADIENT, start, n, &mut room);
                self.scatter(PARAMETER, start, tile);
            }
        }
    }

    /// Swaps the parameter's role with the gradient's, which is checked to be writable.
    pub(in crate::python) fn swap<F: Bits>(&mut self) {
        let (mut one, mut other) = (Tiles::<BLOCK_BYTES>::new(), Tiles::<BLOCK_BYTES>::new());
        for (start, n) in self.tiles(BLOCK_BYTES / size_of::<F>()) {
            let one = self.gather::<F, _>(PARAMETER, start, n, &mut one);
            let other = self.gather::<F, _>(GRADIENT, start, n, &mut other);
            self.scatter(PARAMETER, start, other);
            self.scatter(GRADIENT, start, one);
        }
    }

    /// Visits the array of a role in order: as it is if it is dense, else gathered or summed a tile at
    /// a time.
    fn each_tile<F: Element>(&self, level: Level, role: usize, mut visit: impl FnMut(&[F])) {
        let walk = self.job.walk.as_ref();
        if role == GRADIENT && self.job.has_sum() {
            self.each_sum(level, visit);
        } else if walk.is_none_or(|walk| role == GRADIENT && walk.gradient_is_dense()) {
            visit(self.dense(role));
        } else {
            let mut room = Tiles::<TILE_BYTES>::new();
            for (start, n) in self.tiles(TILE_BYTES / size_of::<F>()) {
                visit(self.gather(role, start, n, &mut room));
            }
        }
    }
}
