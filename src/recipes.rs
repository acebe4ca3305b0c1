//! The recipes: the one registry, from names to compiled steps.

use crate::rules::eps::{Inside, Outside};
use crate::rules::{
    Coefficients, MAX_COEFFICIENTS, MAX_HYPERS, MAX_STATES, Rule, adabelief, adadelta, adagrad,
    adam, adamax, adan, ademamix, asgd, gradient_descent, limit, lion, momentum, nadam, radam,
    rmsprop, rprop, schedule_free, signum, yogi,
};
use crate::sweep::stored::{self, Combination, StoredStep};
use crate::sweep::{self, Step};

/// A registered rule, with its types erased.
#[derive(Debug)]
pub struct Recipe {
    /// The name that Python asks for, and that of its definition in `instep.reference`.
    pub name: &'static str,
    /// The hyper-parameters' names, in the order in which `coefficients` takes them.
    pub hypers: &'static [&'static str],
    /// The state arrays' names, in the order in which a step takes them.
    pub states: &'static [&'static str],
    coefficients: fn(&[f64]) -> Option<Coefficients>,
    /// The step for `f32` arrays.
    pub step_f32: Step<f32>,
    /// The step for `f64` arrays.
    pub step_f64: Step<f64>,
    stored: [StoredStep; stored::COMBINATIONS],
}

impl Recipe {
    const fn of<R: Rule<H, C, S>, const H: usize, const C: usize, const S: usize>(
        name: &'static str,
    ) -> Self {
        const { assert!(H <= MAX_HYPERS && C <= MAX_COEFFICIENTS && S <= MAX_STATES) }
        Self {
            name,
            hypers: const { &R::HYPERS },
            states: const { &R::STATES },
            coefficients: |hypers| {
                let mut out = [0.0; MAX_COEFFICIENTS];
                out[..C].copy_from_slice(&R::coefficients(hypers.try_into().ok()?));
                Some(out)
            },
            step_f32: sweep::step::<R, f32, H, C, S>,
            step_f64: sweep::step::<R, f64, H, C, S>,
            stored: stored::steps::<R, H, C, S>(),
        }
    }

    /// The step for arrays that are stored in fewer bytes.
    #[must_use]
    pub fn stored(&self, combination: Combination) -> StoredStep {
        self.stored[combination as usize]
    }

    /// The coefficients of one step, or `None` when the number of hyper-parameters is not the rule's.
    #[must_use]
    pub fn coefficients(&self, hypers: &[f64]) -> Option<Coefficients> {
        (self.coefficients)(hypers)
    }
}

