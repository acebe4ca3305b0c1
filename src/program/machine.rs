//! The loop that runs a program: block by block, with the accumulator in registers.

use std::array;

use super::assemble::Code;
use super::instructions::{ARRAYS, Binary, Instruction, Line, Slot, Unary};
use crate::division::{self, Reciprocal};
use crate::element::{Element, Float};
use crate::environment;
use crate::isa::{self, Kernel, Level};
use crate::registers::{Instructions, Portable, Register, Registers};
use crate::rules::MAX_STATES;
use crate::walk::FIRST_STATE;

/// The registers of the accumulator.
const COUNT: usize = 8;

/// As many elements as the widest registers hold.
const WIDEST: usize = 16;

/// In bytes, of buffers: that of the widest registers.
const ALIGNMENT: usize = 64;

/// Runs a program over slices of one length.
///
/// # Panics
/// When the slices differ in length, or are not as many as the program's states.
pub(super) fn run<F: Registers>(
    level: Level,
    code: &Code,
    numbers: &[f64],
    p: &mut [F],
    g: &[F],
    states: &mut [&mut [F]],
) {
    let quick = level.width() > 0 && environment::has_default_floats();
    let numbers: Vec<_> = numbers.iter().map(|&number| F::nearest(number)).collect();
    let divisors: Vec<_> =
        code.divisors.iter().map(|&n| Divisor::of(level, quick, numbers[n])).collect();
    isa::run(level, Machine { code, numbers: &numbers, divisors: &divisors, p, g, states });
}

/// A number that something is divided by, and how.
#[derive(Clone, Copy)]
enum Divisor<F> {
    Plain(F),
    Two(Reciprocal<F>, F),
    Four(Reciprocal<F>, F),
}

impl<F: Element> Divisor<F> {
    fn of(level: Level, quick: bool, divisor: F) -> Self {
        if !quick || !division::is_common(divisor) {
            Self::Plain(divisor)
        } else if division::two_operations_suffice(level, divisor) {
            Self::Two(Reciprocal::of(divisor), divisor)
        } else {
            Self::Four(Reciprocal::of(divisor), divisor)
        }
    }
}

struct Machine<'a, 's, F> {
    code: &'a Code,
    numbers: &'a [F],
    divisors: &'a [Divisor<F>],
    p: &'a mut [F],
    g: &'a [F],
    states: &'a mut [&'s mut [F]],
}

impl<F: Registers> Kernel for Machine<'_, '_, F> {
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        match WIDTH {
            #[cfg(target_arch = "x86_64")]
            32 => self.sweep::<F::Of32>(),
            #[cfg(target_arch = "x86_64")]
            64 => self.sweep::<F::Of64>(),
            _ => self.sweep::<Portable<F>>(),
        }
    }
}

type Accumulator<V> = [Register<V>; COUNT];

impl<F: Registers> Machine<'_, '_, F> {
    #[inline(always)]
    fn sweep<V: Instructions<Element = F>>(self) {
        let Self { code, numbers, divisors, p, g, states } = self;
        let block = COUNT * V::N;
        let n = p.len();
        let whole = n - n % block;
        // Buffers, and copies of what is left over in the end.
        let copies = if whole < n { FIRST_STATE + states.len() } else { 0 };
        let count = (code.buffers + copies) * block;
        let mut room = vec![F::ONE; count + ALIGNMENT / size_of::<F>()];
        let start = room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT / size_of::<F>());
        let (buffers, copies) = room[start..][..count].split_at_mut(code.buffers * block);
        let program = Program { lines: &code.lines, numbers, divisors };
        if whole > 0 {
            let states = states.iter_mut().map(|state| &mut state[..whole]);
            let mut memory = Memory::new(&mut p[..whole], &g[..whole], states, buffers, block);
            while memory.at < whole {
                program.block::<V>(&mut memory);
                memory.at += block;
            }
        }
        if whole < n {
            let rest = n - whole;
            let mut copies = copies.chunks_exact_mut(block);
            let mut next = || copies.next().expect("one for each role");
            let (p_copy, g_copy) = (next(), next());
            p_copy[..rest].copy_from_slice(&p[whole..]);
            g_copy[..rest].copy_from_slice(&g[whole..]);
            let mut copied: [&mut [F]; MAX_STATES] = array::from_fn(|_| &mut [][..]);
            for (copy, state) in copied.iter_mut().zip(states.iter()) {
                *copy = next();
                copy[..rest].copy_from_slice(&state[whole..]);
            }
            let of_states = copied.iter_mut().take(states.len()).map(|copy| &mut **copy);
            program.block::<V>(&mut Memory::new(p_copy, g_copy, of_states, buffers, block));
            p[whole..].copy_from_slice(&p_copy[..rest]);
            for (copy, state) in copied.iter().zip(states.iter_mut()) {
                state[whole..].copy_from_slice(&copy[..rest]);
            }
        }
    }
}

