"""The younger rules, a module each, as they are in `src/rules`; `instep.optimizers` names all."""
