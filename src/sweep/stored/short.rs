//! Arrays that are shorter than a block.

use super::{Arrays, BLOCK, Elements, Gradient, Half, StoredStep};
use crate::extras::Extras;
use crate::isa::Level;
use crate::rules::{Coefficients, MAX_STATES};

/// Does a step over arrays of fewer than [`BLOCK`] elements: they make a block with zeros.
///
/// # Panics
/// When the arrays differ in length, or are too long.
pub fn short_step(
    step: StoredStep,
    level: Level,
    coefficients: &Coefficients,
    extras: &Extras,
    arrays: Arrays<'_>,
) {
    let Arrays { mut p, low, g, mut states, places, noise, states_noise, .. } = arrays;
    let (mut own_p, mut own_g) = (Block::ZEROS, Block::ZEROS);
    let mut own_low = [Half::default(); BLOCK];
    let mut own_states = [const { Block::ZEROS }; MAX_STATES];
    own_low[..low.len()].copy_from_slice(low);
    let mut owns = own_states.iter_mut();
    let own = Arrays {
        p: own_p.filled(&p),
        low: if low.is_empty() { &mut [] } else { &mut own_low },
        g: own_g.filled_with_gradient(g),
        states: states.each_ref().map(|state| match owns.next() {
            Some(own) => own.filled(state),
            None => Elements::Float32(&mut []),
        }),
        after: 0,
        places,
        noise,
        states_noise,
    };
    step(level, coefficients, extras, own);
    own_p.write(&mut p);
    low.copy_from_slice(&own_low[..low.len()]);
    for (own, state) in own_states.iter().zip(&mut states) {
        own.write(state);
    }
}

/// Room for the elements of a block. It stays where it is, for what was just written is slow to move.
struct Block {
    numbers: [f32; BLOCK],
    halves: [Half; BLOCK],
}

impl Block {
    const ZEROS: Self = Self { numbers: [0.0; BLOCK], halves: [[0; 2]; BLOCK] };

    /// The room of the kind of these elements, which are copied to it.
    fn filled(&mut self, elements: &Elements<'_>) -> Elements<'_> {
        match elements {
            Elements::Float32(slice) => {
                self.numbers[..slice.len()].copy_from_slice(slice);
                Elements::Float32(&mut self.numbers)
            }
            Elements::Bfloat16(slice) => {
                self.halves[..slice.len()].copy_from_slice(slice);
                Elements::Bfloat16(&mut self.halves)
            }
        }
    }

    fn filled_with_gradient(&mut self, gradient: Gradient<'_>) -> Gradient<'_> {
        match gradient {
            Gradient::Float32(slice) => {
                self.numbers[..slice.len()].copy_from_slice(slice);
                Gradient::Float32(&self.numbers)
            }
            Gradient::Bfloat16(slice) => {
                self.halves[..slice.len()].copy_from_slice(slice);
                Gradient::Bfloat16(&self.halves)
            }
        }
    }

    /// Copies the first elements to where they came from.
    fn write(&self, to: &mut Elements<'_>) {
        match to {
            Elements::Float32(to) => to.copy_from_slice(&self.numbers[..to.len()]),
            Elements::Bfloat16(to) => to.copy_from_slice(&self.halves[..to.len()]),
        }
    }
}