/// The blocks that instructions read and write.
struct Memory<'a, F> {
    /// By slot: first arrays, of which the block at `at` is the one; then buffers. The gradient's is empty.
    slots: Vec<&'a mut [F]>,
    g: &'a [F],
    at: usize,
    block: usize,
}

impl<'a, F> Memory<'a, F> {
    #[inline(always)]
    fn new(
        p: &'a mut [F],
        g: &'a [F],
        states: impl Iterator<Item = &'a mut [F]>,
        buffers: &'a mut [F],
        block: usize,
    ) -> Self {
        let mut slots: Vec<&'a mut [F]> = Vec::with_capacity(ARRAYS + buffers.len() / block);
        slots.extend([p, &mut []]);
        slots.extend(states);
        slots.resize_with(ARRAYS, || &mut []);
        slots.extend(buffers.chunks_exact_mut(block));
        Self { slots, g, at: 0, block }
    }

    #[inline(always)]
    fn read(&self, slot: Slot) -> &[F] {
        let index = slot.index();
        let slice = if index == 1 { self.g } else { &*self.slots[index] };
        let at = if index < ARRAYS { self.at } else { 0 };
        &slice[at..at + self.block]
    }

    #[inline(always)]
    fn write(&mut self, slot: Slot) -> &mut [F] {
        let index = slot.index();
        let at = if index < ARRAYS { self.at } else { 0 };
        &mut self.slots[index][at..at + self.block]
    }
}

struct Program<'a, F> {
    lines: &'a [Line],
    numbers: &'a [F],
    divisors: &'a [Divisor<F>],
}

