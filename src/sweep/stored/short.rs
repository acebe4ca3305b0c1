//! Arrays that are shorter than a block.

use super::{Arrays, BLOCK, Elements, Gradient, Half, StoredStep};
use crate::extras::Extras;
use crate::isa::Level;
use crate::rules::Coefficients;

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
    let Arrays { p, low, g, states, places, noise, states_noise, .. } = arrays;
    let mut own_p = Block::of(&p);
    let mut own_low = block(low);
    let own_g = match g {
        Gradient::Float32(slice) => Block::Float32(block(slice)),
        Gradient::Bfloat16(slice) => Block::Bfloat16(block(slice)),
    };
    let mut own_states = states.each_ref().map(Block::of);
    let own = Arrays {
        p: own_p.elements(),
        low: if low.is_empty() { &mut [] } else { &mut own_low },
        g: match &own_g {
            Block::Float32(block) => Gradient::Float32(block),
            Block::Bfloat16(block) => Gradient::Bfloat16(block),
        },
        states: own_states.each_mut().map(Block::elements),
        after: 0,
        places,
        noise,
        states_noise,
    };
    step(level, coefficients, extras, own);
    own_p.write(p);
    low.copy_from_slice(&own_low[..low.len()]);
    for (own, state) in own_states.iter().zip(states) {
        own.write(state);
    }
}

/// Elements of a block.
enum Block {
    Float32([f32; BLOCK]),
    Bfloat16([Half; BLOCK]),
}

impl Block {
    fn of(elements: &Elements<'_>) -> Self {
        match elements {
            Elements::Float32(slice) => Self::Float32(block(slice)),
            Elements::Bfloat16(slice) => Self::Bfloat16(block(slice)),
        }
    }

    fn elements(&mut self) -> Elements<'_> {
        match self {
            Self::Float32(block) => Elements::Float32(block),
            Self::Bfloat16(block) => Elements::Bfloat16(block),
        }
    }

    /// Writes the first elements to where they came from.
    fn write(&self, to: Elements<'_>) {
        match (self, to) {
            (Self::Float32(block), Elements::Float32(to)) => to.copy_from_slice(&block[..to.len()]),
            (Self::Bfloat16(block), Elements::Bfloat16(to)) => {
                to.copy_from_slice(&block[..to.len()]);
            }
            _ => unreachable!("they are of one kind"),
        }
    }
}

/// The elements of a slice that is shorter, and zeros.
fn block<T: Copy + Default>(slice: &[T]) -> [T; BLOCK] {
    let mut block = [T::default(); BLOCK];
    block[..slice.len()].copy_from_slice(slice);
    block
}
