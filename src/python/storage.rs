//! How the arrays of a parameter are stored, where it takes fewer bytes than their numbers have.

use super::view::Dtype;
use crate::error::Error;
use crate::rules::MAX_STATES;
use crate::storage::{BLOCK, Code};
use crate::sweep::stored::Combination;
use crate::walk::{FIRST_STATE, GRADIENT, PARAMETER};

/// How a parameter is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Master {
    /// As it is: as float32, or as a bfloat16 that is rounded stochastically.
    None,
    /// As a bfloat16, with its lower halves in an array of their own.
    Split,
    /// With float32 numbers in an array of their own.
    Float32,
}

/// How the arrays of a parameter are stored, and what the noise is that rounds them.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    parameter: Dtype,
    pub(super) master: Master,
    states: Dtype,
    /// How many states there are.
    count: usize,
    /// Of states in 8 bits, which of them have no sign.
    unsigned: [bool; MAX_STATES],
    /// The stream of its parameter's noise; that of a role is as much later as its number says.
    pub(super) stream: u64,
    /// The number of its first element in the array that it may be a part of.
    pub(super) first: u64,
    /// The axes of that array, from the outermost in memory to the innermost: how long they are, and
    /// how far apart the places of their elements. None if the numbers are the places, as in C order.
    order: Vec<(u64, u64)>,
}

/// As Python says it: the dtypes of parameter and states, the master; of each state whether it is never
/// negative; stream, number of the first element, and the order of the axes.
pub(super) type Said = (String, String, Option<String>, Vec<bool>, (u64, u64, Vec<(u64, u64)>));

/// How many arrays there are of a parameter beside itself, its gradient and its states.
///
/// # Errors
/// As [`Storage::of`].
pub(super) fn beside(said: &Said) -> Result<usize, Error> {
    let storage = Storage::of(said)?;
    Ok(usize::from(storage.master != Master::None) + storage.exponents())
}

impl Storage {
    /// The storage that Python asks for.
    ///
    /// # Errors
    /// When there is none like that.
    pub(super) fn of(said: &Said) -> Result<Self, Error> {
        let (parameter, states, master, never_negative, (stream, first, order)) = said;
        let count = never_negative.len();
        let dtype = |name: &str| {
            let known = [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::U16, Dtype::U8];
            known.into_iter().find(|dtype| dtype.name() == name)
        };
        let master = match master.as_deref() {
            None => Some(Master::None),
            Some("split") => Some(Master::Split),
            Some("float32") => Some(Master::Float32),
            _ => None,
        };
        let unknown = || Error::Value(format!("the storage is {said:?}, which does not exist"));
        let (Some(parameter), Some(states), Some(master)) =
            (dtype(parameter), dtype(states), master)
        else {
            return Err(unknown());
        };
        let is_of_blocks = first.is_multiple_of(BLOCK as u64) && order.is_empty();
        if count > MAX_STATES || states == Dtype::U8 && !is_of_blocks {
            return Err(unknown());
        }
        let mut unsigned = [false; MAX_STATES];
        unsigned[..count].copy_from_slice(never_negative);
        let (stream, first, order) = (*stream, *first, order.clone());
        Ok(Self { parameter, master, states, count, unsigned, stream, first, order })
    }

    /// Whether the states have 8 bits.
    pub(super) fn has_codes(&self) -> bool {
        self.states == Dtype::U8
    }

    /// How many arrays of exponents there are.
    pub(super) fn exponents(&self) -> usize {
        if self.has_codes() { self.count } else { 0 }
    }

    /// What the 8 bits of the state of a role are.
    pub(super) fn code(&self, role: usize) -> Code {
        if self.unsigned[role - FIRST_STATE] { Code::Unsigned } else { Code::Signed }
    }

    /// Whether it is of a part of an array whose elements are not in C order.
    pub(super) fn has_order(&self) -> bool {
        self.run_len().is_some()
    }

    /// How many places are the same step apart, of an array that has an order.
    pub(super) fn run_len(&self) -> Option<u64> {
        self.order.last().map(|&(len, _)| len)
    }

    /// Whether all places are below `2**32`, if they are not simply the numbers of the elements.
    pub(super) fn places_are_short(&self) -> bool {
        let count = self.order.iter().try_fold(1_u64, |count, (len, _)| count.checked_mul(*len));
        count.is_some_and(|count| count <= 1 << 32)
    }

    /// The place of the element that comes so many after the first, how far the next ones are apart, and
    /// how many there are of these; of an array that has an order.
    pub(super) fn places_from(&self, start: u64) -> (u64, u64, u64) {
        let (mut place, mut rest) = (0, self.first + start);
        for &(len, step) in self.order.iter().rev() {
            place += step * (rest % len);
            rest /= len;
        }
        let (len, step) = self.order[self.order.len() - 1];
        (place, step, len - (self.first + start) % len)
    }

    /// The role of what is kept in addition to the parameter and its states.
    pub(super) fn beside(&self) -> usize {
        FIRST_STATE + self.count
    }

    /// The role of the average, if one is kept.
    pub(super) fn average(&self) -> usize {
        self.beside() + usize::from(self.master != Master::None)
    }

    /// Whether the parameter is of bfloat16.
    pub(super) fn has_halves(&self) -> bool {
        matches!(self.parameter, Dtype::Bf16 | Dtype::U16)
    }

    /// The dtypes that the array of a role may have.
    pub(super) fn dtypes(&self, role: usize) -> &'static [Dtype] {
        let alone = |dtype| match dtype {
            Dtype::F16 => &[Dtype::F16],
            Dtype::Bf16 => &[Dtype::Bf16],
            Dtype::U16 => &[Dtype::U16],
            Dtype::U8 => &[Dtype::U8],
            _ => &[Dtype::F32][..],
        };
        match role {
            PARAMETER => alone(self.parameter),
            GRADIENT => match self.parameter {
                Dtype::F16 => &[Dtype::F16, Dtype::F32],
                Dtype::Bf16 => &[Dtype::Bf16, Dtype::F32],
                Dtype::U16 => &[Dtype::U16, Dtype::F32],
                _ => &[Dtype::F32],
            },
            _ if role == self.beside() && self.master == Master::Split => &[Dtype::I16],
            _ if role < self.beside() => alone(self.states),
            _ => &[Dtype::F32],
        }
    }

    /// Which loop there is for it with gradients of a dtype, if any.
    pub(super) fn combination(&self, gradient: Dtype) -> Option<Combination> {
        let halves = |dtype| matches!(dtype, Dtype::Bf16 | Dtype::U16);
        if self.has_codes() {
            return None;
        }
        let [parameter, gradient, states] = [self.parameter, gradient, self.states].map(halves);
        Some(match (parameter, self.master, gradient, states) {
            (false, Master::None, false, true) => Combination::States,
            (true, Master::None, true, false) => Combination::Parameters,
            (true, Master::None, true, true) => Combination::Everything,
            (true, Master::Split, true, false) => Combination::SplitParameters,
            (true, Master::Split, true, true) => Combination::SplitEverything,
            (true, Master::None, false, false) => Combination::ParametersAlone,
            _ => return None,
        })
    }
}
