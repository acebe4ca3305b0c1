//! Extra work on the elements, before and after the rule, while they are in the first-level cache.
//!
//! In this order, where `g` is the given gradient and `p` the parameter:
//!
//! | what | arithmetic |
//! |---|---|
//! | decoupled weight decay | `p = p*shrink` |
//! | scale, sign | `g' = scale*g` |
//! | clipping by value | `g' = clip(g', -max_value, max_value)` |
//! | weight decay | `g' = g' + weight_decay*p` |
//! | the rule | `p, state = rule(p, g', state)` |
//! | average | `a = average*a + (1-average)*p` |

use crate::element::Element;
use crate::isa::{self, Kernel, Level};

/// The extra work of a step. [`Extras::NONE`] changes no bit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extras {
    /// The factor of the gradient: a loss scale, a clipping factor, -1 to maximize.
    pub scale: f64,
    /// The largest absolute value of an element of the gradient.
    pub max_value: Option<f64>,
    /// How much of the parameter is added to the gradient; 0 for nothing.
    pub weight_decay: f64,
    /// The factor of the parameter before the rule; 1 for nothing.
    pub shrink: f64,
    /// The decay of the parameters' moving average, where one is kept.
    pub average: Option<f64>,
}

impl Extras {
    /// No extra work.
    pub const NONE: Self =
        Self { scale: 1.0, max_value: None, weight_decay: 0.0, shrink: 1.0, average: None };

    /// How many elements to take at a time: what is read for them should stay in the cache.
    pub const TILE: usize = 512;

    /// Whether there is none: asked of every array, so without a comparison of floats.
    #[must_use]
    #[inline]
    pub fn are_none(&self) -> bool {
        const ONE: u64 = 1.0_f64.to_bits();
        let changes = [
            self.scale.to_bits() ^ ONE,
            self.shrink.to_bits() ^ ONE,
            self.weight_decay.to_bits() << 1,
        ];
        changes == [0; 3] && self.max_value.is_none() && self.average.is_none()
    }

    /// A step over slices of the same length: what the rule does to them, with the extra work around it.
    ///
    /// `scratch` has the same length, and so has `average` if an average is kept.
    #[expect(clippy::too_many_arguments, reason = "a step's own, and what the extra work reads")]
    pub fn step<F: Element>(
        &self,
        step: Step<'_, F>,
        level: Level,
        p: &mut [F],
        g: &[F],
        state: &mut [&mut [F]],
        average: Option<&mut [F]>,
        scratch: &mut [F],
    ) {
        // What is read first in the next tile comes in while this one is worked on.
        isa::prefetch(p, p.len(), p.len());
        isa::prefetch(g, p.len(), p.len());
        if self.shrink.to_bits() != 1.0_f64.to_bits() {
            isa::run(level, Shrink { by: self.shrink, p });
        }
        let gradient = if (Self { average: None, shrink: 1.0, ..*self }).are_none() {
            g
        } else {
            isa::run(level, Prepare { extras: self, p, g, out: scratch });
            &*scratch
        };
        if let Some(average) = &average {
            // It is only read after the whole tile has gone through the rule, so there is time to fetch it.
            isa::prefetch(average, 0, average.len());
        }
        step(p, gradient, state);
        if let (Some(decay), Some(average)) = (self.average, average) {
            isa::run(level, Average { decay, p, a: average });
        }
    }
}

/// What a rule does to parameter, gradient and states.
pub type Step<'a, F> = &'a dyn Fn(&mut [F], &[F], &mut [&mut [F]]);

struct Shrink<'a, F> {
    by: f64,
    p: &'a mut [F],
}

impl<F: Element> Kernel for Shrink<'_, F> {
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        let by = F::nearest(self.by);
        for p in self.p {
            *p = *p * by;
        }
    }
}

struct Prepare<'a, F> {
    extras: &'a Extras,
    p: &'a [F],
    g: &'a [F],
    out: &'a mut [F],
}

impl<F: Element> Kernel for Prepare<'_, F> {
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        let Self { extras, p, g, out } = self;
        let n = p.len();
        let (g, out) = (&g[..n], &mut out[..n]);
        let scale = F::nearest(extras.scale);
        for i in 0..n {
            out[i] = scale * g[i];
        }
        if let Some(most) = extras.max_value {
            let (least, most) = (F::nearest(-most), F::nearest(most));
            for x in out.iter_mut() {
                // As `np.clip`: NaN stays.
                let clipped = if *x > most { most } else { *x };
                *x = if clipped < least { least } else { clipped };
            }
        }
        if extras.weight_decay != 0.0 {
            let weight_decay = F::nearest(extras.weight_decay);
            for i in 0..n {
                out[i] = out[i] + weight_decay * p[i];
            }
        }
    }
}

struct Average<'a, F> {
    decay: f64,
    p: &'a [F],
    a: &'a mut [F],
}

impl<F: Element> Kernel for Average<'_, F> {
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        let Self { decay, p, a } = self;
        let (decay, rest) = (F::nearest(decay), F::nearest(1.0 - decay));
        let n = p.len();
        let a = &mut a[..n];
        for i in 0..n {
            a[i] = decay * a[i] + rest * p[i];
        }
    }
}
