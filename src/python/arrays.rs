//! NumPy's arrays as raw memory: what is behind an ndarray, how to walk it, slices of it. The only
//! door for raw pointers.
//!
//! A [`View`] is what NumPy says of one array. A [`Job`] is one parameter with all that goes with it,
//! ready to be stepped; `plan.rs` makes jobs after it has checked the views.
#![expect(
    unsafe_code,
    reason = "NumPy's buffers come as raw pointers, and a sweep runs over slices"
)]

use std::ops::Range;
use std::{array, iter, slice};

use numpy::npyffi::{
    _PyArray_GET_ITEM_DATA, NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_F_CONTIGUOUS, NPY_ARRAY_WRITEABLE,
    PyArray_Descr,
};
use numpy::prelude::*;
use numpy::{PyArrayDescr, PyUntypedArray};
use pyo3::prelude::*;

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

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dtype {
    F32,
    F64,
}

impl Dtype {
    pub(super) fn of(descr: &Bound<'_, PyArrayDescr>) -> Option<Self> {
        use numpy::npyffi::NPY_TYPES::{NPY_DOUBLE, NPY_FLOAT};
        // A byte-swapped dtype has the same number.
        if descr.is_native_byteorder() != Some(true) {
            return None;
        }
        let number = descr.num();
        if number == NPY_FLOAT as i32 {
            Some(Self::F32)
        } else if number == NPY_DOUBLE as i32 {
            Some(Self::F64)
        } else {
            None
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    const fn size(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::F64 => size_of::<f64>(),
        }
    }
}

/// What NumPy says of one array.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    data: *mut u8,
    descr: *const PyArray_Descr,
    pub(super) shape: &'a [isize],
    /// In bytes.
    strides: &'a [isize],
    flags: i32,
    pub(super) dtype: Dtype,
}

impl<'a> View<'a> {
    pub(super) fn of<'py>(array: Borrowed<'a, 'py, PyUntypedArray>, dtype: Dtype) -> Self {
        // SAFETY: `array` is an ndarray (its type says so) and we are attached to the interpreter,
        // so its C struct can be read. The struct is only read here, and lives as long as `'a`.
        let fields = unsafe { &*_PyArray_GET_ITEM_DATA(array.as_array_ptr()) };
        let ndim = usize::try_from(fields.nd).unwrap_or(0);
        let (shape, strides): (&[isize], &[isize]) = if ndim == 0 {
            // NumPy may have null pointers here.
            (&[], &[])
        } else {
            // SAFETY: an ndarray of `ndim` > 0 has that many dimensions and strides. They move only
            // when Python code sets `shape` or `strides`; none runs while a `View` lives: see
            // `Plan::check`.
            unsafe {
                (
                    slice::from_raw_parts(fields.dimensions, ndim),
                    slice::from_raw_parts(fields.strides, ndim),
                )
            }
        };
        let (data, descr, flags) = (fields.data.cast(), fields.descr.cast_const(), fields.flags);
        Self { data, descr, shape, strides, flags, dtype }
    }

    /// One place of the first axis, which the array has to have.
    pub(super) fn row(&self, index: usize) -> Self {
        let (shape, strides) = (&self.shape[1..], &self.strides[1..]);
        assert!(index < self.shape[0].unsigned_abs());
        let data = self.data.wrapping_offset(index.cast_signed() * self.strides[0]);
        // What is contiguous in C order has rows that are; of others, the axes will tell.
        let flags = self.flags & (NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_WRITEABLE);
        Self { data, shape, strides, flags, ..*self }
    }

    fn len(&self) -> usize {
        self.shape.iter().product::<isize>().unsigned_abs()
    }

    fn has(&self, flag: i32) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn is_dense(&self) -> bool {
        self.has(NPY_ARRAY_C_CONTIGUOUS) || self.has(NPY_ARRAY_F_CONTIGUOUS)
    }

    pub(super) fn is_writable(&self) -> bool {
        self.has(NPY_ARRAY_WRITEABLE)
    }

    fn is_aligned(&self) -> bool {
        self.data.addr().is_multiple_of(self.dtype.size())
    }

    /// The addresses from the first byte to the one after the last; `None` for an empty array.
    pub(super) fn span(&self) -> Option<Range<usize>> {
        let (mut start, mut end) = (self.data.addr(), self.data.addr() + self.dtype.size());
        for (&n, &stride) in iter::zip(self.shape, self.strides) {
            let reach = (n.checked_sub(1).filter(|&n| n >= 0)? * stride).unsigned_abs();
            if stride < 0 {
                start -= reach;
            } else {
                end += reach;
            }
        }
        Some(start..end)
    }

    /// Whether every axis steps over all that the axes inside it reach, so that no two elements
    /// can share a byte.
    pub(super) fn is_nested(&self) -> bool {
        let mut axes: Vec<_> = iter::zip(self.shape, self.strides)
            .filter(|&(&n, _)| n > 1)
            .map(|(&n, &stride)| (stride.unsigned_abs(), n.unsigned_abs()))
            .collect();
        axes.sort_unstable();
        let mut reach = self.dtype.size();
        axes.into_iter().all(|(stride, n)| {
            let clear = stride >= reach;
            reach += stride * (n - 1);
            clear
        })
    }
}

