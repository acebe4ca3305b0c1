//! Programs: rules that are traced from a user's formula, and not compiled.
//!
//! A formula is a graph of operations on whole arrays and one of numbers. The numbers of a step are
//! computed once ([`numbers`]); the operations on arrays become instructions ([`assemble`]), which run block
//! by block ([`machine`]). If the graph is that of a recipe, the numbers are its hyper-parameters, and the
//! recipe runs.

use std::{array, fmt, mem};

mod assemble;
mod instructions;
mod machine;
mod numbers;

use assemble::{Code, Graph, Node};
use instructions::{Binary, MAX_BUFFERS, Unary};
use numbers::Numbers;

use crate::isa::Level;
use crate::recipes::{self, Recipe};
use crate::registers::Registers;
use crate::rules::{Coefficients, MAX_STATES};
use crate::sweep::{Arrays, Step};

/// The most hyper-parameters of a program.
pub const MAX_HYPERS: usize = 32;

/// A rule as a graph, its numbers and values in such an order that operands come first.
#[derive(Debug, Default)]
pub struct Formula {
    /// The rule's name.
    pub name: String,
    /// The names of the hyper-parameters.
    pub hypers: Vec<String>,
    /// The names of the state arrays.
    pub states: Vec<String>,
    /// Constants among the numbers.
    pub constants: Vec<f64>,
    /// Operations on numbers: the name of each, its operands, and what errors say of it.
    pub numbers: Vec<(String, Vec<usize>, String)>,
    /// Operations on arrays: the name of each and its operands.
    pub values: Vec<(String, Vec<usize>)>,
    /// The new parameter and states, by their numbers among the values.
    pub outputs: Vec<usize>,
    /// Hyper-parameters that are norms of whole arrays before the step: which, and of which role.
    pub norms: Vec<(usize, usize)>,
    /// The recipe that it is, if any: its name, and for each of its hyper-parameters and states which
    /// number it is of these, and which state.
    pub recipe: Option<(String, Vec<usize>, Vec<usize>)>,
}

/// A rule that is run as it was traced.
#[derive(Debug)]
pub struct Program {
    name: String,
    hypers: Vec<String>,
    states: Vec<String>,
    numbers: Numbers,
    places: Vec<String>,
    norms: Vec<(usize, usize)>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Code { code: Code, numbers: Vec<usize> },
    Recipe { recipe: &'static Recipe, hypers: Vec<usize>, states: Vec<usize> },
}

/// The numbers of one step.
#[derive(Clone, Debug)]
pub enum Bound {
    /// Those of the instructions.
    Numbers(Vec<f64>),
    /// The coefficients of the recipe.
    Coefficients(Coefficients),
}

impl Program {
    /// The program of a formula.
    ///
    /// # Errors
    /// What is wrong with a graph that is none.
    pub fn new(formula: Formula) -> Result<Self, String> {
        let Formula { name, hypers, states, constants, numbers, values, outputs, norms, recipe } =
            formula;
        if hypers.len() > MAX_HYPERS {
            return Err(format!("{} numbers; wanted {MAX_HYPERS} at most", hypers.len()));
        }
        if states.len() > MAX_STATES {
            return Err(format!("{} states; wanted {MAX_STATES} at most", states.len()));
        }
        let (mut known, mut places) = (Numbers::default(), Vec::with_capacity(numbers.len()));
        for (operation, operands, place) in numbers {
            known
                .push(&operation, &operands, &constants, hypers.len())
                .ok_or_else(|| format!("no number: {operation}{operands:?}"))?;
            places.push(place);
        }
        let roles = 2 + states.len();
        if norms.iter().any(|&(hyper, role)| hyper >= hypers.len() || role > 1) {
            return Err("wanted norms of parameter and gradient".to_owned());
        }
        let body = if let Some((name, hypers, order)) = recipe {
            let recipe = recipes::find(&name).ok_or_else(|| format!("no recipe: {name}"))?;
            let sorted = |mut order: Vec<usize>| {
                order.sort_unstable();
                order
            };
            if hypers.len() != recipe.hypers.len()
                || hypers.iter().any(|&number| number >= known.len())
                || order.len() != recipe.states.len()
                || sorted(order.clone()) != (0..states.len()).collect::<Vec<_>>()
            {
                return Err(format!("{name} takes other numbers or states"));
            }
            Body::Recipe { recipe, hypers, states: order }
        } else {
            let mut used = Vec::new();
            let mut nodes = Vec::with_capacity(values.len());
            for (operation, operands) in &values {
                let node = node(operation, operands, nodes.len(), roles, known.len(), &mut used)
                    .ok_or_else(|| format!("no value: {operation}{operands:?}"))?;
                nodes.push(node);
            }
            let roles_of_outputs = (0..roles).filter(|&role| role != 1);
            let outputs: Vec<_> = roles_of_outputs.zip(outputs).collect();
            if outputs.len() != 1 + states.len()
                || outputs.iter().any(|&(_, node)| node >= nodes.len())
            {
                return Err("wanted the new parameter and states".to_owned());
            }
            let code = Graph { nodes: &nodes, outputs: &outputs, roles }.assemble();
            if code.buffers > MAX_BUFFERS {
                return Err(format!(
                    "{name} needs more than {MAX_BUFFERS} values at the same time; make two of it"
                ));
            }
            Body::Code { code, numbers: used }
        };
        Ok(Self { name, hypers, states, numbers: known, places, norms, body })
    }

