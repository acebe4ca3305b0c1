//! From a formula, as a graph of operations on whole arrays, to instructions for a block of elements.
//!
//! There is one accumulator. The other operand of an instruction is in a slot: an array, or a buffer for
//! what is needed later. Values that nothing depends on are left out; a value that is used twice is
//! computed once.

use super::instructions::{Binary, Instruction, Line, Slot, Unary};

/// One value of the graph; operands are the numbers of earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// The array of a role, as it is before the step.
    Array(usize),
    /// A number in every place, by its place among the numbers.
    Number(usize),
    Unary(Unary, usize),
    Binary(Binary, usize, usize),
    /// The second where the first is true, else the third.
    Where([usize; 3]),
}

impl Node {
    pub(super) fn operands(self) -> impl Iterator<Item = usize> {
        let operands = match self {
            Self::Array(_) | Self::Number(_) => [None; 3],
            Self::Unary(_, x) => [Some(x), None, None],
            Self::Binary(_, x, y) => [Some(x), Some(y), None],
            Self::Where(operands) => operands.map(Some),
        };
        operands.into_iter().flatten()
    }
}

/// The instructions for a block, and what they need.
#[derive(Clone, Debug, Default)]
pub(super) struct Code {
    pub(super) lines: Vec<Line>,
    /// The number of buffers.
    pub(super) buffers: usize,
    /// The numbers that something is divided by.
    pub(super) divisors: Vec<usize>,
}

/// The graph of a formula, and which of its values the arrays get: each role at most once.
pub(super) struct Graph<'a> {
    pub(super) nodes: &'a [Node],
    pub(super) outputs: &'a [(usize, usize)],
    pub(super) roles: usize,
}

impl Graph<'_> {
    /// The instructions, fewest of all orders in which the outputs can be computed.
    pub(super) fn assemble(&self) -> Code {
        // What an array keeps is not stored.
        let changes = |&&(role, node): &&(usize, usize)| self.nodes[node] != Node::Array(role);
        let mut outputs: Vec<_> = self.outputs.iter().filter(changes).copied().collect();
        // The parameter is most often best the last.
        outputs.reverse();
        let mut best = Assembly::of(self, &outputs);
        each_order(&mut outputs, 0, &mut |order| {
            let code = Assembly::of(self, order);
            let cost = |code: &Code| (code.lines.len(), code.buffers);
            if cost(&code) < cost(&best) {
                best = code;
            }
        });
        best
    }
}

fn each_order<T: Copy>(items: &mut [T], from: usize, visit: &mut impl FnMut(&[T])) {
    if from == items.len() {
        return visit(items);
    }
    for i in from..items.len() {
        items.swap(from, i);
        each_order(items, from + 1, visit);
        items.swap(from, i);
    }
}

struct Assembly<'a> {
    graph: &'a Graph<'a>,
    instructions: Vec<Instruction>,
    /// How often a value is still needed, by others and as an output.
    uses: Vec<usize>,
    /// Where it lies, if anywhere.
    slots: Vec<Option<Slot>>,
    /// How many buffers it takes to compute it, if none of it is shared.
    weights: Vec<usize>,
    /// Outputs that are still to be computed, and those whose arrays hold what is needed yet.
    wanted: Vec<(usize, usize)>,
    waiting: Vec<(usize, usize)>,
    /// For each role, the value that is there before the step.
    old: Vec<Option<usize>>,
    free: Vec<usize>,
    buffers: usize,
    divisors: Vec<usize>,
}

