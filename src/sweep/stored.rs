//! The element loop over arrays that are stored in fewer bytes: load, rule, store, with the extra work
//! of a step in it, for what goes into 16 bits is rounded only once.
//!
//! It goes on by blocks, and meanwhile asks the cache for what comes some blocks later. Arithmetic takes
//! about as long as memory here, so neither must wait for the other.

use std::array;
use std::marker::PhantomData;

use super::spread;
use crate::element::Element;
use crate::extras::Extras;
use crate::isa::{self, Kernel, Level};
#[cfg(not(target_arch = "x86_64"))]
use crate::registers::Portable;
use crate::registers::{Register, Registers, WordInstructions, Words};
use crate::rules::{Coefficients, MAX_STATES, Rule};
use crate::storage::{self, Noise, Places, Starts};
use crate::word::Word;

/// An element of a bfloat16 array, as it is in memory.
pub use crate::registers::Half;

/// The elements of the longest block.
const BLOCK: usize = 32;

/// The most elements of a register.
const MOST: usize = 16;

/// How many elements ahead of the loop the cache is asked for, if there are at least [`LONG`].
const AHEAD: usize = 1024;
const LONG: usize = 4 * AHEAD;

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
        step::<R, Plain, Plain, Noisy, H, C, S>,
        step::<R, Noisy, Noisy, Plain, H, C, S>,
        step::<R, Noisy, Noisy, Noisy, H, C, S>,
        step::<R, Split, Noisy, Plain, H, C, S>,
        step::<R, Split, Noisy, Noisy, H, C, S>,
        step::<R, Noisy, Plain, Plain, H, C, S>,
    ]
}

/// How the elements of an array lie in memory.
trait Format {
    /// An element as it is in memory.
    type Bits: Copy + Default;
    const SPLIT: bool = false;