    /// The rule's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of the hyper-parameters.
    #[must_use]
    pub fn hypers(&self) -> &[String] {
        &self.hypers
    }

    /// The names of the state arrays.
    #[must_use]
    pub fn states(&self) -> &[String] {
        &self.states
    }

    /// The hyper-parameters that are norms of whole arrays before the step, each with the array's role.
    #[must_use]
    pub fn norms(&self) -> &[(usize, usize)] {
        &self.norms
    }

    /// The numbers of a step.
    ///
    /// # Errors
    /// The place in the formula of a number that can't be computed.
    pub fn bind(&self, hypers: &[f64]) -> Result<Bound, String> {
        let all = self.numbers.of(hypers).map_err(|place| self.places[place].clone())?;
        let chosen = |places: &[usize]| places.iter().map(|&place| all[place]).collect::<Vec<_>>();
        Ok(match &self.body {
            Body::Code { numbers, .. } => Bound::Numbers(chosen(numbers)),
            Body::Recipe { recipe, hypers, .. } => {
                Bound::Coefficients(recipe.coefficients(&chosen(hypers)).unwrap_or_default())
            }
        })
    }

    /// The step over `f32` slices of one length, with numbers of this program.
    ///
    /// # Panics
    /// When the slices differ in length, or are not as many as the states.
    pub fn step_f32(
        &self,
        level: Level,
        bound: &Bound,
        p: &mut [f32],
        g: &[f32],
        states: &mut [&mut [f32]],
    ) {
        self.step(|recipe| recipe.step_f32, level, bound, p, g, states);
    }

    /// The same for `f64`.
    ///
    /// # Panics
    /// As [`Program::step_f32`].
    pub fn step_f64(
        &self,
        level: Level,
        bound: &Bound,
        p: &mut [f64],
        g: &[f64],
        states: &mut [&mut [f64]],
    ) {
        self.step(|recipe| recipe.step_f64, level, bound, p, g, states);
    }

    fn step<F: Registers>(
        &self,
        step_of: impl Fn(&Recipe) -> Step<F>,
        level: Level,
        bound: &Bound,
        p: &mut [F],
        g: &[F],
        states: &mut [&mut [F]],
    ) {
        match (&self.body, bound) {
            (Body::Code { code, .. }, Bound::Numbers(numbers)) => {
                machine::run(level, code, numbers, p, g, states);
            }
            (Body::Recipe { recipe, states: order, .. }, Bound::Coefficients(coefficients)) => {
                let mut given: [&mut [F]; MAX_STATES] = array::from_fn(|_| &mut [][..]);
                for (given, state) in given.iter_mut().zip(states) {
                    *given = &mut **state;
                }
                let mut ordered: [&mut [F]; MAX_STATES] = array::from_fn(|_| &mut [][..]);
                for (to, &from) in ordered.iter_mut().zip(order) {
                    *to = mem::take(&mut given[from]);
                }
                step_of(recipe)(level, coefficients, &mut [Arrays { p, g, state: ordered }]);
            }
            _ => unreachable!("the numbers are of another program"),
        }
    }
}

/// The instructions, or the recipe, to be read.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::Code { code, numbers } => {
                for line in &code.lines {
                    let divisor = |place: usize| numbers[code.divisors[place]];
                    let text = line.instruction.text(|place| numbers[place], divisor);
                    match line.store {
                        Some(slot) => writeln!(f, "{text}; {slot} = x")?,
                        None => writeln!(f, "{text}")?,
                    }
                }
                Ok(())
            }
            Body::Recipe { recipe, .. } => writeln!(f, "{}", recipe.name),
        }
    }
}

fn node(
    operation: &str,
    operands: &[usize],
    before: usize,
    roles: usize,
    numbers: usize,
    used: &mut Vec<usize>,
) -> Option<Node> {
    let is_value = |&operand: &usize| operand < before;
    match *operands {
        [role] if operation == "array" => (role < roles).then_some(Node::Array(role)),
        [number] if operation == "number" => (number < numbers).then(|| {
            let place = used.iter().position(|&other| other == number).unwrap_or_else(|| {
                used.push(number);
                used.len() - 1
            });
            Node::Number(place)
        }),
        _ if !operands.iter().all(is_value) => None,
        [x] => {
            let operation = match operation {
                "sqrt" => Unary::Sqrt,
                "abs" => Unary::Abs,
                "neg" => Unary::Negate,
                "sign" => Unary::Sign,
                "not" => Unary::Not,
                _ => return None,
            };
            Some(Node::Unary(operation, x))
        }
        [x, y] => {
            let (operation, x, y) = match operation {
                "add" => (Binary::Add, x, y),
                "sub" => (Binary::Sub, x, y),
                "mul" => (Binary::Mul, x, y),
                "div" => (Binary::Div, x, y),
                "maximum" => (Binary::Maximum, x, y),
                "minimum" => (Binary::Minimum, x, y),
                "copysign" => (Binary::CopySign, x, y),
                "lt" => (Binary::Less, x, y),
                "le" => (Binary::LessEqual, x, y),
                "eq" => (Binary::Equal, x, y),
                "ne" => (Binary::NotEqual, x, y),
                "and" => (Binary::And, x, y),
                "or" => (Binary::Or, x, y),
                "xor" => (Binary::Xor, x, y),
                _ => return None,
            };
            Some(Node::Binary(operation, x, y))
        }
        [condition, x, y] if operation == "where" => Some(Node::Where([condition, x, y])),
        _ => None,
    }
}
