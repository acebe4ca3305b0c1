//! The step of a piece whose arrays are stored in fewer bytes than their numbers have.
//!
//! If there is a loop for it, it moves the elements from memory to registers and back. Everything else
//! goes tile by tile through the step of float32 arrays, such as arrays that are not one run of memory,
//! users' own rules and averages. The bits are the same.

use std::{array, iter};

use super::{Piece, cuts};
use crate::extras::{Extras, Step};
use crate::gradient;
use crate::isa::Level;
use crate::python::job::Work;
use crate::python::rule::BoundRule;
use crate::python::storage::{Master, Storage};
use crate::python::tiles::{Scratch, Sums, Tiles};
use crate::python::view::Dtype;
use crate::rules::{Coefficients, MAX_STATES};
use crate::storage::{self, BLOCK, Key, Places, Rounding};
use crate::sweep;
use crate::sweep::stored::short::short_step;
use crate::sweep::stored::{self, Gradient, StoredStep};
use crate::walk::{Block, Copying, FIRST_STATE, GRADIENT, Loop, MAX_AXES, PARAMETER, PLACE, Walk};

/// The elements of a tile: few enough for all that is known of them to stay in the cache.
const TILE: usize = 4 * BLOCK;

/// The places of a tile whose elements follow one another.
const IN_A_ROW: [u32; TILE] = {
    let mut places = [0; TILE];
    let mut i = 1;
    while i < TILE {
        places[i] = places[i - 1] + 1;
        i += 1;
    }
    places
};

/// Parameter, gradient, states and average.
const ROLES: usize = FIRST_STATE + MAX_STATES + 1;

/// The shortest run, along the innermost axis, that is not better put in tiles with others.
const SHORTEST_RUN: usize = 64;

/// Room for a tile as it is in memory.
type Room = Tiles<{ TILE * size_of::<f32>() }>;