    fn slice(elements: Elements<'_>) -> Option<&mut [Self::Bits]>;
    fn gradient(elements: Gradient<'_>) -> Option<&[Self::Bits]>;

    /// The numbers of the first elements of slices; of the lower halves only if there are.
    fn load<V: WordInstructions>(bits: &[Self::Bits], low: &[Half]) -> Register<V>;
    /// Stores them there, rounded by the noise if they are.
    fn store<V: WordInstructions>(
        numbers: Register<V>,
        noise: Words<V>,
        bits: &mut [Self::Bits],
        low: &mut [Half],
    );
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

    #[inline(always)]
    fn load<V: WordInstructions>(numbers: &[f32], _: &[Half]) -> Register<V> {
        Register::load(numbers)
    }

    #[inline(always)]
    fn store<V: WordInstructions>(
        numbers: Register<V>,
        _: Words<V>,
        bits: &mut [f32],
        _: &mut [Half],
    ) {
        numbers.store(bits);
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

    #[inline(always)]
    fn load<V: WordInstructions>(bits: &[Half], _: &[Half]) -> Register<V> {
        Words::load_upper(bits).numbers()
    }

    #[inline(always)]
    fn store<V: WordInstructions>(
        numbers: Register<V>,
        noise: Words<V>,
        bits: &mut [Half],
        _: &mut [Half],
    ) {
        storage::round_by(Words::of_numbers(numbers), noise).store_upper(bits);
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

    #[inline(always)]
    fn load<V: WordInstructions>(bits: &[Half], low: &[Half]) -> Register<V> {
        Words::load_upper(bits).plus(Words::load_signed(low)).numbers()
    }

    #[inline(always)]
    fn store<V: WordInstructions>(
        numbers: Register<V>,
        _: Words<V>,
        bits: &mut [Half],
        low: &mut [Half],
    ) {
        let words = Words::of_numbers(numbers);
        storage::round_up(words).store_upper(bits);
        words.store_lower(low);
    }
}

/// # Panics
/// When the arrays are not as `P`, `G` and `Q` have them, or differ in length.
fn step<R, P, G, Q, const H: usize, const C: usize, const S: usize>(
    level: Level,
    coefficients: &Coefficients,
    extras: &Extras,
    arrays: Arrays<'_>,
) where
    R: Rule<H, C, S>,
    P: Format,
    G: Format,
    Q: Format,
{
    let Arrays { p, low, g, states, places, noise, states_noise } = arrays;
    let (p, g) = P::slice(p).zip(G::gradient(g)).expect("the combination's own formats");
    let mut states = states.into_iter().map_while(Q::slice);
    let mut state: [_; S] = array::from_fn(|_| states.next().expect("one for each state"));
    let exact = array::from_fn(|i| coefficients[i]);
    let around = Around::of(extras);
    let noises = (noise, states_noise);
    let sweep = |p: &mut [P::Bits],
                 low: &mut [Half],
                 g: &[G::Bits],
                 state: [&mut [Q::Bits]; S],
                 places: Places| {
        let rule = PhantomData::<(R, P, G, Q)>;
        let sweep = Sweep { exact, around, p, low, g, state, places, noises, rule };
        isa::run(level, (PhantomData::<[(); H]>, sweep));
    };
    let whole = p.len() - p.len() % BLOCK;
    if whole > 0 {
        let low = low.get_mut(..whole).unwrap_or_default();
        let state = state.each_mut().map(|state| &mut state[..whole]);
        sweep(&mut p[..whole], low, &g[..whole], state, places);
    }
    if whole < p.len() {
        // What is left makes a block with zeros.
        let (p, g) = (&mut p[whole..], &g[whole..]);
        let low = low.get_mut(whole..).unwrap_or_default();
        let (mut own_p, mut own_low, own_g) = (block(p), block(low), block(g));
        let mut own: [_; S] = array::from_fn(|k| block(&state[k][whole..]));
        let places = places.after(whole);
        sweep(&mut own_p, &mut own_low, &own_g, own.each_mut().map(|block| &mut block[..]), places);
        p.copy_from_slice(&own_p[..p.len()]);
        low.copy_from_slice(&own_low[..low.len()]);
        for (state, own) in state.iter_mut().zip(own) {
            let state = &mut state[whole..];
            state.copy_from_slice(&own[..state.len()]);
        }
    }
}

/// The elements of a slice that is shorter, and zeros.
fn block<T: Copy + Default>(slice: &[T]) -> [T; BLOCK] {
    let mut block = [T::default(); BLOCK];
    block[..slice.len()].copy_from_slice(slice);
    block
}

/// The extra work of a step.
#[derive(Clone, Copy)]
struct Around {
    scale: f32,
    shrink: f32,
    weight_decay: f32,
    /// Whether there is a decay.
    decays: bool,
}

impl Around {
    fn of(extras: &Extras) -> Self {
        Self {
            scale: f32::nearest(extras.scale),
            shrink: f32::nearest(extras.shrink),
            weight_decay: f32::nearest(extras.weight_decay),
            decays: extras.shrink.to_bits() != 1.0_f64.to_bits() || extras.weight_decay != 0.0,
        }
    }

    /// The parameter and the gradient that the rule gets. The latter is always multiplied, which makes a
    /// NaN quiet.
    #[inline(always)]
    fn prepare<V: WordInstructions>(
        &self,
        p: Register<V>,
        g: Register<V>,
    ) -> (Register<V>, Register<V>) {
        let g = Register::of(self.scale) * g;
        if !self.decays {
            return (p, g);
        }
        let p = Register::of(self.shrink) * p;
        if self.weight_decay == 0.0 {
            return (p, g);
        }
        (p, g + Register::of(self.weight_decay) * p)
    }
}

/// Whether there is a loop at this level that has all of the extra work.
#[must_use]
pub fn does(level: Level, extras: &Extras) -> bool {
    has_loops(level) && extras.max_value.is_none() && extras.average.is_none()
}

/// Whether there are loops. Those for the oldest x86-64, which is from before 2013, would be a third of the
/// code of all storages.
fn has_loops(level: Level) -> bool {
    level.width() > 0 || cfg!(not(target_arch = "x86_64"))
}

struct Sweep<'a, R, P: Format, G: Format, Q: Format, const C: usize, const S: usize> {
    exact: [f64; C],
    around: Around,
    p: &'a mut [P::Bits],
    low: &'a mut [Half],
    g: &'a [G::Bits],
    state: [&'a mut [Q::Bits]; S],
    places: Places,
    noises: (Noise, [Noise; MAX_STATES / 2]),
    rule: PhantomData<(R, P, G, Q)>,
}

impl<R, P, G, Q, const H: usize, const C: usize, const S: usize> Kernel
    for (PhantomData<[(); H]>, Sweep<'_, R, P, G, Q, C, S>)
where
    R: Rule<H, C, S>,
    P: Format,
    G: Format,
    Q: Format,
{
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        match WIDTH {
            #[cfg(target_arch = "x86_64")]
            32 => self.1.blocks::<<f32 as Registers>::Of32, 16, H>(),
            #[cfg(target_arch = "x86_64")]
            64 => self.1.blocks::<<f32 as Registers>::Of64, 32, H>(),
            #[cfg(target_arch = "x86_64")]
            _ => unreachable!("`does` says so"),
            #[cfg(not(target_arch = "x86_64"))]
            _ => self.1.blocks::<Portable<f32>, 8, H>(),
        }
    }
}

impl<R, P, G, Q, const C: usize, const S: usize> Sweep<'_, R, P, G, Q, C, S>
where
    P: Format,
    G: Format,
    Q: Format,
{
    /// `B` elements at a time, in a few registers.
    #[inline(always)]
    fn blocks<V: WordInstructions, const B: usize, const H: usize>(self)
    where
        R: Rule<H, C, S>,
    {
        let Self { exact, around, p, low, g, state, places, noises, .. } = self;
        let rounded = exact.map(f32::nearest);
        let coefficients = spread(&rounded, Register::<V>::of);
        let ahead = if p.len() < LONG { 0 } else { AHEAD };
        let mut starts = Starts::<B>::new(noises.0, places);
        let mut states_starts = noises.1.map(|noise| Starts::<B>::new(noise, places));
        let (p, g) = (p.as_chunks_mut::<B>().0, g.as_chunks::<B>().0);
        let n = p.len();
        // Cut to one length, so that the compiler drops the bounds checks of the loop.
        let (g, mut state) = (&g[..n], state.map(|s| &mut s.as_chunks_mut::<B>().0[..n]));
        let mut low = low.as_chunks_mut::<B>().0;
        if P::SPLIT {
            low = &mut low[..n];
        }
        for i in 0..n {
            fetch(&p[i], ahead);
            fetch(&g[i], ahead);
            if P::SPLIT {
                fetch(&low[i], ahead);
            }
            for k in 0..S {
                fetch(&state[k][i], ahead);
            }
            let more = starts.next();
            let mut states_more = [0; MAX_STATES / 2];
            for k in 0..S.div_ceil(2) {
                states_more[k] = states_starts[k].next();
            }
            for at in (0..B).step_by(V::N) {
                let p = &mut p[i][at..];
                let low = if P::SPLIT { &mut low[i][at..] } else { &mut [][..] };
                let (old, g) = around.prepare(P::load(p, low), G::load(&g[i][at..], &[]));
                let mut olds = [old; S];
                for k in 0..S {
                    olds[k] = Q::load(&state[k][i][at..], &[]);
                }
                let (new, news) = if R::WIDE {
                    wide::<R, V, H, C, S>(rounded, exact, old, g, olds)
                } else {
                    R::update(coefficients, old, g, olds)
                };
                P::store(new, noise(&starts, more, at), p, low);
                for k in 0..S {
                    let noise = noise(&states_starts[k / 2], states_more[k / 2], at);
                    // Every second state has the lower halves of those of the one before.
                    let noise = if k % 2 == 0 { noise } else { noise.left_16() };
                    Q::store(news[k], noise, &mut state[k][i][at..], &mut []);
                }
            }
        }
    }
}

/// Asks the cache for as many elements as these, so many elements further.
#[inline(always)]
fn fetch<T, const B: usize>(elements: &[T; B], ahead: usize) {
    let address = elements.as_ptr().wrapping_add(ahead).cast::<u8>();
    for line in 0..size_of_val(elements).div_ceil(isa::CACHE_LINE) {
        isa::prefetch_at(address.wrapping_add(line * isa::CACHE_LINE));
    }
}

/// The random numbers of the elements from `at` on in a block.
#[inline(always)]
fn noise<V: WordInstructions, const B: usize>(starts: &Starts<B>, more: u32, at: usize) -> Words<V> {
    let products = Words::load(&starts.products()[at..]);
    starts.noise().finish(products.plus(Words::of(more)))
}

/// A rule's update of the elements of registers, one by one.
#[inline(always)]
fn wide<R: Rule<H, C, S>, V: WordInstructions, const H: usize, const C: usize, const S: usize>(
    rounded: [f32; C],
    exact: [f64; C],
    p: Register<V>,
    g: Register<V>,
    state: [Register<V>; S],
) -> (Register<V>, [Register<V>; S]) {
    let (mut p, g) = (elements(p), elements(g));
    let mut state = state.map(elements);
    for i in 0..V::N {
        let old = array::from_fn(|k| state[k][i]);
        let (new, news) = R::update_exactly(rounded, exact, p[i], g[i], old);
        p[i] = new;
        for k in 0..S {
            state[k][i] = news[k];
        }
    }
    (Register::load(&p), array::from_fn(|k| Register::load(&state[k])))
}

#[inline(always)]
fn elements<V: WordInstructions>(register: Register<V>) -> [f32; MOST] {
    let mut elements = [0.0; MOST];
    register.store(&mut elements);
    elements
}
