//! The element loop over arrays that are stored in fewer bytes: load, rule, store, with the extra work
//! of a step in it, for what goes into 16 bits is rounded only once.
//!
//! It goes on by blocks, and meanwhile asks the cache for what comes some blocks later. Arithmetic takes
//! about as long as memory here, so neither must wait for the other.

mod format;
pub mod short;

use std::array;
use std::marker::PhantomData;

use crate::arrays;
use crate::element::Element;
use crate::extras::Extras;
use crate::isa::{self, Kernel, Level};
#[cfg(not(target_arch = "x86_64"))]
use crate::registers::Portable;
#[cfg(target_arch = "x86_64")]
use crate::registers::Registers;
use crate::registers::{Register, WordInstructions, Words};
use crate::rules::{Coefficients, MAX_STATES, Rule};
use crate::storage::{Noise, Places, Starts};
use crate::word::Word;
use format::{Format, Noisy, Plain, Split};

/// An element of a bfloat16 array, as it is in memory.
pub use crate::registers::Half;
pub use format::{Elements, Gradient};

/// What the number of a step's elements has to be a multiple of: those of two registers.
pub const BLOCK: usize = 32;

/// The most elements of a register.
const MOST: usize = 16;

/// How many elements ahead of the loop the cache is asked for.
const AHEAD: usize = 1024;

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
    /// How many elements come after these in memory, which other steps do.
    pub after: usize,
    /// Where the elements are.
    pub places: Places,
    /// The noise of the parameter.
    pub noise: Noise,
    /// The noise of every second state, which the next one shares.
    pub states_noise: [Noise; MAX_STATES / 2],
}

/// One step over such arrays, of a multiple of [`BLOCK`] elements; of the extra work scaling and weight
/// decay.
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
        step::<R, Plain, Plain, Noisy, false, H, C, S>,
        step::<R, Noisy, Noisy, Plain, false, H, C, S>,
        step::<R, Noisy, Noisy, Noisy, true, H, C, S>,
        step::<R, Split, Noisy, Plain, false, H, C, S>,
        step::<R, Split, Noisy, Noisy, false, H, C, S>,
        step::<R, Noisy, Plain, Plain, false, H, C, S>,
    ]
}

/// # Panics
/// When the arrays are not as `P`, `G` and `Q` have them, or shorter than the parameter, or when that is not
/// of whole blocks.
fn step<R, P, G, Q, const PAIRS: bool, const H: usize, const C: usize, const S: usize>(
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
    let Arrays { p, low, g, states, after, places, noise, states_noise } = arrays;
    let (p, g) = P::slice(p).zip(G::gradient(g)).expect("the combination's own formats");
    assert!(p.len().is_multiple_of(BLOCK), "whole blocks");
    let state = slices::<Q, S>(states);
    let exact = arrays::from_fn(0.0, |i| coefficients[i]);
    let around = Around::of(extras);
    let noises = (noise, states_noise);
    let rule = PhantomData;
    let sweep = Sweep::<R, P, G, Q, PAIRS, H, C, S> {
        exact,
        around,
        p,
        low,
        g,
        state,
        after,
        places,
        noises,
        rule,
    };
    isa::run(level, sweep);
}

