"""The rules, a module for each family; `instep.optimizers` names all of them."""
