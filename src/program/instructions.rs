//! The instructions of a program. They work on an accumulator, which holds a block of elements.

use std::fmt;

/// Where a block of elements lies: the array of a role, or a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u8);

/// The slots of arrays; those of buffers come after them.
pub(super) const ARRAYS: usize = crate::walk::MAX_ROLES;

/// The most buffers that there are slots for.
pub(super) const MAX_BUFFERS: usize = 128;

impl Slot {
    pub(super) fn array(role: usize) -> Self {
        assert!(role < ARRAYS);
        Self::at(role)
    }

    pub(super) fn of_buffer(number: usize) -> Self {
        Self::at(ARRAYS + number)
    }

    fn at(index: usize) -> Self {
        // Programs with more buffers are refused before they are run.
        Self(u8::try_from(index).unwrap_or(u8::MAX))
    }

    /// Its number among all slots.
    #[inline(always)]
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The number of the buffer, if it is one.
    pub(super) fn buffer(self) -> Option<usize> {
        self.index().checked_sub(ARRAYS)
    }
}

/// Operations on one block. True is 1, false is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unary {
    Sqrt,
    Abs,
    Negate,
    Sign,
    Not,
}

/// Operations on two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Maximum,
    Minimum,
    CopySign,
    Less,
    LessEqual,
    Equal,
    NotEqual,
    And,
    Or,
    Xor,
}

/// One instruction; what is computed stays in the accumulator, which is the first operand unless it says
/// `From`, `Into` or reversed. Numbers are places among those of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    Load(Slot),
    LoadNumber(usize),
    Store(Slot),
    /// A number times what lies in a slot.
    Scaled(usize, Slot),
    Squared(Slot),
    Square,
    Unary(Unary),
    Add(Slot),
    Sub(Slot),
    SubFrom(Slot),
    Mul(Slot),
    Div(Slot),
    DivInto(Slot),
    AddNumber(usize),
    SubNumber(usize),
    SubFromNumber(usize),
    MulNumber(usize),
    /// By one of the divisors.
    DivNumber(usize),
    DivIntoNumber(usize),
    /// And a product of a number and what lies in a slot.
    AddScaled(usize, Slot),
    SubScaled(usize, Slot),
    SubFromScaled(usize, Slot),
    Binary(Binary, Slot, bool),
    BinaryNumber(Binary, usize, bool),
    /// What lies in the first slot where the accumulator is true, else the second.
    Where(Slot, Slot),
    /// Two in one: [`Instruction::Scaled`] and [`Instruction::AddScaled`].
    ScaledSum(usize, Slot, usize, Slot),
    /// [`Instruction::MulNumber`] and [`Instruction::AddScaled`].
    MulAddScaled(usize, usize, Slot),
    /// The square root, and [`Instruction::AddNumber`].
    SqrtAdd(usize),
}

/// An instruction, and where its result is to be stored, if it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) instruction: Instruction,
    pub(super) store: Option<Slot>,
}