/// What arrays are like, one after the other: all that the checks and the walk of a job depend on,
/// but for the address.
#[derive(Default)]
pub(super) struct Layouts {
    numbers: Vec<isize>,
    /// Keeps the dtypes alive whose addresses are among the numbers.
    descrs: Vec<Py<PyArrayDescr>>,
}

impl Layouts {
    fn fixed(view: &View<'_>) -> [isize; 3] {
        const FLAGS: i32 = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_F_CONTIGUOUS | NPY_ARRAY_WRITEABLE;
        let flags = (view.flags & FLAGS) * 2 + i32::from(view.is_aligned());
        [view.descr.addr().cast_signed(), flags as isize, view.shape.len().cast_signed()]
    }

    pub(super) fn push(&mut self, array: &Bound<'_, PyUntypedArray>, view: &View<'_>) {
        self.numbers.extend(Self::fixed(view));
        self.numbers.extend(view.shape);
        self.numbers.extend(view.strides);
        let descr = array.dtype();
        if !self.descrs.iter().any(|known| known.is(&descr)) {
            self.descrs.push(descr.unbind());
        }
    }

    /// Compares them with views, one after the other.
    pub(super) fn compare(&self) -> Comparison<'_> {
        Comparison { rest: self.numbers.iter() }
    }
}

pub(super) struct Comparison<'a> {
    rest: slice::Iter<'a, isize>,
}

impl Comparison<'_> {
    /// Whether the next layout is that of the view.
    #[inline(always)]
    pub(super) fn next_is(&mut self, view: &View<'_>) -> bool {
        // Number by number: to compare slices of so few is a call each.
        let mut is = |number| self.rest.next() == Some(&number);
        Layouts::fixed(view).into_iter().all(&mut is)
            && view.shape.iter().all(|&n| is(n))
            && view.strides.iter().all(|&stride| is(stride))
    }
}

/// One parameter with its gradient, states and average: where they are and how to walk them.
pub(super) struct Job {
    group: usize,
    index: usize,
    dtype: Dtype,
    len: usize,
    /// How many elements and how many pieces come before it.
    start: usize,
    first_piece: usize,
    data: [*mut u8; MAX_ROLES],
    /// From the outermost to the innermost; empty when every array is one dense run of elements
    /// in the same order.
    axes: Vec<Axis>,
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