impl<F: Registers> Program<'_, F> {
    /// Runs all instructions on one block.
    #[inline(always)]
    fn block<V: Instructions<Element = F>>(&self, memory: &mut Memory<'_, F>) {
        let mut x: Accumulator<V> = [Register::of(F::ONE); COUNT];
        for line in self.lines {
            let number = |number: usize| Register::<V>::of(self.numbers[number]);
            match line.instruction {
                Instruction::Load(slot) => x = load(memory.read(slot)),
                Instruction::LoadNumber(n) => x = [number(n); COUNT],
                Instruction::Store(slot) => store(x, memory.write(slot)),
                Instruction::Scaled(n, slot) => {
                    let n = number(n);
                    x = map(load(memory.read(slot)), |y| n * y);
                }
                Instruction::Squared(slot) => x = map(load(memory.read(slot)), |y| y * y),
                Instruction::Square => x = map(x, |x| x * x),
                Instruction::Unary(Unary::Sqrt) => x = map(x, Register::sqrt),
                Instruction::Unary(operation) => x = unary(operation, x),
                Instruction::Add(slot) => x = zip(x, memory.read(slot), |x, y| x + y),
                Instruction::Sub(slot) => x = zip(x, memory.read(slot), |x, y| x - y),
                Instruction::SubFrom(slot) => x = zip(x, memory.read(slot), |x, y| y - x),
                Instruction::Mul(slot) => x = zip(x, memory.read(slot), |x, y| x * y),
                Instruction::Div(slot) => x = zip(x, memory.read(slot), |x, y| x / y),
                Instruction::DivInto(slot) => x = zip(x, memory.read(slot), |x, y| y / x),
                Instruction::AddNumber(n) => {
                    let n = number(n);
                    x = map(x, |x| x + n);
                }
                Instruction::SubNumber(n) => {
                    let n = number(n);
                    x = map(x, |x| x - n);
                }
                Instruction::SubFromNumber(n) => {
                    let n = number(n);
                    x = map(x, |x| n - x);
                }
                Instruction::MulNumber(n) => {
                    let n = number(n);
                    x = map(x, |x| x * n);
                }
                Instruction::DivNumber(n) => x = over(x, self.divisors[n]),
                Instruction::DivIntoNumber(n) => {
                    let n = number(n);
                    x = map(x, |x| n / x);
                }
                Instruction::AddScaled(n, slot) => {
                    let n = number(n);
                    x = zip(x, memory.read(slot), |x, y| x + n * y);
                }
                Instruction::SubScaled(n, slot) => {
                    let n = number(n);
                    x = zip(x, memory.read(slot), |x, y| x - n * y);
                }
                Instruction::SubFromScaled(n, slot) => {
                    let n = number(n);
                    x = zip(x, memory.read(slot), |x, y| n * y - x);
                }
                Instruction::Binary(operation, slot, reversed) => {
                    x = binary(operation, x, load(memory.read(slot)), reversed);
                }
                Instruction::BinaryNumber(operation, n, reversed) => {
                    x = binary(operation, x, [number(n); COUNT], reversed);
                }
                Instruction::Where(first, second) => {
                    let (first, second) = (load(memory.read(first)), load(memory.read(second)));
                    x = all(|i| choose(x[i], first[i], second[i]));
                }
                Instruction::ScaledSum(n, slot, m, other) => {
                    let (n, m) = (number(n), number(m));
                    let y = map(load(memory.read(slot)), |y| n * y);
                    x = zip(y, memory.read(other), |x, y| x + m * y);
                }
                Instruction::MulAddScaled(n, m, slot) => {
                    let (n, m) = (number(n), number(m));
                    x = zip(x, memory.read(slot), |x, y| x * n + m * y);
                }
                Instruction::SqrtAdd(n) => {
                    let n = number(n);
                    x = map(x, |x| x.sqrt() + n);
                }
            }
            if let Some(slot) = line.store {
                store(x, memory.write(slot));
            }
        }
    }
}

/// An accumulator by the number of the register. Written out, as are the next: what the standard library has
/// for arrays is not always inlined, so compiled for the baseline.
#[inline(always)]
fn all<V: Instructions>(f: impl Fn(usize) -> Register<V>) -> Accumulator<V> {
    [f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)]
}

#[inline(always)]
fn map<V: Instructions>(
    x: Accumulator<V>,
    f: impl Fn(Register<V>) -> Register<V>,
) -> Accumulator<V> {
    all(|i| f(x[i]))
}

#[inline(always)]
fn load<V: Instructions>(slice: &[V::Element]) -> Accumulator<V> {
    let slice = &slice[..COUNT * V::N];
    all(|i| Register::load(&slice[i * V::N..]))
}

#[inline(always)]
fn store<V: Instructions>(x: Accumulator<V>, to: &mut [V::Element]) {
    let to = &mut to[..COUNT * V::N];
    for i in 0..COUNT {
        x[i].store(&mut to[i * V::N..]);
    }
}

#[inline(always)]
fn zip<V: Instructions>(
    x: Accumulator<V>,
    slice: &[V::Element],
    f: impl Fn(Register<V>, Register<V>) -> Register<V>,
) -> Accumulator<V> {
    let y = load(slice);
    all(|i| f(x[i], y[i]))
}

/// Quotients, with their own bits: where the quick way can't tell, by the divider.
#[inline(always)]
fn over<V: Instructions>(x: Accumulator<V>, divisor: Divisor<V::Element>) -> Accumulator<V> {
    let (quotients, divisor) = match divisor {
        Divisor::Plain(divisor) => return map(x, |x| x / Register::of(divisor)),
        Divisor::Two(reciprocal, divisor) => (map(x, |x| reciprocal.in_two(x)), divisor),
        Divisor::Four(reciprocal, divisor) => (map(x, |x| reciprocal.in_four(x)), divisor),
    };
    let [a, b, c, d, e, f, g, h] = quotients;
    if (((a + b) + (c + d)) + ((e + f) + (g + h))).has_nan() {
        map(x, |x| x / Register::of(divisor))
    } else {
        quotients
    }
}

