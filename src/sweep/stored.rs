//! The element loop over arrays that are stored in fewer bytes: load, rule, store, with the extra work
//! of a step in it, for what goes into 16 bits is rounded only once.
//!
//! Where everything has 16 bits, it takes two elements at a time: of two bfloat16s in a word, one is the
//! upper half of its `f32` as it stands, and the other one shift away from it. To spread them over twice
//! as many words, and to bring them together again, takes thrice as many instructions. Beside elements
//! of 32 bits it does not pay, for these would have to be taken apart.

use std::marker::PhantomData;
use std::{array, mem};

use crate::arrays;
use crate::element::Element;
use crate::extras::Extras;
use crate::isa::{self, Kernel, Level};
use crate::rules::{Coefficients, MAX_STATES, Rule};
use crate::storage::{self, Noise};

/// An element of a bfloat16 array, as it is in memory.
pub type Half = [u8; 2];

/// The elements of an array as they are in memory.
#[derive(Debug)]
pub enum Elements<'a> {
    /// Numbers.
    Float32(&'a mut [f32]),
    /// Upper halves of numbers.
    Bfloat16(&'a mut [Half]),
}

/// The elements of a gradient as they are in memory.
#[derive(Clone, Copy, Debug)]
pub enum Gradient<'a> {
    /// Numbers.
    Float32(&'a [f32]),
    /// Upper halves of numbers.
    Bfloat16(&'a [Half]),
}

/// The arrays of a step, all of one length, and how they are rounded.
#[derive(Debug)]
pub struct Arrays<'a> {
    /// The parameter.
    pub p: Elements<'a>,
    /// Its lower halves, if it is split; else none.
    pub low: &'a mut [Half],
    /// The gradient.
    pub g: Gradient<'a>,
    /// The states.
    pub states: [Elements<'a>; MAX_STATES],
    /// Where the elements are.
    pub places: Places,
    /// The noise of the parameter.
    pub noise: Noise,
    /// The noise of every second state, which the next one shares.
    pub states_noise: [Noise; MAX_STATES / 2],
}

/// The places of elements that are a step apart, modulo 2**32: of those of all, the upper 32 bits are the
/// same.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Of the first.
    pub first: u32,
    /// From each to the next.
    pub step: u32,
}

impl Places {
    /// Those from number `i` on.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "they go on from 0 after 2**32")]
    fn after(self, i: usize) -> Self {
        let first = self.first.wrapping_add(self.step.wrapping_mul(i as u32));
        Self { first, ..self }
    }
}

/// One step over such arrays; of the extra work scaling and weight decay.
pub type StoredStep = fn(Level, &Coefficients, &Extras, Arrays<'_>);

/// Which arrays are in how many bytes: parameter and gradient, and states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combination {
    /// All in 32 bits, but the states in 16.
    States,
    /// Parameter and gradient in 16 bits.
    Parameters,
    /// Everything in 16 bits.
    Everything,
    /// As `Parameters`, with the lower halves of the parameter beside it.
    SplitParameters,
    /// As `Everything`, with the lower halves of the parameter beside it.
    SplitEverything,
    /// As `Parameters`, with the gradient in 32 bits.
    ParametersAlone,
}

/// How many there are.
pub(crate) const COMBINATIONS: usize = 6;

/// The steps of a rule, one for each combination.
pub(crate) const fn steps<R: Rule<H, C, S>, const H: usize, const C: usize, const S: usize>()
-> [StoredStep; COMBINATIONS] {
    [
        step::<R, Plain, Plain, Noisy, 1, H, C, S>,
        step::<R, Noisy, Noisy, Plain, 1, H, C, S>,
        step::<R, Noisy, Noisy, Noisy, 2, H, C, S>,
        step::<R, Split, Noisy, Plain, 1, H, C, S>,
        step::<R, Split, Noisy, Noisy, 2, H, C, S>,
        step::<R, Noisy, Plain, Plain, 1, H, C, S>,
    ]
}

/// How the elements of an array lie in memory.
trait Format {
    /// An element as it is in memory.
    type Bits: Copy + Default;
    const SPLIT: bool = false;

    fn slice(elements: Elements<'_>) -> Option<&mut [Self::Bits]>;
    fn gradient(elements: Gradient<'_>) -> Option<&[Self::Bits]>;
}

/// How `N` elements at a time are loaded and stored.
trait Storage<const N: usize>: Format {
    /// `N` elements as they are in memory.
    type Chunk: Copy;
    /// Their lower halves, if it is split.
    type Low: Copy + Default;

    /// All chunks, without the last elements that are fewer.
    fn chunks(bits: &[Self::Bits]) -> &[Self::Chunk];
    fn chunks_mut(bits: &mut [Self::Bits]) -> &mut [Self::Chunk];
    fn low_chunks(_: &mut [Half]) -> &mut [Self::Low] {
        &mut []
    }
    fn load(chunk: Self::Chunk, low: Self::Low) -> [f32; N];
    fn store(numbers: [f32; N], noise: [u32; N]) -> (Self::Chunk, Self::Low);
}

struct Plain;
struct Noisy;
struct Split;

impl Format for Plain {
    type Bits = f32;

    fn slice(elements: Elements<'_>) -> Option<&mut [f32]> {
        if let Elements::Float32(slice) = elements { Some(slice) } else { None }
    }

    fn gradient(elements: Gradient<'_>) -> Option<&[f32]> {
        if let Gradient::Float32(slice) = elements { Some(slice) } else { None }
    }
}

impl Format for Noisy {
    type Bits = Half;

    fn slice(elements: Elements<'_>) -> Option<&mut [Half]> {
        if let Elements::Bfloat16(slice) = elements { Some(slice) } else { None }
    }

    fn gradient(elements: Gradient<'_>) -> Option<&[Half]> {
        if let Gradient::Bfloat16(slice) = elements { Some(slice) } else { None }
    }
}

impl Format for Split {
    type Bits = Half;
    const SPLIT: bool = true;

    fn slice(elements: Elements<'_>) -> Option<&mut [Half]> {
        Noisy::slice(elements)
    }

    fn gradient(elements: Gradient<'_>) -> Option<&[Half]> {
        Noisy::gradient(elements)
    }
}

impl<const N: usize> Storage<N> for Plain {
    type Chunk = [f32; N];
    type Low = ();

    #[inline(always)]
    fn chunks(bits: &[f32]) -> &[[f32; N]] {
        bits.as_chunks().0
    }

    #[inline(always)]
    fn chunks_mut(bits: &mut [f32]) -> &mut [[f32; N]] {
        bits.as_chunks_mut().0
    }

    #[inline(always)]
    fn load(chunk: [f32; N], (): ()) -> [f32; N] {
        chunk
    }

    #[inline(always)]
    fn store(numbers: [f32; N], _: [u32; N]) -> ([f32; N], ()) {
        (numbers, ())
    }
}

impl Storage<1> for Noisy {
    type Chunk = Half;
    type Low = ();

    #[inline(always)]
    fn chunks(bits: &[Half]) -> &[Half] {
        bits
    }

    #[inline(always)]
    fn chunks_mut(bits: &mut [Half]) -> &mut [Half] {
        bits
    }

    #[inline(always)]
    fn load(half: Half, (): ()) -> [f32; 1] {
        [storage::load_bfloat16(u16::from_ne_bytes(half))]
    }

    #[inline(always)]
    fn store([x]: [f32; 1], [noise]: [u32; 1]) -> (Half, ()) {
        (upper(storage::round_by(x, noise)), ())
    }
}

impl Storage<1> for Split {
    type Chunk = Half;
    type Low = Half;

    #[inline(always)]
    fn chunks(bits: &[Half]) -> &[Half] {
        bits
    }

    #[inline(always)]
    fn chunks_mut(bits: &mut [Half]) -> &mut [Half] {
        bits
    }

    #[inline(always)]
    fn low_chunks(low: &mut [Half]) -> &mut [Half] {
        low
    }

    #[inline(always)]
    fn load(half: Half, low: Half) -> [f32; 1] {
        [storage::load_split(u16::from_ne_bytes(half), i16::from_ne_bytes(low))]
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    fn store([x]: [f32; 1], _: [u32; 1]) -> (Half, Half) {
        (upper(storage::round_up(x)), (x.to_bits() as u16).to_ne_bytes())
    }
}

impl Storage<2> for Noisy {
    type Chunk = Word;
    type Low = ();

    #[inline(always)]
    fn chunks(bits: &[Half]) -> &[Word] {
        bits.as_flattened().as_chunks().0
    }

    #[inline(always)]
    fn chunks_mut(bits: &mut [Half]) -> &mut [Word] {
        bits.as_flattened_mut().as_chunks_mut().0
    }

    #[inline(always)]
    fn load(word: Word, (): ()) -> [f32; 2] {
        let both = number(word);
        [f32::from_bits(both << 16), f32::from_bits(both & 0xffff_0000)]
    }

    #[inline(always)]
    fn store(numbers: [f32; 2], noise: [u32; 2]) -> (Word, ()) {
        let round = |i: usize| storage::round_by(numbers[i], noise[i]);
        (uppers([round(0), round(1)]), ())
    }
}

impl Storage<2> for Split {
    type Chunk = Word;
    type Low = Word;

    #[inline(always)]
    fn chunks(bits: &[Half]) -> &[Word] {
        bits.as_flattened().as_chunks().0
    }

    #[inline(always)]
    fn chunks_mut(bits: &mut [Half]) -> &mut [Word] {
        bits.as_flattened_mut().as_chunks_mut().0
    }

    #[inline(always)]
    fn low_chunks(low: &mut [Half]) -> &mut [Word] {
        low.as_flattened_mut().as_chunks_mut().0
    }

    #[inline(always)]
    fn load(word: Word, low: Word) -> [f32; 2] {
        let (high, low) = (number(word), number(low).cast_signed());
        // Each with the sign of its own.
        let first = (high << 16).wrapping_add_signed(low << 16 >> 16);
        let second = (high & 0xffff_0000).wrapping_add_signed(low >> 16);
        [f32::from_bits(first), f32::from_bits(second)]
    }

    #[inline(always)]
    fn store(numbers: [f32; 2], _: [u32; 2]) -> (Word, Word) {
        let [first, second] = numbers;
        let low = first.to_bits() & 0xffff | second.to_bits() << 16;
        (uppers([storage::round_up(first), storage::round_up(second)]), word(low))
    }
}

/// Two halves.
type Word = [u8; 4];

/// Two halves as a number, the first in its lower half.
#[inline(always)]
fn number(word: Word) -> u32 {
    let number = u32::from_ne_bytes(word);
    if cfg!(target_endian = "big") { number.rotate_left(16) } else { number }
}

/// The bytes of such a number.
#[inline(always)]
fn word(number: u32) -> Word {
    let number = if cfg!(target_endian = "big") { number.rotate_left(16) } else { number };
    number.to_ne_bytes()
}

/// The upper half of a number.
#[inline(always)]
fn upper(number: u32) -> Half {
    ((number >> 16) as u16).to_ne_bytes()
}

/// The upper halves of two numbers.
#[inline(always)]
fn uppers([first, second]: [u32; 2]) -> Word {
    word(first >> 16 | second & 0xffff_0000)
}

/// # Panics
/// When the arrays are not as `P`, `G` and `Q` have them, or differ in length.
fn step<R, P, G, Q, const N: usize, const H: usize, const C: usize, const S: usize>(
    level: Level,
    coefficients: &Coefficients,
    extras: &Extras,
    arrays: Arrays<'_>,
) where
    R: Rule<H, C, S>,
    P: Storage<N>,
    G: Storage<N>,
    Q: Storage<N>,
{
    let exact = arrays::from_fn(0.0, |i| coefficients[i]);
    let around = Around::of(extras);
    let noises = (arrays.noise, arrays.states_noise);
    in_chunks::<P, G, Q, N, S>(arrays, &mut |chunks| {
        let rule = PhantomData::<R>;
        isa::run(level, Sweep { exact, around, chunks, noises, rule });
    });
}

/// Sweeps over the chunks, then over what is left. This does not depend on the rule, so it is compiled once
/// for all of them.
fn in_chunks<P, G, Q, const N: usize, const S: usize>(
    arrays: Arrays<'_>,
    sweep: &mut dyn FnMut(Chunks<'_, P, G, Q, N, S>),
) where
    P: Storage<N>,
    G: Storage<N>,
    Q: Storage<N>,
{
    let Arrays { p, low, g, states, places, .. } = arrays;
    let (p, g) = P::slice(p).zip(G::gradient(g)).expect("the combination's own formats");
    let mut states = states.into_iter().map_while(Q::slice);
    let mut state: [_; S] = array::from_fn(|_| states.next().expect("one for each state"));
    sweep(Chunks {
        p: P::chunks_mut(p),
        low: P::low_chunks(low),
        g: G::chunks(g),
        state: state.each_mut().map(|state| Q::chunks_mut(state)),
        places,
    });
    let done = p.len() - p.len() % N;
    if N == 2 && done < p.len() {
        // One is left: it makes a pair with nothing.
        let mut own = ([p[done], P::Bits::default()], [Half::default(); 2]);
        if P::SPLIT {
            own.1[0] = low[done];
        }
        let mut states = state.each_mut().map(|state| [state[done], Q::Bits::default()]);
        sweep(Chunks {
            p: P::chunks_mut(&mut own.0),
            low: P::low_chunks(&mut own.1),
            g: G::chunks(&[g[done], G::Bits::default()]),
            state: states.each_mut().map(|state| Q::chunks_mut(state)),
            places: places.after(done),
        });
        p[done] = own.0[0];
        if P::SPLIT {
            low[done] = own.1[0];
        }
        for (state, new) in state.iter_mut().zip(states) {
            state[done] = new[0];
        }
    }
}

/// The extra work of a step, in numbers that change nothing where there is none.
#[derive(Clone, Copy)]
struct Around {
    shrink: f32,
    scale: f32,
    weight_decay: f32,
    /// What of the bits of the decay is added to the gradient: all or none.
    kept: u32,
    /// What is set of them: of no decay the sign, for to add -0 changes nothing.
    set: u32,
}

impl Around {
    fn of(extras: &Extras) -> Self {
        let none = extras.weight_decay == 0.0;
        Self {
            shrink: f32::nearest(extras.shrink),
            scale: f32::nearest(extras.scale),
            weight_decay: f32::nearest(extras.weight_decay),
            kept: if none { 0 } else { u32::MAX },
            set: if none { 1 << 31 } else { 0 },
        }
    }

    /// The gradient that the rule gets.
    #[inline(always)]
    fn gradient(&self, g: f32, p: f32) -> f32 {
        let decay = (self.weight_decay * p).to_bits();
        self.scale * g + f32::from_bits(decay & self.kept | self.set)
    }
}

/// Whether there is a loop at this level that has all of the extra work.
#[must_use]
pub fn does(level: Level, extras: &Extras) -> bool {
    has_loops(level.width()) && extras.max_value.is_none() && extras.average.is_none()
}

/// Whether there are loops for registers of so many bytes. Those for the oldest x86-64, which is from before
/// 2013, would be a third of the code of all storages.
const fn has_loops(width: usize) -> bool {
    width > 0 || cfg!(not(target_arch = "x86_64"))
}

/// The chunks of the arrays of a step.
struct Chunks<'a, P, G, Q, const N: usize, const S: usize>
where
    P: Storage<N>,
    G: Storage<N>,
    Q: Storage<N>,
{
    p: &'a mut [P::Chunk],
    low: &'a mut [P::Low],
    g: &'a [G::Chunk],
    state: [&'a mut [Q::Chunk]; S],
    places: Places,
}

struct Sweep<'a, R, P, G, Q, const N: usize, const H: usize, const C: usize, const S: usize>
where
    P: Storage<N>,
    G: Storage<N>,
    Q: Storage<N>,
{
    exact: [f64; C],
    around: Around,
    chunks: Chunks<'a, P, G, Q, N, S>,
    noises: (Noise, [Noise; MAX_STATES / 2]),
    rule: PhantomData<R>,
}

impl<R, P, G, Q, const N: usize, const H: usize, const C: usize, const S: usize> Kernel
    for Sweep<'_, R, P, G, Q, N, H, C, S>
where
    R: Rule<H, C, S>,
    P: Storage<N>,
    G: Storage<N>,
    Q: Storage<N>,
{
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        if const { !has_loops(WIDTH) } {
            unreachable!("`does` says so");
        }
        let Self { exact, around, chunks, noises, .. } = self;
        let Chunks { p, low, g, mut state, places } = chunks;
        let rounded = arrays::from_fn(0.0, |i| f32::nearest(exact[i]));
        let n = p.len();
        // Cut to one length, so that the compiler drops the bounds checks of the loop.
        let g = &g[..n];
        for state in &mut state {
            *state = &mut mem::take(state)[..n];
        }
        let low = if P::SPLIT { &mut low[..n] } else { low };
        // Counted on, for a product takes longer than all the rest of a place.
        let steps: [u32; N] =
            arrays::from_fn(0, |j| places.after(j).first.wrapping_sub(places.first));
        let step = places.after(N).first.wrapping_sub(places.first);
        let mut at = places.first;
        for i in 0..n {
            let random = |noise: Noise, shift: usize| -> [u32; N] {
                arrays::from_fn(0, |j| noise.of(at.wrapping_add(steps[j])) << shift)
            };
            let old = P::load(p[i], if P::SPLIT { low[i] } else { P::Low::default() });
            let g = G::load(g[i], G::Low::default());
            let states: [[f32; N]; S] =
                arrays::from_fn([0.0; N], |k| Q::load(state[k][i], Q::Low::default()));
            let (mut new, mut news) = (old, states);
            for j in 0..N {
                let old = old[j] * around.shrink;
                let g = around.gradient(g[j], old);
                let states = arrays::from_fn(0.0, |k| states[k][j]);
                let (p, states) = R::update_exactly(rounded, exact, old, g, states);
                new[j] = p;
                for k in 0..S {
                    news[k][j] = states[k];
                }
            }
            let (bits, rest) = P::store(new, random(noises.0, 0));
            p[i] = bits;
            if P::SPLIT {
                low[i] = rest;
            }
            for k in 0..S {
                state[k][i] = Q::store(news[k], random(noises.1[k / 2], 16 * (k % 2))).0;
            }
            at = at.wrapping_add(step);
        }
    }
}
