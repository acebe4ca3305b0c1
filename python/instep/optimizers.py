"""The rules, one small class each: which recipe to run, and with which numbers.

The arithmetic itself is compiled; `instep.reference` has it in plain NumPy. Weight decay,
`maximize`, clipping and averaging are done around every rule, in the same pass, in this order:

1. decoupled weight decay: ``p = p*(1 - lr*weight_decay)``
2. ``g = scale*g``, where the scale is that of the step, times the clipping factor, times -1 to
   maximize; and with L2 weight decay ``g = scale*g + weight_decay*p``
3. the rule
4. ``average = decay*average + (1-decay)*p``

Defaults are torch's where torch has the rule, else those of the rule's authors.
"""

from instep.rules.adabelief import AdaBelief
from instep.rules.adadelta import Adadelta
from instep.rules.adagrad import Adagrad
from instep.rules.adam import Adam, AdamW
from instep.rules.adamax import Adamax
from instep.rules.adan import Adan
from instep.rules.ademamix import AdEMAMix
from instep.rules.asgd import ASGD
from instep.rules.lion import Lion
from instep.rules.nadam import NAdam
from instep.rules.radam import RAdam
from instep.rules.rmsprop import RMSprop
from instep.rules.rprop import Rprop
from instep.rules.schedule_free import AdamWScheduleFree, SGDScheduleFree
from instep.rules.sgd import SGD
from instep.rules.signum import Signum
from instep.rules.yogi import Yogi

__all__ = [
    "ASGD",
    "SGD",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdamWScheduleFree",
    "Adamax",
    "Adan",
    "Lion",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGDScheduleFree",
    "Signum",
    "Yogi",
]