/// The states as they are in memory. The same for all rules, so it is compiled by itself.
fn slices<Q: Format, const S: usize>(states: [Elements<'_>; MAX_STATES]) -> [&mut [Q::Bits]; S] {
    let mut states = states.into_iter().map_while(Q::slice);
    array::from_fn(|_| states.next().expect("one for each state"))
}

/// The extra work of a step.
#[derive(Clone, Copy)]
struct Around {
    scale: f32,
    shrink: f32,
    weight_decay: f32,
    /// Whether there is a decay.
    decays: bool,
    /// Whether some of the parameter is added to the gradient, be it so little that it rounds to 0.
    adds: bool,
}

impl Around {
    fn of(extras: &Extras) -> Self {
        Self {
            scale: f32::nearest(extras.scale),
            shrink: f32::nearest(extras.shrink),
            weight_decay: f32::nearest(extras.weight_decay),
            decays: extras.shrink.to_bits() != 1.0_f64.to_bits() || extras.weight_decay != 0.0,
            adds: extras.weight_decay != 0.0,
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
        if !self.adds {
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

struct Sweep<
    'a,
    R,
    P: Format,
    G: Format,
    Q: Format,
    const PAIRS: bool,
    const H: usize,
    const C: usize,
    const S: usize,
> {
    exact: [f64; C],
    around: Around,
    p: &'a mut [P::Bits],
    low: &'a mut [Half],
    g: &'a [G::Bits],
    state: [&'a mut [Q::Bits]; S],
    after: usize,
    places: Places,
    noises: (Noise, [Noise; MAX_STATES / 2]),
    rule: PhantomData<(R, P, G, Q, [(); H])>,
}

impl<R, P, G, Q, const PAIRS: bool, const H: usize, const C: usize, const S: usize> Kernel
    for Sweep<'_, R, P, G, Q, PAIRS, H, C, S>
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
            32 => self.blocks::<<f32 as Registers>::Of32, 16>(),
            #[cfg(target_arch = "x86_64")]
            64 => self.blocks::<<f32 as Registers>::Of64, 32>(),
            #[cfg(target_arch = "x86_64")]
            _ => unreachable!("`does` says so"),
            #[cfg(not(target_arch = "x86_64"))]
            _ => self.blocks::<Portable<f32>, 8>(),
        }
    }
}

impl<R, P, G, Q, const PAIRS: bool, const H: usize, const C: usize, const S: usize>
    Sweep<'_, R, P, G, Q, PAIRS, H, C, S>
where
    R: Rule<H, C, S>,
    P: Format,
    G: Format,
    Q: Format,
{
    /// Two registers, which have `B` elements, at a time.
    #[inline(always)]
    fn blocks<V: WordInstructions, const B: usize>(self) {
        let Self { exact, around, p, low, g, mut state, after, mut places, noises, .. } = self;
        let rounded = arrays::from_fn(0.0, |i| f32::nearest(exact[i]));
        let coefficients =
            arrays::from_fn(Register::<V>::of(0.0), |i| Register::<V>::of(rounded[i]));
        let all = p.len() + after;
        let mut own = Starts::<B, PAIRS>::new(noises.0);
        let [first, second] = noises.1;
        let mut others = [Starts::<B, PAIRS>::new(first), Starts::<B, PAIRS>::new(second)];
        let (p, g) = (p.as_chunks_mut::<B>().0, g.as_chunks::<B>().0);
        let n = p.len();
        // Cut to one length, so that the compiler drops the bounds checks of the loop.
        let g = &g[..n];
        let mut states: [&mut [[Q::Bits; B]]; MAX_STATES] = [&mut [], &mut [], &mut [], &mut []];
        for (k, state) in state.iter_mut().enumerate() {
            states[k] = &mut state.as_chunks_mut::<B>().0[..n];
        }
        let mut low = low.as_chunks_mut::<B>().0;
        if P::SPLIT {
            low = &mut low[..n];
        }
        for i in 0..n {
            // Not what lies behind the arrays: to look for memory that is not there takes long.
            let ahead = if i * B + AHEAD < all { AHEAD } else { 0 };
            fetch(&p[i], ahead);
            fetch(&g[i], ahead);
            if P::SPLIT {
                fetch(&low[i], ahead);
            }
            for state in &states[..S] {
                fetch(&state[i], ahead);
            }
            let (p, low) = (&mut p[i][..], if P::SPLIT { &mut low[i][..] } else { &mut [] });
            let (old, g) = (P::load::<V, PAIRS>(p, low), G::load::<V, PAIRS>(&g[i], &[]));
            let mut new = old;
            let mut olds = [old; S];
            for k in 0..S {
                olds[k] = Q::load::<V, PAIRS>(&states[k][i], &[]);
            }
            for half in 0..2 {
                let (old, g) = around.prepare(old[half], g[half]);
                let mut news = arrays::from_fn(old, |k| olds[k][half]);
                (new[half], news) = if R::WIDE {
                    wide::<R, V, H, C, S>(rounded, exact, old, g, news)
                } else {
                    R::update(coefficients, old, g, news)
                };
                for k in 0..S {
                    olds[k][half] = news[k];
                }
            }
            P::store::<V, PAIRS>(new, random(&mut own, places), p, low);
            let mut shared = [Words::of(0); 2];
            for k in 0..S {
                // Every second state has the lower halves of the noise of the one before.
                shared = if k % 2 == 0 {
                    random(&mut others[k / 2], places)
                } else {
                    [shared[0].left_16(), shared[1].left_16()]
                };
                Q::store::<V, PAIRS>(olds[k], shared, &mut states[k][i], &mut []);
            }
            places = places.after(B);
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

/// The random numbers of the next block.
#[inline(always)]
fn random<V: WordInstructions, const B: usize, const PAIRS: bool>(
    starts: &mut Starts<B, PAIRS>,
    places: Places,
) -> [Words<V>; 2] {
    let (more, noise) = (Words::of(starts.go_to(places)), starts.noise());
    let (first, second) = starts.products().split_at(V::N);
    let (first, second) = (Words::load(first).plus(more), Words::load(second).plus(more));
    [noise.finish(first), noise.finish(second)]
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
    let mut state: [_; S] = arrays::from_fn([0.0; MOST], |k| elements(state[k]));
    for i in 0..V::N {
        let old = arrays::from_fn(0.0, |k| state[k][i]);
        let (new, news) = R::update_exactly(rounded, exact, p[i], g[i], old);
        p[i] = new;
        for k in 0..S {
            state[k][i] = news[k];
        }
    }
    let p = Register::load(&p);
    (p, arrays::from_fn(p, |k| Register::load(&state[k])))
}

#[inline(always)]
fn elements<V: WordInstructions>(register: Register<V>) -> [f32; MOST] {
    let mut elements = [0.0; MOST];
    register.store(&mut elements);
    elements
}