impl Piece<'_> {
    /// The step of a piece that has a storage.
    pub(super) fn run_stored(&mut self, work: &Work, storage: &Storage) {
        let level = work.level;
        match &work.rule {
            BoundRule::Recipe(recipe, c) => {
                let combination = storage.combination(self.job.gradient);
                // Sums of gradients in 16 bits are made in tiles.
                let has_sum = self.job.has_sum();
                let can_sum = !has_sum || self.job.gradient == Dtype::F32;
                let does = can_sum && self.has_runs(storage) && stored::does(level, &work.extras);
                match combination.filter(|_| does).map(|found| recipe.stored(found)) {
                    Some(step) if has_sum => self.sweep_sums(work, storage, step, c),
                    Some(step) => self.sweep_runs(work, storage, step, c, None),
                    None => {
                        self.sweep_tiles(work, storage, &|p, g, s| {
                            (recipe.step_f32)(level, c, &mut [sweep::Arrays::of(p, g, s)]);
                        });
                    }
                }
            }
            BoundRule::Program(program, bound) => {
                self.sweep_tiles(work, storage, &|p, g, s| {
                    program.step_f32(level, bound, p, g, s);
                });
            }
            BoundRule::Normed(..) => unreachable!("`Plan::run` gives it its norms"),
        }
        if work.clear_gradient {
            match self.job.gradient.size() {
                2 => self.clear_gradient::<u16>(),
                _ => self.clear_gradient::<f32>(),
            }
        }
    }

    /// The key of the noise of a role.
    fn key(work: &Work, storage: &Storage, role: usize) -> Key {
        Key::new(work.seed, work.t, storage.stream.wrapping_add(role as u64))
    }

    /// Tiles of at most `most` elements whose places have the same upper 32 bits: where they start, how long
    /// they are, and these.
    fn parts(
        &self,
        storage: &Storage,
        most: usize,
    ) -> impl Iterator<Item = (usize, usize, u32)> + use<> {
        let (len, first) = (self.len, storage.first.wrapping_add(self.start as u64));
        // Elsewhere all upper halves are 0.
        let has_high = self.job.is_dense() && !storage.has_order();
        let mut start = 0;
        std::iter::from_fn(move || {
            let place = if has_high { first.wrapping_add(start as u64) } else { 0 };
            let n = most.min(len - start).min(left_of_these(place));
            let part = (start, n, high_half(place));
            start += n;
            (n > 0).then_some(part)
        })
    }

    /// Whether its elements are in runs that a loop can take.
    fn has_runs(&self, storage: &Storage) -> bool {
        let is_long = |walk: &Walk| walk.places_from(0).2 >= SHORTEST_RUN;
        self.job.is_one_run()
            && self.job.walk.as_deref().is_none_or(is_long)
            && storage.run_len().is_none_or(|len| len >= SHORTEST_RUN as u64)
    }

    /// Of the places of elements, from `start` of this piece on in order: how many are a step apart and
    /// have the same upper 32 bits, these, and the lower ones of the first with the step.
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what it is about")]
    fn places_from(&self, storage: &Storage, start: usize) -> (usize, u32, Places) {
        if storage.has_order() {
            // As where there is a walk.
            let (first, step, n) = storage.places_from((self.start + start) as u64);
            let n = usize::try_from(n).unwrap_or(usize::MAX).min(self.len - start);
            return (n, 0, Places { first: first as u32, step: step as u32 });
        }
        let Some(walk) = &self.job.walk else {
            let first = storage.first.wrapping_add((self.start + start) as u64);
            let n = (self.len - start).min(left_of_these(first));
            return (n, high_half(first), Places { first: first as u32, step: 1 });
        };
        // Here all upper halves are 0.
        let (first, step, n) = walk.places_from(self.start + start);
        let first = low_half(first).wrapping_add(storage.first as u32);
        (n.min(self.len - start), 0, Places { first, step: low_half(step) })
    }

    /// The step in one loop, where gradients are sums: a tile at a time.
    #[inline(never)]
    fn sweep_sums(&mut self, work: &Work, storage: &Storage, step: StoredStep, c: &Coefficients) {
        self.sweep_runs(work, storage, step, c, Some(&mut Sums::new()));
    }

    /// The step in one loop for each run of places. Gradients that are sums need room for them.
    fn sweep_runs(
        &mut self,
        work: &Work,
        storage: &Storage,
        step: StoredStep,
        c: &Coefficients,
        mut sums: Option<&mut Sums>,
    ) {
        let key = |role| Self::key(work, storage, role);
        let (own, states) = (key(PARAMETER), array::from_fn(|k| key(FIRST_STATE + 2 * k)));
        let mut start = 0;
        while start < self.len {
            let (n, high, places) = self.places_from(storage, start);
            let n = if sums.is_some() { n.min(Extras::TILE) } else { n };
            // What is left of the blocks comes next.
            let n = if n < stored::BLOCK { n } else { n - n % stored::BLOCK };
            let sum = sums.as_deref_mut().map(|room| self.sum(work.level, start, n, room));
            let noises = (own.noise(high), states.map(|key: Key| key.noise(high)));
            let mut arrays = self.arrays(storage, start, n, places, noises);
            if let Some(sum) = sum {
                arrays.g = Gradient::Float32(sum);
            }
            if n < stored::BLOCK {
                short_step(step, work.level, c, &work.extras, arrays);
            } else {
                step(work.level, c, &work.extras, arrays);
            }
            start += n;
        }
    }

    /// The step of float32 arrays, tile by tile: those that are of float32 in place.
    #[expect(clippy::large_stack_arrays, reason = "28 kB, less than a tile of a strided array")]
    #[inline(never)]
    fn sweep_tiles(&mut self, work: &Work, storage: &Storage, step: Step<'_, f32>) {
        let level = work.level;
        let (states, count) = (work.rule.states(), work.others());
        let roles: [usize; ROLES] = array::from_fn(|k| match k {
            PARAMETER | GRADIENT => k,
            _ if k < FIRST_STATE + states => k,
            _ => storage.average(),
        });
        let roles = &roles[..FIRST_STATE + count];
        let keys: [_; ROLES] = array::from_fn(|k| Self::key(work, storage, k));
        let mut numbers = [[0.0; TILE]; ROLES];
        let mut places = IN_A_ROW;
        let mut scratch = Scratch::new();
        // Of rows, the next block is elsewhere.
        let most = if !self.job.is_dense() {
            BLOCK
        } else if work.extras.are_none() {
            TILE
        } else {
            Extras::TILE
        };
        for (start, n, high) in self.parts(storage, most) {
            let first = self.places(storage, start, &mut places[..n]);
            let block = self.block(start, places[0]);
            for (&role, tile) in iter::zip(roles, &mut numbers) {
                self.load_role(level, storage, role, (start, block), &mut tile[..n]);
            }
            let (own_p, own_g, mut own) = self.in_place(start, n, &roles[FIRST_STATE..]);
            let [p, g, rest @ ..] = numbers.each_mut().map(|tile| &mut tile[..n]);
            let (p, g) = (own_p.unwrap_or(p), own_g.unwrap_or(g));
            let mut rest = rest.map(Some);
            let mut slices: [_; MAX_STATES + 1] =
                array::from_fn(|k| own[k].take().or_else(|| rest[k].take()).unwrap_or_default());
            if work.extras.are_none() {
                step(p, g, &mut slices[..count]);
            } else {
                work.step(step, p, g, &mut slices[..count], scratch.zeros(n));
            }
            let places = &places[..n];
            for (k, (&role, tile)) in iter::zip(roles, &numbers).enumerate() {
                let shares = k >= FIRST_STATE && k % 2 == 1 && !self.is_coded(role);
                let (key, shift) = if shares { (keys[k - 1], 16) } else { (keys[k], 0) };
                let rounding = Rounding { noise: key.noise(high), shift, first, places };
                let next = roles[(k + 2) % roles.len()];
                self.store_role(level, storage, (role, next), (start, block), &tile[..n], rounding);
            }
        }
    }

    /// Whether the array of a role has codes of 8 bits.
    fn is_coded(&self, role: usize) -> bool {
        self.job.dtype_of(role) == Dtype::U8
    }

    /// The number of the block at `start` of this piece, whose first element has this place if there is
    /// a walk.
    fn block(&self, start: usize, place: u32) -> usize {
        (if self.job.is_dense() { self.start + start } else { place as usize }) / BLOCK
    }

    /// Loads the numbers of a role that a step can't take where they are, from `start` of this piece on
    /// in order; of 8 bits, where a block begins.
    fn load_role(
        &mut self,
        level: Level,
        storage: &Storage,
        role: usize,
        (start, block): (usize, usize),
        to: &mut [f32],
    ) {
        if self.is_coded(role) {
            let (n, mut room) = (to.len(), Room::new());
            let gathered =
                (!self.job.is_one_run()).then(|| self.gather::<u8, _>(role, start, n, &mut room));
            let (exponents, own) = self.codes(role, start, n, block);
            let codes = own.or(gathered).unwrap_or_default();
            storage::from_codes(level, storage.code(role), codes, exponents, to);
        } else if !self.is_in_place(role) {
            self.load(level, role, start, to);
        }
    }

    /// Stores them. Meanwhile as many elements of the role `next` are fetched, which come after these: in
    /// parts, for the CPU waits where it fetches too much at once.
    fn store_role(
        &mut self,
        level: Level,
        storage: &Storage,
        (role, next): (usize, usize),
        (start, block): (usize, usize),
        numbers: &[f32],
        rounding: Rounding<'_>,
    ) {
        let (n, after) = (numbers.len(), start + numbers.len());
        if !self.is_coded(role) {
            self.prefetch(next, after, n);
            if role != GRADIENT && !self.is_in_place(role) {
                self.store(level, role, start, numbers, rounding);
            }
            return;
        }
        let code = storage.code(role);
        for (at, n) in cuts(n, BLOCK) {
            self.prefetch(next, after + at, n);
            let (numbers, places) = (&numbers[at..at + n], &rounding.places[at..at + n]);
            let rounding = Rounding { places, ..rounding };
            let (exponents, own) = self.codes(role, start + at, n, block + at / BLOCK);
            if let Some(codes) = own {
                storage::to_codes(level, code, numbers, rounding, codes, exponents);
            } else {
                let mut codes = [0; BLOCK];
                storage::to_codes(level, code, numbers, rounding, &mut codes[..n], exponents);
                self.scatter(role, start + at, &codes[..n]);
            }
        }
    }

    /// The numbers of a role, from `start` of this piece on in order: of a gradient their sum.
    fn load(&self, level: Level, role: usize, start: usize, to: &mut [f32]) {
        self.load_array(level, role, start, to);
        if role == GRADIENT && self.job.has_sum() {
            self.add_terms(level, start, to);
        }
    }

    /// Adds the other terms of the gradient to the numbers of the first.
    #[inline(never)]
    fn add_terms(&self, level: Level, start: usize, to: &mut [f32]) {
        let mut numbers = [0.0; TILE];
        let numbers = &mut numbers[..to.len()];
        for term in 1..self.job.terms() {
            Piece { term, ..*self }.load_array(level, GRADIENT, start, numbers);
            gradient::add(level, numbers, to);
        }
    }

    /// The numbers of the array of a role.
    fn load_array(&self, level: Level, role: usize, start: usize, to: &mut [f32]) {
        let (n, mut room) = (to.len(), Room::new());
        let storage = self.job.storage.as_ref().filter(|_| role == PARAMETER);
        let master = storage.map_or(Master::None, |storage| storage.master);
        let beside = storage.map_or(role, |storage| storage.beside());
        match (self.job.dtype_of(role), master) {
            (_, Master::Split) => {
                let mut other = Room::new();
                let high = self.gather::<u16, _>(role, start, n, &mut room);
                let low = self.gather::<i16, _>(beside, start, n, &mut other);
                storage::from_split(level, high, low, to);
            }
            (_, Master::Float32) => {
                to.copy_from_slice(self.gather::<f32, _>(beside, start, n, &mut room));
            }
            (Dtype::Bf16 | Dtype::U16, _) => {
                let bits = self.gather::<u16, _>(role, start, n, &mut room);
                storage::from_bfloat16(level, bits, to);
            }
            (Dtype::F16, _) => {
                let bits = self.gather::<u16, _>(role, start, n, &mut room);
                storage::from_float16(level, bits, to);
            }
            _ => to.copy_from_slice(self.gather::<f32, _>(role, start, n, &mut room)),
        }
    }

    /// Stores numbers in the array of a role, from `start` of this piece on in order.
    fn store(
        &mut self,
        level: Level,
        role: usize,
        start: usize,
        numbers: &[f32],
        rounding: Rounding<'_>,
    ) {
        let n = numbers.len();
        let storage = self.job.storage.as_ref().filter(|_| role == PARAMETER);
        let master = storage.map_or(Master::None, |storage| storage.master);
        let beside = storage.map_or(role, |storage| storage.beside());
        let mut bits = [0; TILE];
        let bits = &mut bits[..n];
        match (self.job.dtype_of(role), master) {
            (_, Master::Split) => {
                let mut low = [0; TILE];
                storage::to_split(level, numbers, bits, &mut low[..n]);
                self.scatter(role, start, bits);
                self.scatter(beside, start, &low[..n]);
            }
            (_, Master::Float32) => {
                self.scatter(beside, start, numbers);
                storage::to_float16(level, numbers, bits);
                self.scatter(role, start, bits);
            }
            (Dtype::Bf16 | Dtype::U16, _) => {
                storage::to_bfloat16(level, numbers, rounding, bits);
                self.scatter(role, start, bits);
            }
            _ => self.scatter(role, start, numbers),
        }
    }

    /// Puts averages, whose role is the gradient's, in the place of bfloat16 parameters if `enter`, and
    /// these into the upper halves of the averages; or all of it back.
    pub(in crate::python) fn swap_halves(&mut self, enter: bool) {
        let (mut room, mut other) = (Room::new(), Room::new());
        let exchange = if enter { storage::enter_average } else { storage::leave_average };
        for (start, n) in cuts(self.len, TILE) {
            let p = self.gather::<u16, _>(PARAMETER, start, n, &mut room);
            let a = self.gather::<f32, _>(GRADIENT, start, n, &mut other);
            for (p, a) in iter::zip(&mut *p, &mut *a) {
                (*p, *a) = exchange(*p, *a);
            }
            self.scatter(PARAMETER, start, p);
            self.scatter(GRADIENT, start, a);
        }
    }

    /// Visits the numbers of the array of a role in order, a tile at a time.
    pub(super) fn each_tile_stored(
        &self,
        level: Level,
        role: usize,
        mut visit: impl FnMut(&[f32]),
    ) {
        let mut numbers = [0.0; TILE];
        for (start, n) in cuts(self.len, TILE) {
            self.load(level, role, start, &mut numbers[..n]);
            visit(&numbers[..n]);
        }
    }

    /// The places of elements, from `start` of this piece on in order, less a number, of which the lower
    /// half is returned. Those of a dense piece are `to` itself: it has to begin as [`IN_A_ROW`].
    #[expect(clippy::cast_possible_truncation, reason = "a tile is short, and halves are meant")]
    fn places(&self, storage: &Storage, start: usize, to: &mut [u32]) -> u32 {
        let mut done = 0;
        let Some(walk) = &self.job.walk else {
            let (n, _, Places { first, step }) = self.places_from(storage, start);
            if step == 1 && n >= to.len() && !storage.has_order() {
                return first;
            }
            while done < to.len() {
                let (n, _, Places { first, step }) = self.places_from(storage, start + done);
                for (i, place) in to[done..].iter_mut().take(n).enumerate() {
                    *place = first.wrapping_add(step.wrapping_mul(i as u32));
                }
                done += n;
            }
            return 0;
        };
        let (mut block, mut loops) = (Block::default(), [Loop::default(); MAX_AXES]);
        while done < to.len() {
            walk.set_stretch(self.start + start + done, to.len() - done, &mut block);
            let Copying { offset, rows, loops } = walk.copying(PLACE, &block, &mut loops);
            let from = low_half(offset);
            match rows {
                None => number(loops, from, 0, &mut to[done..]),
                Some((rows, step, at)) => {
                    for (i, &row) in rows.iter().enumerate() {
                        let from = from.wrapping_add(low_half(step).wrapping_mul(row as u32));
                        number(loops, from, i * at, &mut to[done..]);
                    }
                }
            }
            done += block.len;
        }
        self.job.storage.as_ref().map_or(0, |storage| storage.first as u32)
    }
}

/// Numbers the places of a tile that some loops lead to.
#[expect(clippy::cast_possible_truncation, reason = "places are below 2**32")]
fn number(loops: &[Loop], from: u32, at: usize, to: &mut [u32]) {
    let [outer, inner @ ..] = loops else {
        to[at] = from;
        return;
    };
    for i in 0..outer.len {
        let from = from.wrapping_add(low_half(outer.step).wrapping_mul(i as u32));
        number(inner, from, at + outer.place * i, to);
    }
}

/// How many places from this one on have the same upper half.
fn left_of_these(place: u64) -> usize {
    usize::try_from((1 << 32) - (place & u64::from(u32::MAX))).unwrap_or(usize::MAX)
}

fn high_half(place: u64) -> u32 {
    (place >> 32) as u32
}

/// What is added modulo 2**32.
#[expect(clippy::cast_possible_truncation, reason = "it is meant")]
fn low_half(step: isize) -> u32 {
    step.cast_unsigned() as u32
}
