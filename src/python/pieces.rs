//! The arrays of a step cut into pieces, and what is done to the elements of one: the only door from
//! raw pointers to slices.
//!
//! A [`Job`] is one parameter with all that goes with it; `plan.rs` makes jobs after `checks.rs` has
//! looked at the views.
#![expect(
    unsafe_code,
    reason = "NumPy's buffers come as raw pointers, and a sweep runs over slices"
)]

use std::ops::Range;
use std::sync::Arc;
use std::{array, iter, mem, slice};

use super::view::{Dtype, View};
use crate::element::Element;
use crate::extras::Extras;
use crate::gradient;
use crate::isa::Level;
use crate::parallel;
use crate::recipes::Recipe;
use crate::rules::{Coefficients, MAX_STATES};
use crate::sweep::Step;

/// The roles of the arrays of one parameter: itself, its gradient, its states, and its average if
/// one is kept.
pub(super) const PARAMETER: usize = 0;
pub(super) const GRADIENT: usize = 1;
const FIRST_STATE: usize = 2;
pub(super) const MAX_ROLES: usize = FIRST_STATE + MAX_STATES + 1;

/// The elements that a strided array is gathered into a buffer by.
const TILE: usize = 256;

/// The most elements that a thread takes at a time. A block of the norm's sums, so that its bits know
/// nothing of threads.
const PIECE: usize = gradient::BLOCK;

/// The fewest: enough for the claim to cost nothing, and few enough for nobody to wait long for the
/// last ones.
const LEAST_PIECE: usize = 4096;

/// One parameter with its gradient, states and average: where they are and how to walk them.
pub(super) struct Job {
    /// The number of its parameter in the call.
    parameter: usize,
    /// The number of its work in a step.
    work: usize,
    dtype: Dtype,
    len: usize,
    /// How many elements and how many pieces come before it.
    start: usize,
    first_piece: usize,
    data: [*mut u8; MAX_ROLES],
    walk: Walk,
    /// What its gradient is multiplied by, beside the scale of the step.
    scale: f64,
}

/// The way from one element to the next.
enum Walk {
    /// Every array is one run of elements, aligned and in the same order.
    Dense,
    /// From the outermost axis to the innermost.
    Axes(Vec<Axis>),
    /// Some rows of the first axis; the gradient has these rows only, one after the other.
    Rows { indices: Arc<Vec<usize>>, steps: [isize; MAX_ROLES], row_len: usize, axes: Vec<Axis> },
}

#[derive(Clone, Copy)]
struct Axis {
    len: usize,
    /// In bytes, for each role.
    steps: [isize; MAX_ROLES],
}

/// What to do with the arrays of a job: one recipe with the coefficients of one step.
#[derive(Clone, Copy)]
pub(super) struct Work {
    pub(super) recipe: &'static Recipe,
    pub(super) level: Level,
    pub(super) coefficients: Coefficients,
    pub(super) extras: Extras,
    pub(super) clear_gradient: bool,
}

impl Work {
    fn states(&self) -> usize {
        self.recipe.states.len()
    }

    /// The arrays beside parameter and gradient.
    fn others(&self) -> usize {
        self.states() + usize::from(self.extras.average.is_some())
    }

    /// The step for an element type, on slices or tiles of all roles.
    fn step<F: Element>(
        &self,
        step: Step<F>,
        p: &mut [F],
        g: &[F],
        others: &mut [&mut [F]],
        scratch: &mut [F],
    ) {
        let (state, average) = others.split_at_mut(self.states());
        let average = average.first_mut().map(|average| &mut **average);
        self.extras.step(step, self.level, &self.coefficients, p, g, state, average, scratch);
    }
}

