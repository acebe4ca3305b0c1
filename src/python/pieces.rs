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

use super::tiles::{self, Scratch, Tiles};
use super::view::{Dtype, View};
use crate::element::Element;
use crate::extras::Extras;
use crate::gradient;
use crate::isa::Level;
use crate::parallel;
use crate::recipes::Recipe;
use crate::rules::Coefficients;
use crate::sweep::Step;
use crate::walk::{self, Axis, Block, FIRST_STATE, Indices, Loop, MAX_AXES, TILE_BYTES, Walk};
pub(super) use crate::walk::{GRADIENT, MAX_ROLES, PARAMETER};

/// The most elements that a thread takes at a time: enough for the claim to cost nothing, and few
/// enough to be done soon. A block of the norm's sums, so that its bits know nothing of threads.
const PIECE: usize = gradient::BLOCK;

/// Below this many bytes of parameters a step is over before a worker that is woken up can help.
const PARALLEL_FROM: usize = 1 << 20;

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
    /// Where the elements are, if not every array is one run of them, aligned and in the same order.
    walk: Option<Box<Walk>>,
    /// What its gradient is multiplied by, beside the scale of the step.
    scale: f64,
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
            None
        } else {
            let axes = walk::in_order(axes(views, views[PARAMETER].shape.len()));
            let size = dtype.size().cast_signed();
            let is_dense = |axis: &Axis| axis.steps[..views.len()].iter().all(|&step| step == size);
            let is_dense = aligned && axes.len() == 1 && is_dense(&axes[0]);
            (!is_dense).then(|| walk(views, axes, None, dtype))
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
        indices: Arc<Indices>,
    ) -> Self {
        let rows = views[PARAMETER].shape[0].unsigned_abs();
        let count = indices.as_slice().len();
        assert!(indices.end() <= rows && views[GRADIENT].shape[0].unsigned_abs() == count);
        let mut axes = axes(views, views[PARAMETER].shape.len());
        axes[0].len = count;
        let of_one = walk::in_order(axes.split_off(1));
        axes.extend(of_one);
        let walk = walk(views, axes, Some(indices), dtype);
        let len = walk.len();
        Self::walking(views, dtype, parameter, work, Some(walk), len)
    }

    fn walking(
        views: &[View<'_>],
        dtype: Dtype,
        parameter: usize,
        work: usize,
        walk: Option<Box<Walk>>,
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
        self.walk.as_ref().is_some_and(|walk| walk.is_of_rows())
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
        self.walk.is_none()
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
        list.iter_mut().for_each(|job| self.place(job));
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

    /// The step, each job with its own of the works.
    pub(super) fn run(&mut self, works: &[Work]) {
        self.each_piece(|piece| piece.run(works));
    }

    /// Sets the gradients, which are checked to be writable, to zero.
    pub(super) fn clear_gradients(&mut self) {
        self.each_piece(|mut piece| match piece.job.dtype {
            Dtype::F32 => piece.clear_gradient::<f32>(),
            Dtype::F64 => piece.clear_gradient::<f64>(),
        });
    }

    /// Copies the gradients' role to the parameters'.
    pub(super) fn copy(&mut self) {
        self.each_piece(|mut piece| match piece.job.dtype {
            Dtype::F32 => piece.copy::<f32>(),
            Dtype::F64 => piece.copy::<f64>(),
        });
    }

    /// Swaps the parameters' role with the gradients', which are checked to be writable.
    pub(super) fn swap(&mut self) {
        self.each_piece(|mut piece| match piece.job.dtype {
            Dtype::F32 => piece.swap::<f32>(),
            Dtype::F64 => piece.swap::<f64>(),
        });
    }

    /// Makes every piece once. Only what borrows the jobs mutably may write.
    fn each_piece(&self, visit: impl Fn(Piece<'_>) + Sync) {
        if self.bytes < PARALLEL_FROM {
            // Job by job: small arrays have a piece each.
            for job in &self.list {
                for start in (0..job.len).step_by(PIECE) {
                    visit(Piece { job, start, len: PIECE.min(job.len - start) });
                }
            }
        } else {
            let visit = |chunk| self.each_piece_from(chunk * PIECE..(chunk + 1) * PIECE, &visit);
            parallel::each(self.len.div_ceil(PIECE), &visit);
        }
    }

    /// Visits the pieces that start within a range of the space; of a job that can be one at most.
    fn each_piece_from(&self, range: Range<usize>, visit: &impl Fn(Piece<'_>)) {
        let first = self.list.partition_point(|job| job.start + job.len <= range.start);
        for job in self.list[first..].iter().take_while(|job| job.start < range.end) {
            let start = range.start.saturating_sub(job.start).next_multiple_of(PIECE);
            if start < job.len && job.start + start < range.end {
                visit(Piece { job, start, len: PIECE.min(job.len - start) });
            }
        }
    }
}

/// A part of a job: some consecutive elements in order, or, for a step, some blocks. While this is
/// there nothing else has them: [`Jobs`] borrows itself mutably for all that writes, all pieces of a
/// visit are used in the one way or all in the other, [`parallel::each`] gives out every range of the
/// space once, and the pieces that start in different ranges are different.
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

    #[inline]
    fn run(mut self, works: &[Work]) {
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
        if let Some(walk) = &self.job.walk {
            self.sweep_blocks(walk, work, step);
        } else if work.extras == Extras::NONE && !work.clear_gradient {
            let (p, g, mut slices) = self.slices(others);
            step(work.level, &work.coefficients, p, g, &mut slices[..others]);
        } else {
            let mut scratch = Scratch::new();
            for (start, n) in self.tiles(Extras::TILE) {
                let mut tile = Piece { job: self.job, start: self.start + start, len: n };
                let (p, g, mut slices) = tile.slices(others);
                work.step(step, p, g, &mut slices[..others], scratch.zeros(n));
                if work.clear_gradient {
                    tile.gradient_to_write::<F>().fill(F::default());
                }
            }
        }
    }

    /// The step of the blocks that are this piece's part of the job.
    fn sweep_blocks<F: Element>(&mut self, walk: &Walk, work: &Work, step: Step<F>) {
        let roles = FIRST_STATE + work.others();
        assert!(size_of::<F>() == self.job.dtype.size() && walk.roles() == roles);
        let (mut room, mut scratch) = (Tiles::new(), Scratch::new());
        let tile = room.tiles::<F>();
        let (mut block, mut loops) = (Block::default(), [Loop::default(); MAX_AXES]);
        // Without extra work a run need not be cut.
        let most = if work.extras == Extras::NONE { usize::MAX } else { Extras::TILE };
        let parts = self.job.len.div_ceil(PIECE);
        for number in walk.blocks(self.start / PIECE, parts) {
            walk.set_block(number, &mut block);
            let mut tiles = [None; MAX_ROLES];
            let mut count = 0;
            for role in (0..roles).filter(|&role| !walk.is_in_place(role)) {
                let tile = tile(count, block.len);
                let from = walk.copying(role, &block, &mut loops);
                // SAFETY: `Job` has taken the walk from the shapes and strides of the arrays, whose
                // dtype is as large as `F`, so `from` leads to elements of the array of that role,
                // which outlives the job (see `Jobs`); they are `block.len`, and `tile` has that
                // room. What is written is this piece's alone, and the gradient is at most read.
                unsafe { tiles::gather(&from, self.job.data[role], tile) };
                tiles[role] = Some(tile);
                count += 1;
            }
            let run = walk.run_len(&block);
            for number in 0..block.len / run {
                let start: [*mut F; MAX_ROLES] = array::from_fn(|role| match tiles[role] {
                    _ if role >= roles => self.job.data[PARAMETER].cast(),
                    Some(tile) => tile.wrapping_add(number * run),
                    None => {
                        let offset = walk.run(role, &block, number);
                        self.job.data[role].wrapping_offset(offset).cast()
                    }
                });
                for (at, n) in cuts(run, most) {
                    let data = start.map(|data| data.wrapping_add(at));
                    // SAFETY: `at..at + n` is within a run. In a tile, which is aligned, `gather` has
                    // written it; of an array in place it is `n` elements of type `F`, aligned, for
                    // `Walk` has looked for that. They are apart from each other, as in `slices`.
                    let (p, g, mut slices) = unsafe { slices(data, n, work.others()) };
                    let scratch = scratch.zeros(if most == usize::MAX { 0 } else { n });
                    work.step(step, p, g, &mut slices[..work.others()], scratch);
                    if work.clear_gradient {
                        // SAFETY: as above, after the other slices; `clear_gradient` is in a call
                        // that writes gradients, and `checks.rs` has seen to it that it may.
                        unsafe { slice::from_raw_parts_mut(data[GRADIENT], n) }.fill(F::default());
                    }
                }
            }
            for (role, tile) in tiles.into_iter().enumerate() {
                if let Some(tile) = tile
                    && (role != GRADIENT || work.clear_gradient)
                {
                    let to = walk.copying(role, &block, &mut loops);
                    // SAFETY: as for `gather`; and the array is writable and shares memory with no
                    // other, nor with itself: `checks.rs` has seen that of every array that a step
                    // writes. No other piece has these elements.
                    unsafe { tiles::scatter(&to, self.job.data[role], tile) };
                }
            }
        }
    }

    fn clear_gradient<F: Element>(&mut self) {
        if self.job.is_dense() {
            self.gradient_to_write::<F>().fill(F::default());
        } else {
            let most = TILE_BYTES / size_of::<F>();
            let mut room = Tiles::new();
            // SAFETY: zeros are written to all of the tile, for which there is room.
            let zeros = unsafe {
                let fill = |tile: *mut F| tile.write_bytes(0, most);
                room.filled::<F>(most, fill)
            };
            for (start, n) in self.tiles(most) {
                self.scatter(GRADIENT, start, &zeros[..n]);
            }
        }
    }

    fn copy<F: Element>(&mut self) {
        if self.job.is_dense() {
            let (to, from, _) = self.slices::<F>(0);
            to.copy_from_slice(from);
        } else {
            let mut room = Tiles::new();
            for (start, n) in self.tiles(TILE_BYTES / size_of::<F>()) {
                let tile = self.gather::<F>(GRADIENT, start, n, &mut room);
                self.scatter(PARAMETER, start, tile);
            }
        }
    }

    fn swap<F: Element>(&mut self) {
        let (mut one, mut other) = (Tiles::new(), Tiles::new());
        for (start, n) in self.tiles(TILE_BYTES / size_of::<F>()) {
            let one = self.gather::<F>(PARAMETER, start, n, &mut one);
            let other = self.gather::<F>(GRADIENT, start, n, &mut other);
            self.scatter(PARAMETER, start, other);
            self.scatter(GRADIENT, start, one);
        }
    }

    /// Where tiles of so many elements start in this piece, and how long they are.
    fn tiles(&self, size: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        cuts(self.len, size)
    }

    /// Visits the gradient in order: as it is if it is dense, else gathered a tile at a time.
    fn each_tile<F: Element>(&self, mut visit: impl FnMut(&[F])) {
        if self.job.walk.as_ref().is_none_or(|walk| walk.gradient_is_dense()) {
            visit(self.gradient());
        } else {
            let mut room = Tiles::new();
            for (start, n) in self.tiles(TILE_BYTES / size_of::<F>()) {
                visit(self.gather(GRADIENT, start, n, &mut room));
            }
        }
    }

    /// The gradient as a slice, if it is dense.
    fn gradient<F: Element>(&self) -> &[F] {
        assert!(size_of::<F>() == self.job.dtype.size());
        let data = self.job.data[GRADIENT].cast::<F>().wrapping_add(self.start);
        // SAFETY: as in `slices`, for the gradient alone, of which the walk may have said that it is
        // dense; and nothing writes while it is borrowed, as writing borrows the piece mutably.
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
    #[inline]
    fn slices<F: Element>(&mut self, others: usize) -> Slices<'_, F> {
        let data = self.job.pointers(self.start);
        // SAFETY: without a walk, `Job::new` has seen aligned elements in one run behind each
        // pointer, of the one dtype that is as large as `F`, in arrays that outlive the job (see
        // `Jobs`), and set the pointers of `others` roles; `start..start + len` are of them, and
        // `len` > 0. Written arrays that share memory with another were refused, no other piece has
        // these elements, and the slices borrow this one mutably, so they are the only ones. The
        // gradient, which may be shared, is only read.
        unsafe { slices(data, self.len, others) }
    }

    /// Copies elements of a role, from `start` of this piece on in order, into a tile.
    fn gather<'t, F: Element>(
        &self,
        role: usize,
        start: usize,
        n: usize,
        room: &'t mut Tiles,
    ) -> &'t mut [F] {
        let fill = |tile: *mut F| {
            self.stretches::<F>(role, start, n, |what, array, done| {
                // SAFETY: `stretches` leads to elements of the array of a role, one after the other
                // `n` of them; the array outlives the job (see `Jobs`), and it is not written
                // meanwhile, as in `gradient`.
                unsafe { tiles::gather::<F>(what, array, tile.wrapping_add(done)) }
            });
        };
        // SAFETY: `stretches` visits each of the `n` places of the tile.
        unsafe { room.filled(n, fill) }
    }

    /// Copies a tile back.
    fn scatter<F: Element>(&mut self, role: usize, start: usize, tile: &[F]) {
        self.stretches::<F>(role, start, tile.len(), |what, array, done| {
            // SAFETY: as in `gather`, for a tile that is all there; and the array is writable, which
            // `checks.rs` has seen of every array that a call writes, and shares memory with no
            // other, nor with itself. No other piece has the element.
            unsafe { tiles::scatter::<F>(what, array, tile[done..].as_ptr()) }
        });
    }

    /// Visits `n` elements of a role in order, from `start` of this piece on: how to copy as many as go
    /// at once, the array, and how many came before.
    fn stretches<F>(
        &self,
        role: usize,
        start: usize,
        n: usize,
        mut visit: impl FnMut(&walk::Copying<'_>, *mut u8, usize),
    ) {
        assert!(size_of::<F>() == self.job.dtype.size() && start + n <= self.len);
        let array = self.job.data[role];
        let start = self.start + start;
        let Some(walk) = &self.job.walk else {
            let size = self.job.dtype.size().cast_signed();
            let loops = [Loop { len: n, step: size, place: 1 }];
            let offset = size * start.cast_signed();
            return visit(&walk::Copying { offset, rows: None, loops: &loops }, array, 0);
        };
        let (mut block, mut loops) = (Block::default(), [Loop::default(); MAX_AXES]);
        let mut done = 0;
        while done < n {
            walk.set_stretch(start + done, n - done, &mut block);
            visit(&walk.copying(role, &block, &mut loops), array, done);
            done += block.len;
        }
    }
}

/// A parameter, its gradient, and what else there is, as slices of one length.
type Slices<'a, F> = (&'a mut [F], &'a [F], [&'a mut [F]; MAX_ROLES - FIRST_STATE]);