/// Every recipe. A new rule is one file among `rules` and one line here.
pub static RECIPES: &[Recipe] = &[
    Recipe::of::<gradient_descent::GradientDescent, _, _, _>("gradient_descent"),
    Recipe::of::<momentum::Ema, _, _, _>("momentum_ema"),
    Recipe::of::<momentum::HeavyBall, _, _, _>("momentum_heavy_ball"),
    Recipe::of::<momentum::HeavyBallNesterov, _, _, _>("momentum_heavy_ball_nesterov"),
    Recipe::of::<momentum::LrInside, _, _, _>("momentum_lr_inside"),
    Recipe::of::<momentum::LrInsideNesterov, _, _, _>("momentum_lr_inside_nesterov"),
    Recipe::of::<momentum::DlfsNesterov, _, _, _>("momentum_dlfs_nesterov"),
    Recipe::of::<momentum::Dlfs2Nesterov, _, _, _>("momentum_dlfs2_nesterov"),
    Recipe::of::<rmsprop::Plain<Inside>, _, _, _>("rmsprop_inside"),
    Recipe::of::<rmsprop::Plain<Outside>, _, _, _>("rmsprop_outside"),
    Recipe::of::<rmsprop::NumeratorFirst<Inside>, _, _, _>("rmsprop_inside_numerator_first"),
    Recipe::of::<rmsprop::NumeratorFirst<Outside>, _, _, _>("rmsprop_outside_numerator_first"),
    Recipe::of::<rmsprop::Dlfs, _, _, _>("rmsprop_dlfs"),
    Recipe::of::<rmsprop::Centered<Inside>, _, _, _>("rmsprop_inside_centered"),
    Recipe::of::<rmsprop::Centered<Outside>, _, _, _>("rmsprop_outside_centered"),
    Recipe::of::<rmsprop::Momentum<Inside>, _, _, _>("rmsprop_inside_momentum"),
    Recipe::of::<rmsprop::Momentum<Outside>, _, _, _>("rmsprop_outside_momentum"),
    Recipe::of::<rmsprop::CenteredMomentum<Inside>, _, _, _>("rmsprop_inside_centered_momentum"),
    Recipe::of::<rmsprop::CenteredMomentum<Outside>, _, _, _>("rmsprop_outside_centered_momentum"),
    Recipe::of::<rmsprop::MomentumLrInside<Inside>, _, _, _>("rmsprop_inside_momentum_lr_inside"),
    Recipe::of::<rmsprop::MomentumLrInside<Outside>, _, _, _>("rmsprop_outside_momentum_lr_inside"),
    Recipe::of::<rmsprop::CenteredMomentumLrInside<Inside>, _, _, _>(
        "rmsprop_inside_centered_momentum_lr_inside",
    ),
    Recipe::of::<rmsprop::CenteredMomentumLrInside<Outside>, _, _, _>(
        "rmsprop_outside_centered_momentum_lr_inside",
    ),
    Recipe::of::<adagrad::Adagrad<Inside>, _, _, _>("adagrad_inside"),
    Recipe::of::<adagrad::Adagrad<Outside>, _, _, _>("adagrad_outside"),
    Recipe::of::<adagrad::NumeratorFirst<Inside>, _, _, _>("adagrad_inside_numerator_first"),
    Recipe::of::<adagrad::NumeratorFirst<Outside>, _, _, _>("adagrad_outside_numerator_first"),
    Recipe::of::<adadelta::Adadelta, _, _, _>("adadelta"),
    Recipe::of::<adam::Plain<adam::Inside>, _, _, _>("adam_inside"),
    Recipe::of::<adam::Plain<adam::Outside>, _, _, _>("adam_outside"),
    Recipe::of::<adam::Plain<adam::Hat>, _, _, _>("adam_hat"),
    Recipe::of::<adam::Plain<adam::Scaled>, _, _, _>("adam_scaled"),
    Recipe::of::<adam::HatWide, _, _, _>("adam_hat_wide"),
    Recipe::of::<adam::Dlfs, _, _, _>("adam_dlfs"),
    Recipe::of::<adam::Amsgrad<adam::Inside>, _, _, _>("adam_inside_amsgrad"),
    Recipe::of::<adam::Amsgrad<adam::Outside>, _, _, _>("adam_outside_amsgrad"),
    Recipe::of::<adam::Amsgrad<adam::Hat>, _, _, _>("adam_hat_amsgrad"),
    Recipe::of::<adam::Amsgrad<adam::Scaled>, _, _, _>("adam_scaled_amsgrad"),
    Recipe::of::<adam::AmsgradCorrected<Inside>, _, _, _>("adam_inside_amsgrad_corrected"),
    Recipe::of::<adam::AmsgradCorrected<Outside>, _, _, _>("adam_outside_amsgrad_corrected"),
    Recipe::of::<adam::ScaledAmsgradCorrected, _, _, _>("adam_scaled_amsgrad_corrected"),
    Recipe::of::<adamax::Inside, _, _, _>("adamax_inside"),
    Recipe::of::<adamax::Outside, _, _, _>("adamax_outside"),
    Recipe::of::<nadam::Nadam, _, _, _>("nadam"),
    Recipe::of::<radam::Rectified, _, _, _>("radam"),
    Recipe::of::<radam::Unrectified, _, _, _>("radam_unrectified"),
    Recipe::of::<lion::Lion, _, _, _>("lion"),
    Recipe::of::<adabelief::AdaBelief, _, _, _>("adabelief"),
    Recipe::of::<yogi::Yogi, _, _, _>("yogi"),
    Recipe::of::<ademamix::AdEmaMix, _, _, _>("ademamix"),
    Recipe::of::<adan::Adan, _, _, _>("adan"),
    Recipe::of::<adan::Proximal, _, _, _>("adan_proximal"),
    Recipe::of::<schedule_free::AdamW, _, _, _>("adamw_schedule_free"),
    Recipe::of::<schedule_free::Sgd, _, _, _>("sgd_schedule_free"),
    Recipe::of::<signum::Signum, _, _, _>("signum"),
    Recipe::of::<rprop::IrpropMinus, _, _, _>("irprop_minus"),
    Recipe::of::<rprop::RpropMinus, _, _, _>("rprop_minus"),
    Recipe::of::<asgd::Asgd, _, _, _>("asgd"),
];

/// What benchmarks compare recipes with: the bytes of a rule with so many states, and no arithmetic.
static LIMITS: &[Recipe] = &[
    Recipe::of::<limit::Limit, _, _, 0>("limit_0"),
    Recipe::of::<limit::Limit, _, _, 1>("limit_1"),
    Recipe::of::<limit::Limit, _, _, 2>("limit_2"),
    Recipe::of::<limit::Limit, _, _, 3>("limit_3"),
    Recipe::of::<limit::Limit, _, _, 4>("limit_4"),
];

/// The recipe or limit of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Recipe> {
    RECIPES.iter().chain(LIMITS).find(|recipe| recipe.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_found_by_its_name() {
        for recipe in RECIPES {
            assert!(find(recipe.name).is_some_and(|found| std::ptr::eq(found, recipe)));
        }
    }
}
