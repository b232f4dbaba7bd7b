//! The power orders under way, and until when each may still be put on the wire (SAFE-2). The engine checked standing when it
//! gave the order; the device may be reached seconds later, and by more copies than one. So each order carries a
//! [`Standing`] that this loop renews at each turn, and that runs out by itself if the loop does not turn.

use std::collections::BTreeMap;

use palisade_core::action::OrderId;
use palisade_devices::Standing;
use palisade_proto::Time;

use super::clock;

#[derive(Debug, Default)]
pub(super) struct Orders {
    under_way: BTreeMap<OrderId, (Standing, Time)>,
}

impl Orders {
    /// A power order is handed over that may be sent until `until`, and is given up at `deadline`.
    pub(super) fn begin(&mut self, id: OrderId, until: Time, deadline: Time) -> Standing {
        let standing = Standing::new(us(until.min(deadline)), clock::latest_us);
        self.under_way.insert(id, (standing.clone(), deadline));
        standing
    }

    /// After each input: what the engine says of each order now. One that has ended is never taken up again, whatever
    /// standing this host has later.
    pub(super) fn renew(&mut self, until: impl Fn(OrderId) -> Option<Time>) {
        self.under_way.retain(|id, (standing, deadline)| match until(*id) {
            Some(until) => {
                standing.set(us(until.min(*deadline)));
                true
            }
            None => {
                // SAFE-2: answered, cancelled or without standing: no further copy, not even until the device's task hears of it.
                standing.end();
                false
            }
        });
    }
}

fn us(time: Time) -> u64 {
    time.0.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_2_an_order_is_renewed_up_to_its_deadline_and_never_after_standing_was_lost() {
        let now = clock::latest_us() / 1000;
        let (past, soon, far) = (Time(now - 1), Time(now + 60_000), Time(now + 120_000));
        let mut orders = Orders::default();
        let (kept, lost) = (orders.begin(OrderId(1), past, far), orders.begin(OrderId(2), soon, far));
        assert!(!kept.holds() && lost.holds());
        orders.renew(|id| (id == OrderId(1)).then_some(soon));
        assert!(kept.holds() && !lost.holds());
        orders.renew(|_| Some(far));
        assert!(kept.holds() && !lost.holds(), "standing that comes back is not the order's");
        let late = orders.begin(OrderId(3), soon, past);
        orders.renew(|_| Some(far));
        assert!(!late.holds(), "standing is longer than the order's time");
    }
}