/// The slices behind pointers, by role, of which so many are others than parameter and gradient.
///
/// # Safety
/// Behind the pointers of these roles are `len` elements, aligned. For the life of the slices nobody
/// else reads or writes them, but for the gradient's: nobody writes those.
#[inline]
unsafe fn slices<'a, F>(data: [*mut F; MAX_ROLES], len: usize, others: usize) -> Slices<'a, F> {
    let [p, g, rest @ ..] = data;
    // SAFETY: the caller's word.
    unsafe {
        (
            slice::from_raw_parts_mut(p, len),
            slice::from_raw_parts(g, len),
            array::from_fn(|k| match rest.get(k).filter(|_| k < others) {
                Some(&data) => slice::from_raw_parts_mut(data, len),
                None => &mut [],
            }),
        )
    }
}

/// Where parts of at most `most` start, and how long they are.
fn cuts(len: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(most).map(move |start| (start, most.min(len - start)))
}

/// The first axes of `views`, as they are.
fn axes(views: &[View<'_>], count: usize) -> Vec<Axis> {
    let step = |role: usize, axis: usize| views.get(role).map_or(0, |view| view.strides[axis]);
    let len = |axis: usize| views[PARAMETER].shape[axis].unsigned_abs();
    let axis = |k| Axis { len: len(k), steps: array::from_fn(|role| step(role, k)) };
    (0..count).map(axis).collect()
}

fn walk(
    views: &[View<'_>],
    axes: Vec<Axis>,
    rows: Option<Arc<Indices>>,
    dtype: Dtype,
) -> Box<Walk> {
    let aligned: Vec<_> = views.iter().map(View::is_aligned).collect();
    Box::new(Walk::new(axes, rows, dtype.size(), &aligned))
}