    /// The arrays that a parameter has: as many tuples of arrays make a call.
    pub(super) fn roles(&self) -> usize {
        FIRST_STATE + self.states() + usize::from(self.extras.average.is_some())
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
    pub(super) fn new(views: &[View<'_>], group: usize, index: usize) -> Self {
        let first = views[PARAMETER];
        let all = |flag| views.iter().all(|view| view.has(flag));
        let aligned = views.iter().all(View::is_aligned);
        let dense = aligned && (all(NPY_ARRAY_C_CONTIGUOUS) || all(NPY_ARRAY_F_CONTIGUOUS));
        let mut data = [first.data; MAX_ROLES];
        for (data, view) in iter::zip(&mut data, views) {
            *data = view.data;
        }
        let axes = if dense { Vec::new() } else { axes(views, aligned) };
        let (dtype, len) = (first.dtype, first.len());
        Self { group, index, dtype, len, data, axes, start: 0, first_piece: 0 }
    }

    /// Whether it is the job of that parameter.
    pub(super) fn is_of(&self, group: usize, index: usize) -> bool {
        (self.group, self.index) == (group, index)
    }

    pub(super) fn dtype(&self) -> Dtype {
        self.dtype
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

    /// The dense arrays from `start` on as pointers to the elements.
    fn pointers<F: Element>(&self, start: usize) -> [*mut F; MAX_ROLES] {
        assert!(self.axes.is_empty() && size_of::<F>() == self.dtype.size());
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
// renewed for. Until it ends the buffers live: its arguments and the stepper hold references to the
// arrays, and the plan to the values of rows. (Jobs that are kept have stale gradients in between;
// `Seen::holds` replaces them all, or the jobs are made anew.) `plan.rs` has refused calls in which a
// written array shares memory with another, so it does not matter which thread is at a job.
unsafe impl Send for Jobs {}
// SAFETY: as above; and what a shared reference can do with the pointers is to make pieces in
// `each_piece`, which takes care that no two of them have an element in common.
unsafe impl Sync for Jobs {}

impl Jobs {
    pub(super) fn with_capacity(count: usize) -> Self {
        Self { list: Vec::with_capacity(count), ..Self::default() }
    }

    pub(super) fn push(&mut self, job: Job) {
        let (start, first_piece) = (self.len, self.pieces);
        self.len += job.len;
        self.bytes += job.len * job.dtype.size();
        self.pieces += job.len.div_ceil(PIECE);
        self.list.push(Job { start, first_piece, ..job });
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
        let jobs = &*self;
        let chunks = jobs.len.div_ceil(size);
        let visit = |chunk| jobs.each_piece_from(chunk, size, &visit);
        parallel::each(chunks, jobs.bytes, &visit);
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
    /// The group of its parameter.
    pub(super) fn group(&self) -> usize {
        self.job.group
    }

    /// The group and index of its parameter.
    pub(super) fn parameter(&self) -> (usize, usize) {
        (self.job.group, self.job.index)
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

    /// The step of these elements, with the work of their group.
    pub(super) fn run(mut self, works: &[Work]) {
        let work = &works[self.job.group];
        match self.job.dtype {
            Dtype::F32 => self.sweep(work, work.recipe.step_f32),
            Dtype::F64 => self.sweep(work, work.recipe.step_f64),
        }
    }

    fn sweep<F: Element>(&mut self, work: &Work, step: Step<F>) {
        let others = work.roles() - FIRST_STATE;
        if !self.job.axes.is_empty() {
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
                    tile.clear_gradient::<F>();
                }
            }
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
        if self.job.axes.is_empty() {
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

    /// Clears the dense gradient, which the step is to write.
    fn clear_gradient<F: Element>(&mut self) {
        let data = self.job.pointers(self.start)[GRADIENT];
        // SAFETY: as in `slices`. Gradients that are cleared are written arrays: that they are
        // writable and share no memory with another was checked too.
        unsafe { slice::from_raw_parts_mut(data, self.len) }.fill(F::default());
    }

    /// The dense arrays as slices: parameter, gradient, and so many others.
    fn slices<F: Element>(
        &mut self,
        others: usize,
    ) -> (&mut [F], &[F], [&mut [F]; MAX_ROLES - FIRST_STATE]) {
        let [p, g, rest @ ..] = self.job.pointers(self.start);
        // SAFETY: without axes, `Job::new` has seen aligned elements in one run behind each pointer,
        // of the one dtype that is as large as `F`, in arrays that outlive the job (see `Jobs`), and
        // set the pointers of `others` roles; `start..start + len` are of them, and `len` > 0.
        // Written arrays that share memory with another were refused, no other piece has these
        // elements, and the slices borrow this one mutably, so they are the only ones. The gradient,
        // which may be shared, is only read.
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

    /// Copies elements of a role, from `start` on in the order of the axes, into a tile.
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
                // SAFETY: as in `gather`; and the array is writable, which `plan.rs` has seen of
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
        let axes = if job.axes.is_empty() { &dense } else { job.axes.as_slice() };
        let inner = &axes[axes.len() - 1];
        let mut done = 0;
        while done < n {
            let mut index = self.start + start + done;
            let run = (inner.len - index % inner.len).min(n - done);
            let mut place = job.data[role];
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
/// another made one.
fn axes(views: &[View<'_>], aligned: bool) -> Vec<Axis> {
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
    let size = first.dtype.size().cast_signed();
    let is_dense = |axis: &Axis| axis.steps[..views.len()].iter().all(|&step| step == size);
    match axes.as_slice() {
        [only] if aligned && is_dense(only) => axes.clear(),
        // One element, but misaligned: walk it.
        [] => axes.push(Axis { len: 1, steps: [size; MAX_ROLES] }),
        _ => {}
    }
    axes
}
