//! (being written)
#![allow(dead_code, unused_imports, reason = "until the run loop is in")]

mod bus;
mod identity;
mod journal;
mod realtime;
mod standing;
mod storage;
mod systemd;
#[cfg(test)]
mod testing;
mod watchdog;
mod workload;

fn main() {}
