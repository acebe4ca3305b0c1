//! The arrays of a step cut into pieces: the only door from raw pointers to slices.
#![expect(
    unsafe_code,
    reason = "NumPy's buffers come as raw pointers, and a sweep runs over slices"
)]

mod run;
mod stored;
mod summed;

use std::{array, slice};

use super::job::{Job, PIECE, Work};
use super::rule::BoundRule;
use super::storage::{Master, Storage};
use super::tiles::{self, Scratch, Tiles};
use super::view::Dtype;
use crate::element::{Bits, Element};
use crate::extras::{Extras, Step};
use crate::isa;
use crate::rules::MAX_STATES;
use crate::storage::{BLOCK, Noise, Places};
use crate::sweep;
use crate::sweep::stored::{Arrays, Elements, Gradient, Half};
use crate::walk::{
    self, BLOCK_BYTES, Block, FIRST_STATE, GRADIENT, Loop, MAX_AXES, MAX_ROLES, PARAMETER, Walk,
};

// SAFETY: the raw pointers are only followed here, for pieces that `Jobs` makes within the call that
// they were made or renewed for. Until it ends the buffers live: its `Call` holds references to all
// arrays. (Jobs that are kept have stale gradients in between; `Plan::follows` renews them all, or the
// jobs are made anew.) `checks.rs` has refused calls in which a written array shares memory with
// another, so it does not matter which thread is at a job.
unsafe impl Send for Job {}
// SAFETY: as above; and what a shared reference can do with the pointers is to make pieces, and the slices
// of `run_each`, each of a whole job as one piece is. `Jobs` takes care that no two of them have an
// element in common while one of them is written.
unsafe impl Sync for Job {}

/// The step of whole jobs that go together, with a work that is a rule alone. Returns whether it was done:
/// it takes a recipe. Called by `Jobs` while it borrows itself mutably, for jobs that no piece is made of.
pub(super) fn run_together(jobs: &[Job], work: &Work) -> bool {
    let BoundRule::Recipe(recipe, c) = &work.rule else { return false };
    match jobs {
        [Job { dtype: Dtype::F64, .. }, ..] => {
            run_each(jobs, work, |list| (recipe.step_f64)(work.level, c, list));
        }
        _ => run_each(jobs, work, |list| (recipe.step_f32)(work.level, c, list)),
    }
    true
}

