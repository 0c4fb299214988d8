//! Which run computes next: the scheduling policy, without threads and with any clock.
//!
//! - Interactive runs go before bulk runs, whichever models they belong to.
//! - The bulk lane has a guaranteed share of the time. While an interactive run computes and a bulk run waits, the bulk
//!   lane earns credit. As soon as the credit is worth one time slice, bulk runs until it is used up.
//! - Runs of one lane take turns of one time slice, so that a short run of one model does not wait for the end of a
//!   long run of another model.

use super::Lane;
use std::collections::VecDeque;

/// Share of the time that the bulk lane gets while interactive runs could use all of it.
const BULK_SHARE: f64 = 0.1;
/// Seconds that a run computes before other runs of its lane go first, and the credit at which bulk interrupts. It is
/// long beside the cost of a switch and short beside a request.
const TIME_SLICE: f64 = 0.005;
/// Largest credit or debt of the bulk lane, in seconds. It limits how long one lane pays for the past.
const MAX_CREDIT: f64 = 1.0;

/// The waiting runs, the running one, and the bulk lane's credit. Times are seconds of any monotonic clock.
#[derive(Default)]
pub(super) struct Schedule {
    waiting: [VecDeque<u64>; 2],
    running: Option<Lane>,
    /// When the running run began its turn.
    turn_start: f64,
    /// Time up to which the credit is computed.
    accounted_until: f64,
    /// Seconds that the bulk lane may compute before interactive runs; negative if it used more than its share.
    bulk_credit: f64,
    last_ticket: u64,
}

impl Schedule {
    /// Returns whether a run of this lane waits.
    pub fn has_waiting(&self, lane: Lane) -> bool {
        !self.waiting[lane as usize].is_empty()
    }

    /// Updates the credit for the time since the last call.
    fn account(&mut self, now: f64) {
        let time = now - self.accounted_until;
        self.accounted_until = now;
        match self.running {
            Some(Lane::Interactive) if self.has_waiting(Lane::Bulk) => {
                self.bulk_credit += time * BULK_SHARE / (1.0 - BULK_SHARE);
            }
            Some(Lane::Bulk) if self.has_waiting(Lane::Interactive) => self.bulk_credit -= time,
            // No interactive run waits: this time uses up credit, and it does not count as debt.
            Some(Lane::Bulk) => self.bulk_credit = (self.bulk_credit - time).max(self.bulk_credit.min(0.0)),
            _ => {}
        }
        self.bulk_credit = self.bulk_credit.clamp(-MAX_CREDIT, MAX_CREDIT);
    }

    /// Appends a run to its lane's queue and returns its ticket.
    pub fn enqueue(&mut self, lane: Lane, now: f64) -> u64 {
        self.account(now); // the run did not wait during the time until now
        self.last_ticket += 1;
        self.waiting[lane as usize].push_back(self.last_ticket);
        self.last_ticket
    }

    /// Returns the waiting run that starts next once no run computes.
    fn next(&self) -> Option<(Lane, u64)> {
        let first = |lane: Lane| self.waiting[lane as usize].front().map(|ticket| (lane, *ticket));
        if self.bulk_credit >= TIME_SLICE && self.has_waiting(Lane::Bulk) {
            return first(Lane::Bulk);
        }
        first(Lane::Interactive).or_else(|| first(Lane::Bulk))
    }

    /// Starts the run with this ticket if it is next; returns whether it started.
    pub fn try_start(&mut self, ticket: u64, now: f64) -> bool {
        let Some((lane, _)) = self
            .next()
            .filter(|(_, next)| self.running.is_none() && *next == ticket)
        else {
            return false;
        };
        self.account(now);
        self.waiting[lane as usize].pop_front();
        self.running = Some(lane);
        self.turn_start = now;
        true
    }

    /// Returns whether the running run should let another run go first.
    pub fn should_yield(&mut self, now: f64) -> bool {
        self.account(now);
        let slice_used = now - self.turn_start >= TIME_SLICE;
        match self.running {
            Some(Lane::Interactive) => {
                self.has_waiting(Lane::Bulk) && self.bulk_credit >= TIME_SLICE
                    || self.has_waiting(Lane::Interactive) && slice_used
            }
            Some(Lane::Bulk) => {
                self.has_waiting(Lane::Interactive) && self.bulk_credit <= 0.0
                    || self.has_waiting(Lane::Bulk) && slice_used
            }
            None => false,
        }
    }