impl<'a> Assembly<'a> {
    fn of(graph: &'a Graph<'a>, outputs: &[(usize, usize)]) -> Code {
        let count = graph.nodes.len();
        let mut this = Self {
            graph,
            instructions: Vec::new(),
            uses: vec![0; count],
            slots: vec![None; count],
            weights: Vec::with_capacity(count),
            wanted: outputs.to_vec(),
            waiting: Vec::new(),
            old: vec![None; graph.roles],
            free: Vec::new(),
            buffers: 0,
            divisors: Vec::new(),
        };
        for &(_, node) in outputs {
            this.uses[node] += 1;
        }
        for (node, &value) in graph.nodes.iter().enumerate().rev() {
            if this.uses[node] > 0 {
                value.operands().for_each(|operand| this.uses[operand] += 1);
            }
        }
        for (node, &value) in graph.nodes.iter().enumerate() {
            if let Node::Array(role) = value {
                this.slots[node] = Some(Slot::array(role));
                this.old[role] = Some(node);
            }
            let mut weights: Vec<_> = value.operands().map(|x| this.weights[x]).collect();
            weights.sort_unstable_by(|x, y| y.cmp(x));
            let held = weights.iter().enumerate().map(|(held, weight)| held + weight);
            this.weights.push(held.max().unwrap_or(0));
        }
        while let Some(&(_, node)) = this.wanted.first() {
            this.compute(node, 0);
            this.flush();
        }
        assert!(this.waiting.is_empty(), "in the end every array is free to be written");
        let Self { instructions, buffers, divisors, .. } = this;
        Code { lines: Line::all(&instructions), buffers, divisors }
    }

    fn emit(&mut self, instruction: Instruction) {
        self.instructions.push(instruction);
    }

    /// Whether nothing needs what an array holds since before the step.
    fn is_spent(&self, role: usize) -> bool {
        let needed = |node: usize| self.uses[node] > 0 && self.lies_in(node, Slot::array(role));
        !self.old[role].is_some_and(needed)
    }

    fn lies_in(&self, node: usize, slot: Slot) -> bool {
        self.slots[node] == Some(slot)
    }

    /// Stores what waited for arrays that are spent by now.
    fn flush(&mut self) {
        while let Some(place) = self.waiting.iter().position(|&(role, _)| self.is_spent(role)) {
            let (role, node) = self.waiting.swap_remove(place);
            self.emit(Instruction::Load(self.slot(node)));
            self.emit(Instruction::Store(Slot::array(role)));
            self.release(node);
        }
    }

    /// One use of a value is done.
    fn release(&mut self, node: usize) {
        self.uses[node] -= 1;
        if self.uses[node] == 0 {
            self.free.extend(self.slots[node].and_then(Slot::buffer));
        }
    }

    /// Notes that a value lies in a slot, and in no buffer that it was in before.
    fn place(&mut self, node: usize, slot: Slot) {
        self.free.extend(self.slots[node].and_then(Slot::buffer));
        self.slots[node] = Some(slot);
    }

