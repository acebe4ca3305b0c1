//! The jobs of a call, in pieces that threads take one by one.

use std::ops::Range;
use std::{mem, slice};

use super::job::{Job, PIECE, Work};
use super::pieces::{Piece, run_together};
use crate::parallel;

/// The smallest number: enough elements that a claim costs nothing, and few enough that nobody waits
/// long for the last ones.
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

    pub(super) fn iter(&self) -> slice::Iter<'_, Job> {
        self.list.iter()
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

    /// Visits some of the gradients, a piece at a time: on several threads, in any order, if there are
    /// enough bytes for that to save time, else in order.
    pub(super) fn each_gradient(&self, pieces: Range<usize>, visit: impl Fn(&Piece<'_>) + Sync) {
        self.each_piece_of(PIECE, self.elements(pieces), &|piece| visit(&piece));
    }

    /// The step of some pieces, each job with its own of the works. What is done at a time is less than
    /// such a piece where that makes threads end at the same time.
    pub(super) fn run(&mut self, works: &[Work], pieces: Range<usize>) {
        let size = (self.len / 64).next_power_of_two().clamp(LEAST_PIECE, PIECE);
        self.each_part_of(size, self.elements(pieces), |part| {
            let mut jobs = self.within(&part);
            while let [job, rest @ ..] = jobs {
                // Only the first one may have begun before the part.
                let is_whole = job.start >= part.start && (1..=size).contains(&job.len);
                let (together, beside) = if !is_whole {
                    (0, 0)
                } else if job.has_slices() && works[job.work].is_rule_alone() {
                    (rest.iter().take_while(|next| job.goes_with(next, size)).count(), 0)
                } else {
                    (0, job.count_beside(rest, size))
                };
                let (now, rest) = jobs.split_at(1 + together + beside);
                if beside > 0 {
                    // They share cache lines: what is fetched for one is there for the next ones.
                    each_block_of(now, |piece| piece.run(works));
                } else if together == 0 || !run_together(now, &works[job.work]) {
                    for job in now {
                        each_piece_within(job, &part, size, &|piece| piece.run(works));
                    }
                }
                jobs = rest;
            }
        });
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
            1 => piece.copy::<u8>(),
            2 => piece.copy::<u16>(),
            4 => piece.copy::<f32>(),
            _ => piece.copy::<f64>(),
        });
    }

    /// Swaps the parameters' role with the gradients', which are checked to be writable.
    pub(super) fn swap(&mut self, enter: bool) {
        self.each_piece(|mut piece| match piece.size_of_parameter() {
            2 => piece.swap_halves(enter),
            4 => piece.swap::<f32>(),
            _ => piece.swap::<f64>(),
        });
    }

    /// Makes every piece once. Only what borrows the jobs mutably may write.
    fn each_piece(&self, visit: impl Fn(Piece<'_>) + Sync) {
        self.each_piece_of(PIECE, 0..self.len, &visit);
    }

    /// Makes every piece that starts within a part of the space, which begins and ends with pieces.
    fn each_piece_of(&self, size: usize, space: Range<usize>, visit: &(impl Fn(Piece<'_>) + Sync)) {
        self.each_part_of(size, space, |part| {
            for job in self.within(&part) {
                each_piece_within(job, &part, size, visit);
            }
        });
    }

    /// Cuts a part of the space in parts that may be done at the same time.
    fn each_part_of(&self, size: usize, space: Range<usize>, visit: impl Fn(Range<usize>) + Sync) {
        let bytes = self.bytes.div_ceil(self.len.max(1)) * space.len();
        if bytes < parallel::SHARED_FROM {
            // Job by job: small arrays have a piece each.
            visit(space);
        } else {
            let visit = |chunk| {
                let start = space.start + chunk * size;
                visit(start..space.end.min(start + size));
            };
            parallel::each(space.len().div_ceil(size), bytes, &visit);
        }
    }

    /// The jobs that have elements within a part of the space.
    fn within(&self, space: &Range<usize>) -> &[Job] {
        let first = self.list.partition_point(|job| job.start + job.len <= space.start);
        let list = &self.list[first..];
        &list[..list.partition_point(|job| job.start < space.end)]
    }

    /// The part of the space that pieces of [`PIECE`] elements take.
    fn elements(&self, pieces: Range<usize>) -> Range<usize> {
        let start = |piece| {
            let job = self.list.partition_point(|job| job.pieces().end <= piece);
            let start = |job: &Job| job.start + (piece - job.first_piece) * PIECE;
            self.list.get(job).map_or(self.len, start)
        };
        start(pieces.start)..start(pieces.end)
    }
}

/// Makes the pieces of a job that start within a part of the space.
fn each_piece_within(job: &Job, space: &Range<usize>, size: usize, visit: &impl Fn(Piece<'_>)) {
    // Most jobs are small and begin there: without a division they take less than with one.
    let mut start = match space.start.checked_sub(job.start) {
        None | Some(0) => 0,
        Some(before) => before.next_multiple_of(size),
    };
    let end = job.len.min(space.end - job.start);
    while start < end {
        visit(Piece::new(job, start, size));
        start += size;
    }
}

/// Makes a piece of each block of jobs that are alike: the first of all jobs, then the second ones.
fn each_block_of(jobs: &[Job], visit: impl Fn(Piece<'_>)) {
    let [first, ..] = jobs else { return };
    let size = first.len.div_ceil(first.blocks().max(1)).max(1);
    for start in (0..first.len).step_by(size) {
        for job in jobs {
            visit(Piece::new(job, start, size));
        }
    }
}
