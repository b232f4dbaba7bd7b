//! Orders from afar: whether any are taken, and which of them take two operators.

use toml::Spanned;

use super::error::ConfigError;
use super::operator::Operator;
use super::raw::RawOrders;
use super::source::Source;

/// What an operator can order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Fence a host.
    Fence,
    /// Let a host return that is kept out.
    Unfence,
    /// Take a host for dead by the operator's word.
    Confirm,
    /// Have a host give its workloads away.
    Drain,
    /// Let it run workloads again.
    Undrain,
    /// Have a host leave and stay out.
    MaintenanceOn,
    /// Let it come back.
    MaintenanceOff,
    /// Stop automatic fencing for a while.
    Disarm,
    /// Go on with it.
    Arm,
    /// Stop a workload for good.
    Stop,
    /// Let it run again.
    Start,
}

impl Verb {
    /// Those that can be given from afar, by their names. A death is confirmed on a host of the cluster alone: the statement cites what
    /// that host knows of it.
    pub const FROM_AFAR: [(&str, Self); 10] = [
        ("fence", Self::Fence),
        ("unfence", Self::Unfence),
        ("drain", Self::Drain),
        ("undrain", Self::Undrain),
        ("maintenance-on", Self::MaintenanceOn),
        ("maintenance-off", Self::MaintenanceOff),
        ("disarm", Self::Disarm),
        ("arm", Self::Arm),
        ("workload-stop", Self::Stop),
        ("workload-start", Self::Start),
    ];

    /// Its name in an order from afar and in the configuration; `confirm` for the one that is none.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::FROM_AFAR.iter().find(|(_, verb)| *verb == self).map_or("confirm", |(name, _)| name)
    }
}

/// That orders from afar are taken, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    two_operators: Vec<Verb>,
}

impl Orders {
    /// How many operators have to sign such an order.
    #[must_use]
    pub fn signatures(&self, verb: Verb) -> usize {
        if self.two_operators.contains(&verb) { 2 } else { 1 }
    }
}

impl Source<'_> {
    pub(super) fn orders(
        &self,
        raw: &Spanned<RawOrders>,
        has_telemetry: bool,
        operators: &[Operator],
    ) -> Result<Orders, ConfigError> {
        if !has_telemetry {
            let what = "orders from afar without a broker that they come by";
            return Err(self.error(raw.span(), what, "add [telemetry], or remove [orders]"));
        }
        if operators.is_empty() {
            let what = "orders from afar that nobody may sign";
            return Err(self.error(raw.span(), what, "add an [[operator]], or remove [orders]"));
        }
        let two = raw.get_ref().two_operators.iter();
        let two_operators: Vec<Verb> =
            two.map(|name| self.choice(name, "order", &Verb::FROM_AFAR)).collect::<Result<_, _>>()?;
        if let (Some(first), [only]) = (raw.get_ref().two_operators.first(), operators) {
            let what = format!("an order that takes two operators, and `{}` is the only one", only.name());
            return Err(self.error(first.span(), what, "add another [[operator]]"));
        }
        Ok(Orders { two_operators })
    }
}