impl Job {
    /// `views` of one shape and dtype, one for each role.
    pub(super) fn new(views: &[View<'_>], dtype: Dtype, parameter: usize, work: usize) -> Self {
        let aligned = views.iter().all(View::is_aligned);
        let c_contiguous = views.iter().all(View::is_c_contiguous);
        let walk = if aligned && (c_contiguous || views.iter().all(View::is_f_contiguous)) {
            Walk::Dense
        } else {
            let axes = axes(views, dtype);
            let dense = [dtype.size().cast_signed(); MAX_ROLES];
            match axes.as_slice() {
                [only] if aligned && only.steps[..views.len()] == dense[..views.len()] => {
                    Walk::Dense
                }
                _ => Walk::Axes(axes),
            }
        };
        Self::walking(views, dtype, parameter, work, walk, views[PARAMETER].len())
    }

    /// `views` of the shapes of whole arrays; the rows at `indices` are stepped, which the arrays
    /// have to have.
    pub(super) fn of_rows(
        views: &[View<'_>],
        dtype: Dtype,
        parameter: usize,
        work: usize,
        indices: Arc<Vec<usize>>,
    ) -> Self {
        let rows = views[PARAMETER].shape[0].unsigned_abs();
        assert!(indices.iter().all(|&index| index < rows));
        assert!(views[GRADIENT].shape[0].unsigned_abs() == indices.len());
        let mut steps = [0; MAX_ROLES];
        for (step, view) in iter::zip(&mut steps, views) {
            *step = view.strides[0];
        }
        let mut of_one = [views[PARAMETER].row(); MAX_ROLES];
        for (row, view) in iter::zip(&mut of_one, views) {
            *row = view.row();
        }
        let row_len = of_one[PARAMETER].len();
        let len = indices.len() * row_len;
        let axes = axes(&of_one[..views.len()], dtype);
        let walk = Walk::Rows { indices, steps, row_len, axes };
        Self::walking(views, dtype, parameter, work, walk, len)
    }

    fn walking(
        views: &[View<'_>],
        dtype: Dtype,
        parameter: usize,
        work: usize,
        walk: Walk,
        len: usize,
    ) -> Self {
        let mut data = [views[PARAMETER].data; MAX_ROLES];
        for (data, view) in iter::zip(&mut data, views) {
            *data = view.data;
        }
        Self { parameter, work, dtype, len, data, walk, start: 0, first_piece: 0, scale: 1.0 }
    }

    /// The number of its parameter in the call.
    pub(super) fn parameter(&self) -> usize {
        self.parameter
    }

    /// The numbers of its pieces.
    pub(super) fn pieces(&self) -> Range<usize> {
        self.first_piece..self.first_piece + self.len.div_ceil(PIECE)
    }

    /// Sets what its gradient is multiplied by, beside the scale of the step.
    pub(super) fn set_scale(&mut self, scale: f64) {
        self.scale = scale;
    }

    pub(super) fn is_of_rows(&self) -> bool {
        matches!(self.walk, Walk::Rows { .. })
    }

    /// Sets which work of a step is its own.
    pub(super) fn set_work(&mut self, work: usize) {
        self.work = work;
    }

    /// Whether the array of a role is where a view is.
    pub(super) fn is_at(&self, role: usize, view: &View<'_>) -> bool {
        self.data[role] == view.data
    }

    /// Takes a view in the place of its gradient, which was alike; returns whether it moved.
    pub(super) fn move_gradient(&mut self, view: &View<'_>) -> bool {
        let moved = !self.is_at(GRADIENT, view);
        self.data[GRADIENT] = view.data;
        moved
    }

    fn is_dense(&self) -> bool {
        matches!(self.walk, Walk::Dense)
    }

    /// The dense arrays from `start` on as pointers to the elements.
    fn pointers<F: Element>(&self, start: usize) -> [*mut F; MAX_ROLES] {
        assert!(self.is_dense() && size_of::<F>() == self.dtype.size());
        self.data.map(|data| data.cast::<F>().wrapping_add(start))
    }
}

/// The jobs of a call, as one space of elements that is cut into pieces.
#[derive(Default)]
pub(super) struct Jobs {
    list: Vec<Job>,
    len: usize,
    bytes: usize,
    pieces: usize,
}

// SAFETY: the raw pointers are only followed in `each_piece`, within the call that they were made or
// renewed for. Until it ends the buffers live: its `Call` holds references to all arrays. (Jobs that
// are kept have stale gradients in between; `Plan::follows` renews them all, or the jobs are made
// anew.) `checks.rs` has refused calls in which a written array shares memory with another, so it
// does not matter which thread is at a job.
unsafe impl Send for Jobs {}
// SAFETY: as above; and what a shared reference can do with the pointers is to make pieces in
// `each_piece`, which takes care that no two of them have an element in common.
unsafe impl Sync for Jobs {}

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

    /// Visits every piece once: on several threads, in any order, if there are enough bytes for
    /// that to pay, else in order.
    pub(super) fn each_piece(&mut self, visit: impl Fn(Piece<'_>) + Sync) {
        self.each_piece_of(PIECE, visit);
    }

    /// The same with smaller pieces where that makes threads end at the same time; they have no
    /// number.
    pub(super) fn each_small_piece(&mut self, visit: impl Fn(Piece<'_>) + Sync) {
        let size = (self.len / 64).next_power_of_two().clamp(LEAST_PIECE, PIECE);
        self.each_piece_of(size, visit);
    }

    fn each_piece_of(&mut self, size: usize, visit: impl Fn(Piece<'_>) + Sync) {
        if self.bytes < parallel::SHARED_FROM {
            // Job by job: small arrays have a piece each.
            for job in &self.list {
                for start in (0..job.len).step_by(size) {
                    visit(Piece { job, start, len: size.min(job.len - start) });
                }
            }
        } else {
            let jobs = &*self;
            let visit = |chunk| jobs.each_piece_from(chunk, size, &visit);
            parallel::each(jobs.len.div_ceil(size), jobs.bytes, &visit);
        }
    }

    /// Visits the pieces that start within a chunk of the space; of a job that can be one at most.
    fn each_piece_from(&self, chunk: usize, size: usize, visit: &impl Fn(Piece<'_>)) {
        let range = chunk * size..(chunk + 1) * size;
        let first = self.list.partition_point(|job| job.start + job.len <= range.start);
        for job in self.list[first..].iter().take_while(|job| job.start < range.end) {
            let start = range.start.saturating_sub(job.start).next_multiple_of(size);
            if start < job.len && job.start + start < range.end {
                visit(Piece { job, start, len: size.min(job.len - start) });
            }
        }
    }
}

/// Some consecutive elements of a job, which nothing else has while this is there: [`Jobs`] borrows
/// itself mutably for a visit, [`parallel::each`] gives out every range of the space once, and the
/// pieces that start in different ranges are different.
pub(super) struct Piece<'a> {
    job: &'a Job,
    start: usize,
    len: usize,
}

impl Piece<'_> {
    /// The number of its parameter in the call.
    pub(super) fn parameter(&self) -> usize {
        self.job.parameter
    }

    /// Its number among all pieces.
    pub(super) fn number(&self) -> usize {
        self.job.first_piece + self.start / PIECE
    }

    /// The sum of the squares of the gradient.
    pub(super) fn sum_of_squares(&self, level: Level) -> f64 {
        fn sum<F: Element>(piece: &Piece<'_>, level: Level) -> f64 {
            let mut squares = gradient::Squares::default();
            piece.each_tile::<F>(|tile| squares.add(level, tile));
            squares.sum()
        }
        match self.job.dtype {
            Dtype::F32 => sum::<f32>(self, level),
            Dtype::F64 => sum::<f64>(self, level),
        }
    }

    /// Whether no element of the gradient is NaN or infinite.
    pub(super) fn is_finite(&self, level: Level) -> bool {
        fn finite<F: Element>(piece: &Piece<'_>, level: Level) -> bool {
            let mut finite = true;
            piece.each_tile::<F>(|tile| finite &= gradient::all_finite(level, tile));
            finite
        }
        match self.job.dtype {
            Dtype::F32 => finite::<f32>(self, level),
            Dtype::F64 => finite::<f64>(self, level),
        }
    }

    /// The step of these elements, with the work of their job.
    #[inline]
    pub(super) fn run(mut self, works: &[Work]) {
        let work = &works[self.job.work];
        if self.job.scale.to_bits() == 1.0_f64.to_bits() {
            self.run_with(work);
        } else {
            let extras = Extras { scale: work.extras.scale * self.job.scale, ..work.extras };
            self.run_with(&Work { extras, ..*work });
        }
    }

    fn run_with(&mut self, work: &Work) {
        match self.job.dtype {
            Dtype::F32 => self.sweep(work, work.recipe.step_f32),
            Dtype::F64 => self.sweep(work, work.recipe.step_f64),
        }
    }

    fn sweep<F: Element>(&mut self, work: &Work, step: Step<F>) {
        let others = work.others();
        if !self.job.is_dense() {
            self.sweep_tiles(work, step, others);
        } else if work.extras == Extras::NONE && !work.clear_gradient {
            let (p, g, mut slices) = self.slices(others);
            step(work.level, &work.coefficients, p, g, &mut slices[..others]);
        } else {
            let mut scratch = [F::default(); Extras::TILE];
            for (start, n) in self.tiles(Extras::TILE) {
                let mut tile = self.part(start, n);
                let (p, g, mut slices) = tile.slices(others);
                work.step(step, p, g, &mut slices[..others], &mut scratch[..n]);
                if work.clear_gradient {
                    tile.gradient_to_write::<F>().fill(F::default());
                }
            }
        }
    }

    /// Sets the gradient, which is checked to be writable, to zero.
    pub(super) fn clear_gradient(&mut self) {
        fn clear<F: Element>(piece: &mut Piece<'_>) {
            if piece.job.is_dense() {
                piece.gradient_to_write::<F>().fill(F::default());
            } else {
                for (start, n) in piece.tiles(TILE) {
                    piece.scatter(GRADIENT, start, &[F::default(); TILE][..n]);
                }
            }
        }
        match self.job.dtype {
            Dtype::F32 => clear::<f32>(self),
            Dtype::F64 => clear::<f64>(self),
        }
    }

    /// Copies the gradient's role to the parameter's.
    pub(super) fn copy(&mut self) {
        fn copy<F: Element>(piece: &mut Piece<'_>) {
            if piece.job.is_dense() {
                let (to, from, _) = piece.slices::<F>(0);
                to.copy_from_slice(from);
            } else {
                let mut tile = [F::default(); TILE];
                for (start, n) in piece.tiles(TILE) {
                    piece.gather(GRADIENT, start, &mut tile[..n]);
                    piece.scatter(PARAMETER, start, &tile[..n]);
                }
            }
        }
        match self.job.dtype {
            Dtype::F32 => copy::<f32>(self),
            Dtype::F64 => copy::<f64>(self),
        }
    }

    /// Swaps the parameter's role with the gradient's, which is checked to be writable.
    pub(super) fn swap(&mut self) {
        fn swap<F: Element>(piece: &mut Piece<'_>) {
            let (mut one, mut other) = ([F::default(); TILE], [F::default(); TILE]);
            for (start, n) in piece.tiles(TILE) {
                piece.gather(PARAMETER, start, &mut one[..n]);
                piece.gather(GRADIENT, start, &mut other[..n]);
                piece.scatter(PARAMETER, start, &other[..n]);
                piece.scatter(GRADIENT, start, &one[..n]);
            }
        }
        match self.job.dtype {
            Dtype::F32 => swap::<f32>(self),
            Dtype::F64 => swap::<f64>(self),
        }
    }

    /// Some of these elements.
    fn part(&mut self, start: usize, len: usize) -> Piece<'_> {
        assert!(start + len <= self.len);
        Piece { job: self.job, start: self.start + start, len }
    }

    fn sweep_tiles<F: Element>(&mut self, work: &Work, step: Step<F>, others: usize) {
        let mut tiles = [[F::default(); TILE]; MAX_ROLES];
        let mut scratch = [F::default(); TILE];
        let zeros = [F::default(); TILE];
        for (start, n) in self.tiles(TILE) {
            for (role, tile) in tiles[..FIRST_STATE + others].iter_mut().enumerate() {
                self.gather(role, start, &mut tile[..n]);
            }
            let [p, g, rest @ ..] = tiles.each_mut().map(|tile| &mut tile[..n]);
            let mut rest: [&mut [F]; MAX_ROLES - FIRST_STATE] = rest;
            work.step(step, p, g, &mut rest[..others], &mut scratch[..n]);
            for (role, tile) in tiles[..FIRST_STATE + others].iter().enumerate() {
                if role != GRADIENT {
                    self.scatter(role, start, &tile[..n]);
                }
            }
            if work.clear_gradient {
                self.scatter(GRADIENT, start, &zeros[..n]);
            }
        }
    }

    /// Where tiles of so many elements start in this piece, and how long they are.
    fn tiles(&self, size: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let len = self.len;
        (0..len).step_by(size).map(move |start| (start, size.min(len - start)))
    }

    /// Visits the gradient: as it is if it is dense, else gathered a tile at a time.
    fn each_tile<F: Element>(&self, mut visit: impl FnMut(&[F])) {
        if self.job.is_dense() {
            visit(self.gradient());
        } else {
            let mut tile = [F::default(); TILE];
            for (start, n) in self.tiles(TILE) {
                self.gather(GRADIENT, start, &mut tile[..n]);
                visit(&tile[..n]);
            }
        }
    }

    /// The dense gradient as a slice.
    fn gradient<F: Element>(&self) -> &[F] {
        let data = self.job.pointers(self.start)[GRADIENT];
        // SAFETY: as in `slices`, for the gradient alone; and nothing writes while it is borrowed,
        // as writing borrows the piece mutably.
        unsafe { slice::from_raw_parts(data, self.len) }
    }

    /// The dense gradient as a slice that may be written, where the step is to write it.
    fn gradient_to_write<F: Element>(&mut self) -> &mut [F] {
        let data = self.job.pointers(self.start)[GRADIENT];
        // SAFETY: as in `slices`. Gradients that are cleared are written arrays: that they are
        // writable and share no memory with another was checked too.
        unsafe { slice::from_raw_parts_mut(data, self.len) }
    }

    /// The dense arrays as slices: parameter, gradient, and so many others.
    fn slices<F: Element>(
        &mut self,
        others: usize,
    ) -> (&mut [F], &[F], [&mut [F]; MAX_ROLES - FIRST_STATE]) {
        let [p, g, rest @ ..] = self.job.pointers(self.start);
        // SAFETY: of a dense walk, `Job::new` has seen aligned elements in one run behind each
        // pointer, of the one dtype that is as large as `F`, in arrays that outlive the job (see
        // `Jobs`), and set the pointers of `others` roles; `start..start + len` are of them, and
        // `len` > 0. Written arrays that share memory with another were refused, no other piece has
        // these elements, and the slices borrow this one mutably, so they are the only ones. The
        // gradient, which may be shared, is only read.
        unsafe {
            (
                slice::from_raw_parts_mut(p, self.len),
                slice::from_raw_parts(g, self.len),
                array::from_fn(|k| match rest.get(k).filter(|_| k < others) {
                    Some(&data) => slice::from_raw_parts_mut(data, self.len),
                    None => &mut [],
                }),
            )
        }
    }

    /// Copies elements of a role, from `start` on in the order of the walk, into a tile.
    fn gather<F: Element>(&self, role: usize, start: usize, tile: &mut [F]) {
        assert!(size_of::<F>() == self.job.dtype.size());
        self.runs(role, start, tile.len(), |at, run, place, step| {
            for (i, element) in tile[at..at + run].iter_mut().enumerate() {
                let place = place.wrapping_offset(step * i.cast_signed());
                // SAFETY: `runs` visits index tuples within the shape, so this is the address of an
                // element of the array, whose dtype is as large as `F`; any bytes are a float, and
                // they need not be aligned. The array outlives the job (see `Jobs`).
                *element = unsafe { place.cast::<F>().read_unaligned() };
            }
        });
    }

    /// Copies a tile back.
    fn scatter<F: Element>(&mut self, role: usize, start: usize, tile: &[F]) {
        assert!(size_of::<F>() == self.job.dtype.size());
        self.runs(role, start, tile.len(), |at, run, place, step| {
            for (i, &element) in tile[at..at + run].iter().enumerate() {
                let place = place.wrapping_offset(step * i.cast_signed());
                // SAFETY: as in `gather`; and the array is writable, which `checks.rs` has seen of
                // every array that a step writes, and shares memory with no other, nor with itself.
                // No other piece has the element.
                unsafe { place.cast::<F>().write_unaligned(element) };
            }
        });
    }

    /// Visits `n` elements of a role from `start` of this piece on, a run of the innermost axis at a
    /// time: how many came before, the run's length, where it starts, and how it steps, in bytes.
    #[inline(always)]
    fn runs(
        &self,
        role: usize,
        start: usize,
        n: usize,
        mut visit: impl FnMut(usize, usize, *mut u8, isize),
    ) {
        assert!(start + n <= self.len);
        let job = self.job;
        let dense = [Axis { len: job.len, steps: [job.dtype.size().cast_signed(); MAX_ROLES] }];
        let axes = match &job.walk {
            Walk::Dense => dense.as_slice(),
            Walk::Axes(axes) | Walk::Rows { axes, .. } => axes,
        };
        let inner = &axes[axes.len() - 1];
        let mut done = 0;
        while done < n {
            let mut index = self.start + start + done;
            let run = (inner.len - index % inner.len).min(n - done);
            let mut place = job.data[role];
            if let Walk::Rows { indices, steps, row_len, .. } = &job.walk {
                let row = index / row_len;
                index %= row_len;
                let row = if role == GRADIENT { row } else { indices[row] };
                place = place.wrapping_offset(row.cast_signed() * steps[role]);
            }
            for axis in axes.iter().rev() {
                place = place.wrapping_offset((index % axis.len).cast_signed() * axis.steps[role]);
                index /= axis.len;
            }
            visit(done, run, place, inner.steps[role]);
            done += run;
        }
    }
}

/// The axes of `views` in the order of the parameter's memory, with those that run on from one
/// another made one; one axis at least.
fn axes(views: &[View<'_>], dtype: Dtype) -> Vec<Axis> {
    let first = views[PARAMETER];
    let step = |role: usize, axis: usize| views.get(role).map_or(0, |view| view.strides[axis]);
    let mut axes: Vec<_> = (0..first.shape.len())
        .filter(|&axis| first.shape[axis] != 1)
        .map(|axis| Axis {
            len: first.shape[axis].unsigned_abs(),
            steps: array::from_fn(|role| step(role, axis)),
        })
        .collect();
    axes.sort_by_key(|axis| std::cmp::Reverse(axis.steps[PARAMETER].unsigned_abs()));
    axes.dedup_by(|inner, outer| {
        let reach = inner.steps.map(|step| step * inner.len.cast_signed());
        let runs_on = outer.steps == reach;
        if runs_on {
            *outer = Axis { len: outer.len * inner.len, ..*inner };
        }
        runs_on
    });
    if axes.is_empty() {
        axes.push(Axis { len: 1, steps: [dtype.size().cast_signed(); MAX_ROLES] });
    }
    axes
}
