//! The jobs of a call, in pieces that threads take one by one.

use std::{mem, slice};

use super::job::{Job, PIECE, Work};
use super::pieces::Piece;
use crate::parallel;

/// The fewest: enough for the claim to cost nothing, and few enough for nobody to wait long for the
/// last ones.
const LEAST_PIECE: usize = 4096;

/// The jobs of a call, as one space of elements that is cut into pieces.
#[derive(Default)]
pub(super) struct Jobs {
    list: Vec<Job>,
    len: usize,
    bytes: usize,
    pieces: usize,
}

impl Jobs {
    pub(super) fn with_capacity(count: usize) -> Self {
        Self { list: Vec::with_capacity(count), ..Self::default() }
    }

    pub(super) fn push(&mut self, mut job: Job) {
        self.place(&mut job);
        self.list.push(job);
    }

    /// Puts jobs that have changed their lengths in their places.
    pub(super) fn renumber(&mut self) {
        let mut list = mem::take(self).list;
        for job in &mut list {
            self.place(job);
        }
        self.list = list;
    }

    fn place(&mut self, job: &mut Job) {
        (job.start, job.first_piece) = (self.len, self.pieces);
        self.len += job.len;
        self.bytes += job.len * job.dtype.size();
        self.pieces += job.len.div_ceil(PIECE);
    }

    pub(super) fn iter_mut(&mut self) -> slice::IterMut<'_, Job> {
        self.list.iter_mut()
    }

    /// The number of elements of all parameters.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number of pieces.
    pub(super) fn pieces(&self) -> usize {
        self.pieces
    }

    /// Visits the gradients, a piece at a time: on several threads, in any order, if there are enough
    /// bytes for that to pay, else in order.
    pub(super) fn each_gradient(&self, visit: impl Fn(&Piece<'_>) + Sync) {
        self.each_piece(|piece| visit(&piece));
    }

    /// The step, each job with its own of the works. Pieces are smaller where that makes threads end
    /// at the same time.
    pub(super) fn run(&mut self, works: &[Work]) {
        let size = (self.len / 64).next_power_of_two().clamp(LEAST_PIECE, PIECE);
        self.each_piece_of(size, |piece| piece.run(works));
        // Those of the next step are others, and may have this memory.
        self.list.iter_mut().for_each(Job::drop_rows);
    }

    /// Sets the gradients, which are checked to be writable, to zero.
    pub(super) fn clear_gradients(&mut self) {
        self.each_piece(|mut piece| match piece.size_of_gradient() {
            2 => piece.clear_gradient::<u16>(),
            4 => piece.clear_gradient::<f32>(),
            _ => piece.clear_gradient::<f64>(),
        });
    }

    /// Copies the gradients' role to the parameters'.
    pub(super) fn copy(&mut self) {
        self.each_piece(|mut piece| match piece.size_of_parameter() {
            2 => piece.copy::<u16>(),
            4 => piece.copy::<f32>(),
            _ => piece.copy::<f64>(),
        });
    }

    /// Swaps the parameters' role with the gradients', which are checked to be writable.
    pub(super) fn swap(&mut self) {
        self.each_piece(|mut piece| match piece.size_of_parameter() {
            2 => piece.swap::<u16>(),
            4 => piece.swap::<f32>(),
            _ => piece.swap::<f64>(),
        });
    }

    /// Makes every piece once. Only what borrows the jobs mutably may write.
    fn each_piece(&self, visit: impl Fn(Piece<'_>) + Sync) {
        self.each_piece_of(PIECE, visit);
    }

    fn each_piece_of(&self, size: usize, visit: impl Fn(Piece<'_>) + Sync) {
        if self.bytes < parallel::SHARED_FROM {
            // Job by job: small arrays have a piece each.
            for job in &self.list {
                for start in (0..job.len).step_by(size) {
                    visit(Piece::new(job, start, size));
                }
            }
        } else {
            let visit = |chunk| self.each_piece_from(chunk, size, &visit);
            parallel::each(self.len.div_ceil(size), self.bytes, &visit);
        }
    }

    /// Visits the pieces that start within a chunk of the space; of a job that can be one at most.
    fn each_piece_from(&self, chunk: usize, size: usize, visit: &impl Fn(Piece<'_>)) {
        let range = chunk * size..(chunk + 1) * size;
        let first = self.list.partition_point(|job| job.start + job.len <= range.start);
        for job in self.list[first..].iter().take_while(|job| job.start < range.end) {
            let start = range.start.saturating_sub(job.start).next_multiple_of(size);
            if start < job.len && job.start + start < range.end {
                visit(Piece::new(job, start, size));
            }
        }
    }
}