/// The same, given what the rule does to the arrays of some parameters.
#[inline(always)]
fn run_each<F: Bits>(jobs: &[Job], work: &Work, step: impl Fn(&mut [sweep::Arrays<'_, F>])) {
    const MOST: usize = 16;
    let mut list: [_; MOST] = array::from_fn(|_| sweep::Arrays::default());
    let others = work.rule.states();
    for jobs in jobs.chunks(MOST) {
        for (k, job) in jobs.iter().enumerate() {
            assert!(job.has_slices());
            // SAFETY: as in `Piece::slices`, for the piece that is all of this job, whose `len` is not 0:
            // `goes_with` says so, and `Jobs` of the first one. Each is of another job, so no two slices have
            // an element in common. `Jobs` has lent them for one step while it borrows itself mutably, makes
            // no other piece of them in that, and the slices end before `jobs` does.
            let (p, g, [state @ .., _]) = unsafe { slices(job.pointers(0), job.len, others) };
            list[k] = sweep::Arrays { p, g, state };
        }
        step(&mut list[..jobs.len()]);
    }
}

/// A part of a job: some consecutive elements in order, or, for a step, some blocks. While this is
/// there nothing else has them: `Jobs` borrows itself mutably for all that writes, all pieces of a
/// visit are used in the one way or all in the other, `parallel::each` gives out every range of the
/// space once, and the pieces that start in different ranges are different.
pub(super) struct Piece<'a> {
    job: &'a Job,
    start: usize,
    len: usize,
    /// Of all pieces of the job but the last.
    size: usize,
    /// Which of the arrays that its gradient is the sum of is at the gradient's role.
    term: usize,
}

impl<'a> Piece<'a> {
    /// The piece of at most `size` elements from `start` on, a multiple of `size` that the job has.
    #[inline]
    pub(super) fn new(job: &'a Job, start: usize, size: usize) -> Self {
        Self { job, start, len: size.min(job.len - start), size, term: 0 }
    }
}

impl Piece<'_> {
    /// The number of its parameter in the call.
    pub(super) fn parameter(&self) -> usize {
        self.job.parameter
    }

    /// The bytes of an element of the parameter.
    pub(super) fn size_of_parameter(&self) -> usize {
        self.job.dtype.size()
    }

    /// The bytes of an element of the gradient.
    pub(super) fn size_of_gradient(&self) -> usize {
        self.job.gradient.size()
    }

    /// Its number among all pieces of [`PIECE`] elements.
    pub(super) fn number(&self) -> usize {
        self.job.first_piece + self.start / PIECE
    }

    /// The step of the blocks that are this piece's part of the job.
    #[inline(never)]
    fn sweep_blocks<F: Element>(&mut self, walk: &Walk, work: &Work, step: Step<'_, F>) {
        let roles = FIRST_STATE + work.others();
        assert!(size_of::<F>() == self.job.dtype.size() && walk.roles() == roles);
        let (mut room, mut scratch) = (Tiles::<BLOCK_BYTES>::new(), Scratch::new());
        let tile = room.tiles::<F>();
        let (mut block, mut loops) = (Block::default(), [Loop::default(); MAX_AXES]);
        // Without extra work a run need not be cut.
        let most = if work.extras.are_none() { usize::MAX } else { Extras::TILE };
        let parts = self.job.len.div_ceil(self.size);
        for number in walk.blocks(self.start / self.size, parts) {
            walk.set_block(number, &mut block);
            let mut tiles = [None; MAX_ROLES];
            let tiled = (0..roles).filter(|&role| !walk.is_in_place(role));
            for (count, role) in tiled.enumerate() {
                let tile = tile(count, block.len);
                let from = walk.copying(role, &block, &mut loops);
                // SAFETY: `Job` has taken the walk from the shapes and strides of the arrays, whose
                // dtype is as large as `F`, so `from` leads to elements of the array of that role,
                // which outlives the job (see `Jobs`); they are `block.len`, and `tile` has that
                // room. What is written is this piece's alone, and the gradient is at most read.
                unsafe { tiles::gather(&from, self.job.data[role], tile) };
                tiles[role] = Some(tile);
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

    /// Sets the gradient, which is checked to be writable, to zero.
    #[inline(never)]
    pub(super) fn clear_gradient<F: Bits>(&mut self) {
        if self.job.is_dense() {
            self.gradient_to_write::<F>().fill(F::default());
        } else {
            let most = BLOCK_BYTES / size_of::<F>();
            let mut room = Tiles::<BLOCK_BYTES>::new();
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

    /// Where tiles of so many elements start in this piece, and how long they are.
    fn tiles(&self, size: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        cuts(self.len, size)
    }

    /// The array of a role as a slice, if it is dense.
    fn dense<F: Element>(&self, role: usize) -> &[F] {
        assert!(size_of::<F>() == self.job.dtype_of(role).size());
        let data = self.job.term_of(role, self.term).cast::<F>().wrapping_add(self.start);
        // SAFETY: as in `slices`, for one array alone, of which the walk may have said that it is
        // dense. What is added to a gradient has its dtype, shape and strides, and is aligned if it
        // is. Nothing writes while this is borrowed, as writing borrows the piece mutably.
        unsafe { slice::from_raw_parts(data, self.len) }
    }

    /// The dense gradient as a slice that may be written, where the step is to write it.
    fn gradient_to_write<F: Bits>(&mut self) -> &mut [F] {
        assert!(self.job.is_dense() && size_of::<F>() == self.job.gradient.size());
        let data = self.job.data[GRADIENT].cast::<F>().wrapping_add(self.start);
        // SAFETY: as in `slices`. Gradients that are cleared are written arrays: that they are
        // writable and share no memory with another was checked too.
        unsafe { slice::from_raw_parts_mut(data, self.len) }
    }

    /// The dense arrays as slices: parameter, gradient, and so many others.
    #[inline(always)]
    fn slices<F: Bits>(&mut self, others: usize) -> Slices<'_, F> {
        let data = self.job.pointers(self.start);
        // SAFETY: without a walk, `Job::new` has seen aligned elements in one run behind each
        // pointer, of the one dtype that is as large as `F`, in arrays that outlive the job (see
        // `Jobs`), and set the pointers of `others` roles; `start..start + len` are of them, and
        // `len` > 0. Written arrays that share memory with another were refused, no other piece has
        // these elements, and the slices borrow this one mutably, so they are the only ones. The
        // gradient, which may be shared, is only read.
        unsafe { slices(data, self.len, others) }
    }

    /// The arrays of a storage, which are one run each, from `start` of this piece on.
    fn arrays(
        &mut self,
        storage: &Storage,
        start: usize,
        n: usize,
        places: Places,
        (noise, states_noise): (Noise, [Noise; MAX_STATES / 2]),
    ) -> Arrays<'_> {
        assert!(self.job.is_one_run() && start + n <= self.len);
        let at = self.start + start;
        let job = self.job;
        let elements = |role: usize| {
            let (dtype, data) = (job.dtype_of(role), job.data[role]);
            // SAFETY: as in `slices`, for arrays of the role's own dtype: `start..start + n` of this
            // piece are aligned elements in one run behind each pointer, whose dtype `checks.rs` has
            // seen to be that of the storage. Each role is made a slice of once.
            unsafe {
                match dtype {
                    Dtype::Bf16 | Dtype::U16 => Elements::Bfloat16(slice_at(data, at, n)),
                    _ => {
                        assert!(dtype == Dtype::F32);
                        Elements::Float32(slice_at(data, at, n))
                    }
                }
            }
        };
        // SAFETY: as above; the gradient, which may be shared, is only read.
        let g = unsafe {
            let data = job.data[GRADIENT];
            match job.gradient {
                Dtype::Bf16 | Dtype::U16 => Gradient::Bfloat16(shared_at(data, at, n)),
                dtype => {
                    assert!(dtype == Dtype::F32);
                    Gradient::Float32(shared_at(data, at, n))
                }
            }
        };
        let rest: &mut [Half] = if storage.master == Master::Split {
            let role = storage.beside();
            assert!(job.dtype_of(role) == Dtype::I16);
            // SAFETY: as above.
            unsafe { slice_at(job.data[role], at, n) }
        } else {
            &mut []
        };
        let states = array::from_fn(|k| {
            let role = FIRST_STATE + k;
            if role < storage.beside() { elements(role) } else { Elements::Float32(&mut []) }
        });
        let p = elements(PARAMETER);
        let after = job.len - (at + n);
        Arrays { p, low: rest, g, states, after, places, noise, states_noise }
    }

    /// Whether the array of a role has float32 numbers, in a job with a storage.
    fn is_float32(&self, role: usize) -> bool {
        self.job.dtype_of(role) == Dtype::F32
    }

    /// Whether a step can take the float32 numbers of a role where they are.
    fn is_in_place(&self, role: usize) -> bool {
        let is_sum = role == GRADIENT && self.job.has_sum();
        self.job.is_one_run() && self.is_float32(role) && !is_sum
    }

    /// The arrays that a step can take where they are, from `start` of this piece on: parameter,
    /// gradient, and some others by their roles.
    fn in_place(&mut self, start: usize, n: usize, others: &[usize]) -> InPlace<'_> {
        assert!(start + n <= self.len && others.is_sorted_by(|a, b| FIRST_STATE <= *a && a < b));
        let at = self.start + start;
        let (own, is_in_place) = (&self.job.data, |role: &usize| self.is_in_place(*role));
        // SAFETY: as in `arrays`: aligned elements of float32 in one run behind each of these pointers,
        // of which a slice is made once, as the roles differ. A parameter has all roles that its work
        // asks for: the states of its rule, and the average, if one is kept.
        let slice = |role: usize| unsafe { slice_at(own[role], at, n) };
        let g = Some(GRADIENT).filter(is_in_place);
        // SAFETY: as above; the gradient, which may be shared, is only read.
        let g = g.map(|role| unsafe { shared_at(own[role], at, n) });
        let p = Some(PARAMETER).filter(is_in_place).map(slice);
        (p, g, array::from_fn(|k| others.get(k).copied().filter(is_in_place).map(slice)))
    }

    /// The exponents of a state in 8 bits, of `n` elements from `start` of this piece on, which begin with
    /// a block, and their codes, if they are one run.
    fn codes(
        &mut self,
        role: usize,
        start: usize,
        n: usize,
        block: usize,
    ) -> (&mut [u8], Option<&mut [u8]>) {
        let (exponents, count) = (self.job.exponents[role - FIRST_STATE], n.div_ceil(BLOCK));
        assert!(!exponents.is_null() && block * BLOCK + n <= self.job.places());
        assert!(start + n <= self.len && self.job.dtype_of(role) == Dtype::U8);
        // SAFETY: `checks.rs` has seen one for each block of the whole array, of which these are some,
        // and that nothing else has this memory. No other piece has elements of these blocks, for
        // pieces are cut between blocks, and those of rows have whole ones.
        let exponents = unsafe { slice_at(exponents, block, count) };
        // SAFETY: as in `arrays`, for elements of a byte.
        let codes = || unsafe { slice_at(self.job.data[role], self.start + start, n) };
        (exponents, self.job.is_one_run().then(codes))
    }

    /// Asks the cache for `n` elements of a role, from `start` of this piece on, if they are one run.
    fn prefetch(&self, role: usize, start: usize, n: usize) {
        if self.job.is_one_run() {
            let size = self.job.dtype_of(role).size();
            let data = self.job.term_of(role, self.term).wrapping_add(size * (self.start + start));
            for line in (0..size * n).step_by(walk::CACHE_LINE) {
                isa::prefetch_at(data.wrapping_add(line));
            }
        }
    }

    /// Copies elements of a role, from `start` of this piece on in order, into a tile.
    fn gather<'t, F: Bits, const BYTES: usize>(
        &self,
        role: usize,
        start: usize,
        n: usize,
        room: &'t mut Tiles<BYTES>,
    ) -> &'t mut [F] {
        let fill = |tile: *mut F| {
            self.stretches::<F>(role, start, n, |what, array, done| {
                // SAFETY: `stretches` leads to elements of the array of a role, one after the other
                // `n` of them, and of what is added to a gradient too, whose strides are the same.
                // The array outlives the job (see `Jobs`), and it is not written meanwhile, as in
                // `gradient`.
                unsafe { tiles::gather::<F>(what, array, tile.wrapping_add(done)) }
            });
        };
        // SAFETY: `stretches` visits each of the `n` places of the tile.
        unsafe { room.filled(n, fill) }
    }

    /// Copies a tile back.
    fn scatter<F: Bits>(&mut self, role: usize, start: usize, tile: &[F]) {
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
        let size = self.job.dtype_of(role).size();
        assert!(size_of::<F>() == size && start + n <= self.len);
        let array = self.job.term_of(role, self.term);
        let start = self.start + start;
        let Some(walk) = &self.job.walk else {
            let size = size.cast_signed();
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

/// Those of parameter, gradient and others that are in place.
type InPlace<'a> =
    (Option<&'a mut [f32]>, Option<&'a [f32]>, [Option<&'a mut [f32]>; MAX_STATES + 1]);

/// A parameter, its gradient, and what else there is, as slices of one length.
type Slices<'a, F> = (&'a mut [F], &'a [F], [&'a mut [F]; MAX_STATES + 1]);

/// The slices behind pointers, by role, of which so many are others than parameter and gradient.
///
/// # Safety
/// Behind the pointers of these roles are `len` elements, and all pointers are aligned and not null. For
/// the life of the slices nobody else reads or writes these elements, but for the gradient's: nobody
/// writes those.
#[inline(always)]
unsafe fn slices<'a, F>(data: [*mut F; MAX_ROLES], len: usize, others: usize) -> Slices<'a, F> {
    let [p, g, rest @ ..] = data;
    let mut slices: [&mut [F]; MAX_STATES + 1] = [&mut [], &mut [], &mut [], &mut [], &mut []];
    for k in 0..slices.len() {
        let len = if k < others { len } else { 0 };
        // SAFETY: the caller's word.
        slices[k] = unsafe { slice::from_raw_parts_mut(rest[k], len) };
    }
    // SAFETY: as above.
    unsafe { (slice::from_raw_parts_mut(p, len), slice::from_raw_parts(g, len), slices) }
}

/// `n` elements behind a pointer, from number `at` on.
///
/// # Safety
/// They are there, aligned, and for the life of the slice nobody else reads or writes them.
unsafe fn slice_at<'a, F: Bits>(data: *mut u8, at: usize, n: usize) -> &'a mut [F] {
    // SAFETY: the caller's word.
    unsafe { slice::from_raw_parts_mut(data.cast::<F>().wrapping_add(at), n) }
}

/// The same to be read only, by others too.
///
/// # Safety
/// They are there, aligned, and for the life of the slice nobody writes them.
unsafe fn shared_at<'a, F: Bits>(data: *const u8, at: usize, n: usize) -> &'a [F] {
    // SAFETY: the caller's word.
    unsafe { slice::from_raw_parts(data.cast::<F>().wrapping_add(at), n) }
}

/// Where parts of at most `most` start, and how long they are.
fn cuts(len: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(most).map(move |start| (start, most.min(len - start)))
}