    /// Records that the running run has ended, or lets another one go first.
    pub fn stop(&mut self, now: f64) {
        self.account(now);
        self.running = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repeated run in a simulation: `steps` steps of `step` seconds each, then a pause of `pause` seconds.
    #[derive(Clone, Copy)]
    struct Load {
        lane: Lane,
        step: f64,
        steps: usize,
        pause: f64,
    }

    /// Measurements of one load: its seconds of computing, completed runs, and the longest time from arrival to
    /// completion.
    #[derive(Clone, Copy, Default)]
    struct Measured {
        seconds: f64,
        completed: usize,
        longest: f64,
    }

    /// Simulates `seconds` of these loads with a clock of its own.
    fn simulate(loads: &[Load], seconds: f64) -> Vec<Measured> {
        let mut schedule = Schedule::default();
        let mut measured = vec![Measured::default(); loads.len()];
        let mut left: Vec<usize> = loads.iter().map(|load| load.steps).collect();
        let mut arrivals = vec![0.0; loads.len()];
        let mut tickets: Vec<Option<u64>> = loads
            .iter()
            .map(|load| Some(schedule.enqueue(load.lane, 0.0)))
            .collect();
        let mut running: Option<usize> = None;
        let mut now = 0.0;
        let arrive = |schedule: &mut Schedule, tickets: &mut [Option<u64>], running, arrivals: &[f64], now| {
            for (number, load) in loads.iter().enumerate() {
                if tickets[number].is_none() && running != Some(number) && arrivals[number] <= now {
                    tickets[number] = Some(schedule.enqueue(load.lane, now));
                }
            }
        };
        while now < seconds {
            arrive(&mut schedule, &mut tickets, running, &arrivals, now);
            if running.is_none() {
                running = (0..loads.len())
                    .find(|number| tickets[*number].is_some_and(|ticket| schedule.try_start(ticket, now)));
                match running {
                    Some(number) => tickets[number] = None,
                    None => {
                        now = arrivals
                            .iter()
                            .copied()
                            .filter(|time| *time > now)
                            .fold(f64::MAX, f64::min);
                        continue;
                    }
                }
            }
            let number = running.unwrap();
            now += loads[number].step;
            measured[number].seconds += loads[number].step;
            left[number] -= 1;
            arrive(&mut schedule, &mut tickets, running, &arrivals, now);
            if left[number] == 0 {
                schedule.stop(now);
                running = None;
                measured[number].completed += 1;
                measured[number].longest = measured[number].longest.max(now - arrivals[number]);
                left[number] = loads[number].steps;
                arrivals[number] = now + loads[number].pause;
            } else if tickets.iter().any(Option::is_some) && schedule.should_yield(now) {
                // The same condition as in `Turn::pause`, which returns early if no run waits.
                schedule.stop(now);
                running = None;
                tickets[number] = Some(schedule.enqueue(loads[number].lane, now));
            }
        }
        measured
    }

    const QUERY: Load = Load {
        lane: Lane::Interactive,
        step: 0.0005,
        steps: 80,
        pause: 0.0,
    };
    const BATCH: Load = Load {
        lane: Lane::Bulk,
        step: 0.015,
        steps: 80,
        pause: 0.0,
    };

    #[test]
    fn bulk_gets_its_share_beside_constant_interactive_load_and_no_more() {
        for step in [0.0001, 0.002, 0.015, 0.1] {
            for queries in 1..4 {
                let loads: Vec<Load> = vec![QUERY; queries]
                    .into_iter()
                    .chain([Load { step, ..BATCH }])
                    .collect();
                let measured = simulate(&loads, 100.0);
                let bulk = measured[queries].seconds / 100.0;
                assert!(
                    (0.09..0.12).contains(&bulk),
                    "{queries} queries, steps of {step} s: {bulk}"
                );
            }
        }
    }

    #[test]
    fn time_without_waiting_runs_changes_no_credit() {
        for (alone, second) in [(Lane::Bulk, Lane::Interactive), (Lane::Interactive, Lane::Bulk)] {
            let mut schedule = Schedule::default();
            let ticket = schedule.enqueue(alone, 0.0);
            assert!(schedule.try_start(ticket, 0.0));
            schedule.enqueue(second, 7.0);
            schedule.account(7.0);
            assert_eq!(schedule.bulk_credit, 0.0, "{alone:?} alone for 7 s");
        }
    }

    #[test]
    fn an_occasional_query_hardly_waits() {
        let occasional = Load { pause: 0.3, ..QUERY };
        let measured = simulate(&[occasional, BATCH], 100.0);
        // 40 ms of its own steps, one bulk step on arrival, and at most one bulk step for the credit earned meanwhile.
        assert!(
            measured[0].longest < 0.04 + 2.0 * 0.015 + 0.005,
            "{}",
            measured[0].longest
        );
        assert!(
            measured[0].seconds + measured[1].seconds > 99.9,
            "the pool was idle while a run waited"
        );
    }

    #[test]
    fn models_take_turns_within_a_lane() {
        let short = Load { steps: 4, ..QUERY };
        let long = Load {
            lane: Lane::Interactive,
            ..BATCH
        };
        let measured = simulate(&[Load { pause: 0.1, ..short }, long], 100.0);
        assert!(measured[0].longest < 0.015 + 0.002 + 1e-9, "{}", measured[0].longest);
        let measured = simulate(&[BATCH, BATCH, BATCH], 100.0);
        assert!(measured.iter().all(|load| (load.seconds - 100.0 / 3.0).abs() < 1.0));
    }

    #[test]
    fn every_load_completes_runs() {
        let mut seed = 7u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for _ in 0..200 {
            let loads: Vec<Load> = (0..=random(5))
                .map(|_| Load {
                    lane: if random(2) == 0 { Lane::Interactive } else { Lane::Bulk },
                    step: (1 + random(50)) as f64 * 0.0005,
                    steps: 1 + random(60) as usize,
                    pause: random(3) as f64 * 0.02,
                })
                .collect();
            let measured = simulate(&loads, 300.0);
            assert!(measured.iter().all(|load| load.completed > 0));
        }
    }
}