#[inline(always)]
fn unary<V: Instructions>(operation: Unary, x: Accumulator<V>) -> Accumulator<V> {
    let one = V::Element::ONE;
    let zero = V::Element::nearest(0.0);
    match operation {
        Unary::Sqrt => map(x, Register::sqrt),
        Unary::Abs => map(x, Register::abs),
        // A product has the other sign, of zeros too.
        Unary::Negate => map(x, |x| x * Register::of(V::Element::nearest(-1.0))),
        Unary::Sign => map(x, Register::sign),
        Unary::Not => each(x, x, |x, _| if x == zero { one } else { zero }),
    }
}

#[inline(always)]
fn binary<V: Instructions>(
    operation: Binary,
    x: Accumulator<V>,
    y: Accumulator<V>,
    reversed: bool,
) -> Accumulator<V> {
    let (x, y) = if reversed { (y, x) } else { (x, y) };
    let truth = |is: bool| if is { V::Element::ONE } else { V::Element::nearest(0.0) };
    let zero = V::Element::nearest(0.0);
    match operation {
        Binary::Add => all(|i| x[i] + y[i]),
        Binary::Sub => all(|i| x[i] - y[i]),
        Binary::Mul => all(|i| x[i] * y[i]),
        Binary::Div => all(|i| x[i] / y[i]),
        Binary::Maximum => all(|i| x[i].maximum(y[i])),
        Binary::Minimum => each(x, y, |x, y| if x < y || is_nan(x) { x } else { y }),
        Binary::CopySign => each(x, y, copy_sign),
        Binary::Less => each(x, y, |x, y| truth(x < y)),
        Binary::LessEqual => each(x, y, |x, y| truth(x <= y)),
        Binary::Equal => each(x, y, |x, y| truth(x == y)),
        Binary::NotEqual => each(x, y, |x, y| truth(x != y)),
        Binary::And => each(x, y, |x, y| truth(x != zero && y != zero)),
        Binary::Or => each(x, y, |x, y| truth(x != zero || y != zero)),
        Binary::Xor => each(x, y, |x, y| truth((x != zero) != (y != zero))),
    }
}

#[inline(always)]
fn is_nan<F: Element>(x: F) -> bool {
    x.partial_cmp(&x).is_none()
}

/// `x` with the sign of `y`, of which a NaN has none.
#[inline(always)]
fn copy_sign<F: Element>(x: F, y: F) -> F {
    let zero = F::nearest(0.0);
    let negative = y < zero || y == zero && F::ONE / y < zero;
    let x = x.abs();
    if negative { x * F::nearest(-1.0) } else { x }
}

/// Something done with the elements one by one.
#[inline(always)]
fn each<V: Instructions>(
    x: Accumulator<V>,
    y: Accumulator<V>,
    f: impl Fn(V::Element, V::Element) -> V::Element,
) -> Accumulator<V> {
    all(|i| {
        let (x, y) = (elements(x[i]), elements(y[i]));
        let mut z = [V::Element::ONE; WIDEST];
        for k in 0..V::N {
            z[k] = f(x[k], y[k]);
        }
        Register::load(&z)
    })
}

#[inline(always)]
fn choose<V: Instructions>(condition: Register<V>, x: Register<V>, y: Register<V>) -> Register<V> {
    let zero = V::Element::nearest(0.0);
    let (c, x, y) = (elements(condition), elements(x), elements(y));
    let mut z = [zero; WIDEST];
    for k in 0..V::N {
        z[k] = if c[k] == zero { y[k] } else { x[k] };
    }
    Register::load(&z)
}

#[inline(always)]
fn elements<V: Instructions>(x: Register<V>) -> [V::Element; WIDEST] {
    let mut elements = [V::Element::default(); WIDEST];
    x.store(&mut elements);
    elements
}
