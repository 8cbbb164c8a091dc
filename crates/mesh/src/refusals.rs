//! Tells each refusal once: a stranger that knocks a thousand times a second must not fill logs and queues.

use crate::{
    event::Event,
    limits::{REFUSAL_REPEAT, REFUSALS_MAX},
    trust::Distrust,
};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::mpsc;

/// Reports refused peers, deduplicated by address and reason.
#[derive(Debug)]
pub(crate) struct Refusals {
    told: Mutex<HashMap<(IpAddr, Distrust), Instant>>,
    events: mpsc::Sender<Event>,
}

impl Refusals {
    /// Reports to `events`.
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { told: Mutex::default(), events }
    }

    /// `address` was refused, or refused us. Never waits.
    pub(crate) fn report(&self, address: SocketAddr, reason: &Distrust) {
        let now = Instant::now();
        if !self.is_news(address.ip(), reason, now) {
            return;
        }
        if matches!(reason, Distrust::OtherSite(_)) {
            // Sites share networks: nothing is wrong.
            tracing::debug!(%address, %reason, "peer refused");
        } else {
            tracing::warn!(%address, %reason, "peer refused");
        }
        // With a full queue the log line has to do.
        let _ = self.events.try_send(Event::Refused { address, reason: reason.to_string() });
    }

    fn is_news(&self, ip: IpAddr, reason: &Distrust, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (ip, reason.clone());
        if told.get(&key).is_some_and(|at| now - *at < REFUSAL_REPEAT) {
            return false;
        }
        if told.len() >= REFUSALS_MAX {
            told.retain(|_, at| now - *at < REFUSAL_REPEAT);
        }
        if told.len() >= REFUSALS_MAX {
            return false;
        }
        told.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_per_address_and_bounded_in_all() {
        let (events, mut told) = mpsc::channel(10_000);
        let refusals = Refusals::new(events);
        for _ in 0..1000 {
            refusals.report("10.0.0.7:1".parse().unwrap(), &Distrust::OtherCa);
        }
        assert!(matches!(told.try_recv(), Ok(Event::Refused { .. })));
        assert!(told.try_recv().is_err());
        refusals.report("10.0.0.7:2".parse().unwrap(), &Distrust::NoCertificate);
        assert!(told.try_recv().is_ok());
        for host in 0..10_000u32 {
            refusals.report(SocketAddr::new(IpAddr::from(host.to_be_bytes()), 1), &Distrust::OtherCa);
        }
        let mut count = 0;
        while told.try_recv().is_ok() {
            count += 1;
        }
        assert_eq!(count, REFUSALS_MAX - 2);
    }
}