    /// Stores what is in the accumulator in a buffer.
    fn keep(&mut self, node: usize) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.buffers += 1;
            self.buffers - 1
        });
        let slot = Slot::of_buffer(number);
        self.emit(Instruction::Store(slot));
        self.place(node, slot);
    }

    fn slot(&self, node: usize) -> Slot {
        self.slots[node].expect("what is needed later was kept")
    }

    fn number(&self, node: usize) -> Option<usize> {
        match self.graph.nodes[node] {
            Node::Number(number) => Some(number),
            _ => None,
        }
    }

    /// Puts a value into the accumulator for one that needs it, which it does no more.
    fn take(&mut self, node: usize) {
        if let Some(slot) = self.slots[node] {
            self.emit(Instruction::Load(slot));
        } else {
            self.compute(node, 1);
        }
        self.release(node);
    }

    /// Puts a value into a slot, and leaves it there.
    fn put(&mut self, node: usize) {
        if self.slots[node].is_none() {
            self.compute(node, 0);
            if self.slots[node].is_none() {
                self.keep(node);
            }
        }
    }

    /// Computes a value; stores it where it is wanted, and keeps it if more than so many still need it.
    fn compute(&mut self, node: usize, takers: usize) {
        match self.graph.nodes[node] {
            Node::Array(_) => self.emit(Instruction::Load(self.slot(node))),
            Node::Number(number) => self.emit(Instruction::LoadNumber(number)),
            Node::Unary(operation, x) => {
                self.take(x);
                self.emit(Instruction::Unary(operation));
            }
            Node::Binary(operation, x, y) => self.binary(operation, x, y),
            Node::Where([condition, x, y]) => {
                self.put(x);
                self.put(y);
                self.take(condition);
                self.emit(Instruction::Where(self.slot(x), self.slot(y)));
                self.release(x);
                self.release(y);
            }
        }
        while let Some(place) = self.wanted.iter().position(|&(_, wanted)| wanted == node) {
            let (role, _) = self.wanted.remove(place);
            if self.is_spent(role) {
                self.emit(Instruction::Store(Slot::array(role)));
                self.place(node, Slot::array(role));
                self.uses[node] -= 1;
            } else {
                if self.slots[node].is_none_or(|slot| slot.buffer().is_none()) {
                    self.keep(node);
                }
                self.waiting.push((role, node));
            }
        }
        let is_needed = self.uses[node] > takers && self.number(node).is_none();
        if is_needed && self.slots[node].is_none() {
            self.keep(node);
        }
    }

    fn binary(&mut self, operation: Binary, x: usize, y: usize) {
        if x == y && operation == Binary::Mul {
            self.uses[x] -= 1;
            if let Some(slot) = self.slots[x] {
                self.emit(Instruction::Squared(slot));
                self.release(x);
            } else {
                self.take(x);
                self.emit(Instruction::Square);
            }
            return;
        }
        if let Some(number) = self.number(y) {
            return self.with_number(operation, x, number, false);
        }
        if let Some(number) = self.number(x) {
            return self.with_number(operation, y, number, true);
        }
        if matches!(operation, Binary::Add | Binary::Sub) {
            for (product, other, reversed) in [(y, x, false), (x, y, true)] {
                if let Some((number, factor)) = self.scaled(product) {
                    self.take(other);
                    self.emit(Instruction::scaled(operation, number, self.slot(factor), reversed));
                    self.release(factor);
                    return;
                }
            }
        }
        // What is in no slot yet goes through the accumulator; of two, one has to wait in a buffer.
        let (first, second) = if self.weights[x] > self.weights[y] { (x, y) } else { (y, x) };
        let in_slot = match (self.slots[x].is_some(), self.slots[y].is_some()) {
            (true, false) => x,
            (_, true) => y,
            (false, false) => {
                self.put(first);
                first
            }
        };
        let other = if in_slot == x { y } else { x };
        debug_assert!(in_slot != second || self.slots[second].is_some());
        self.take(other);
        self.emit(Instruction::binary(operation, self.slot(in_slot), in_slot == x && x != y));
        self.release(in_slot);
    }

    fn with_number(&mut self, operation: Binary, x: usize, number: usize, reversed: bool) {
        if operation == Binary::Mul
            && let Some(slot) = self.slots[x]
        {
            self.emit(Instruction::Scaled(number, slot));
            self.release(x);
            return;
        }
        self.take(x);
        if operation == Binary::Div && !reversed {
            let known = self.divisors.iter().position(|&divisor| divisor == number);
            let place = known.unwrap_or(self.divisors.len());
            if known.is_none() {
                self.divisors.push(number);
            }
            return self.emit(Instruction::DivNumber(place));
        }
        self.emit(Instruction::with_number(operation, number, reversed));
    }

    /// A product of a number and what lies in a slot, if nothing else needs it.
    fn scaled(&self, node: usize) -> Option<(usize, usize)> {
        let Node::Binary(Binary::Mul, x, y) = self.graph.nodes[node] else { return None };
        if self.slots[node].is_some() || self.uses[node] != 1 {
            return None;
        }
        let (number, factor) = match (self.number(x), self.number(y)) {
            (Some(number), None) => (number, y),
            (None, Some(number)) => (number, x),
            _ => return None,
        };
        self.slots[factor].map(|_| (number, factor))
    }
}