impl Line {
    /// The lines of instructions: of two that often follow each other, one is made, for it takes time to
    /// see what the next one is.
    pub(super) fn all(instructions: &[Instruction]) -> Vec<Self> {
        let mut lines: Vec<Self> = Vec::with_capacity(instructions.len());
        for &next in instructions {
            if let Some(last) = lines.last_mut().filter(|last| last.store.is_none()) {
                if let Instruction::Store(slot) = next {
                    last.store = Some(slot);
                    continue;
                }
                if let Some(both) = last.instruction.and(next) {
                    last.instruction = both;
                    continue;
                }
            }
            lines.push(Self { instruction: next, store: None });
        }
        lines
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

impl Instruction {
    /// This and the next in one, if there is such an instruction.
    fn and(self, next: Self) -> Option<Self> {
        Some(match (self, next) {
            (Self::Scaled(n, x), Self::AddScaled(m, y)) => Self::ScaledSum(n, x, m, y),
            (Self::MulNumber(n), Self::AddScaled(m, y)) => Self::MulAddScaled(n, m, y),
            (Self::Unary(Unary::Sqrt), Self::AddNumber(n)) => Self::SqrtAdd(n),
            _ => return None,
        })
    }

    /// As text, with `x` for the accumulator, `@` before slots and `#` before what `number` makes of a
    /// number, and `divisor` of a divisor.
    pub(super) fn text(
        self,
        number: impl Fn(usize) -> usize,
        divisor: impl Fn(usize) -> usize,
    ) -> String {
        let n = |place: usize| format!("#{}", number(place));
        match self {
            Self::Load(slot) => format!("x = {slot}"),
            Self::LoadNumber(place) => format!("x = {}", n(place)),
            Self::Store(slot) => format!("{slot} = x"),
            Self::Scaled(place, slot) => format!("x = {}*{slot}", n(place)),
            Self::Squared(slot) => format!("x = {slot}*{slot}"),
            Self::Square => "x = x*x".to_owned(),
            Self::Unary(operation) => format!("x = {operation:?}(x)").to_lowercase(),
            Self::Add(slot) => format!("x = x + {slot}"),
            Self::Sub(slot) => format!("x = x - {slot}"),
            Self::SubFrom(slot) => format!("x = {slot} - x"),
            Self::Mul(slot) => format!("x = x*{slot}"),
            Self::Div(slot) => format!("x = x/{slot}"),
            Self::DivInto(slot) => format!("x = {slot}/x"),
            Self::AddNumber(place) => format!("x = x + {}", n(place)),
            Self::SubNumber(place) => format!("x = x - {}", n(place)),
            Self::SubFromNumber(place) => format!("x = {} - x", n(place)),
            Self::MulNumber(place) => format!("x = x*{}", n(place)),
            Self::DivNumber(place) => format!("x = x/#{}", divisor(place)),
            Self::DivIntoNumber(place) => format!("x = {}/x", n(place)),
            Self::AddScaled(place, slot) => format!("x = x + {}*{slot}", n(place)),
            Self::SubScaled(place, slot) => format!("x = x - {}*{slot}", n(place)),
            Self::SubFromScaled(place, slot) => format!("x = {}*{slot} - x", n(place)),
            Self::Binary(operation, slot, reversed) => {
                Self::call(operation, &slot.to_string(), reversed)
            }
            Self::BinaryNumber(operation, place, reversed) => {
                Self::call(operation, &n(place), reversed)
            }
            Self::Where(first, second) => format!("x = where(x, {first}, {second})"),
            Self::ScaledSum(place, x, other, y) => {
                format!("x = {}*{x} + {}*{y}", n(place), n(other))
            }
            Self::MulAddScaled(place, other, y) => {
                format!("x = x*{} + {}*{y}", n(place), n(other))
            }
            Self::SqrtAdd(place) => format!("x = sqrt(x) + {}", n(place)),
        }
    }

    fn call(operation: Binary, other: &str, reversed: bool) -> String {
        let name = format!("{operation:?}").to_lowercase();
        if reversed { format!("x = {name}({other}, x)") } else { format!("x = {name}(x, {other})") }
    }

    pub(super) fn binary(operation: Binary, slot: Slot, reversed: bool) -> Self {
        match (operation, reversed) {
            (Binary::Add, _) => Self::Add(slot),
            (Binary::Sub, false) => Self::Sub(slot),
            (Binary::Sub, true) => Self::SubFrom(slot),
            (Binary::Mul, _) => Self::Mul(slot),
            (Binary::Div, false) => Self::Div(slot),
            (Binary::Div, true) => Self::DivInto(slot),
            _ => Self::Binary(operation, slot, reversed),
        }
    }

    pub(super) fn with_number(operation: Binary, number: usize, reversed: bool) -> Self {
        match (operation, reversed) {
            (Binary::Add, _) => Self::AddNumber(number),
            (Binary::Sub, false) => Self::SubNumber(number),
            (Binary::Sub, true) => Self::SubFromNumber(number),
            (Binary::Mul, _) => Self::MulNumber(number),
            (Binary::Div, true) => Self::DivIntoNumber(number),
            _ => Self::BinaryNumber(operation, number, reversed),
        }
    }

    /// Of an addition or subtraction, with a product.
    pub(super) fn scaled(operation: Binary, number: usize, slot: Slot, reversed: bool) -> Self {
        match (operation, reversed) {
            (Binary::Sub, false) => Self::SubScaled(number, slot),
            (Binary::Sub, true) => Self::SubFromScaled(number, slot),
            _ => Self::AddScaled(number, slot),
        }
    }
}
